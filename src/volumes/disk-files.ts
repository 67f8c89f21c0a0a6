// What is done with the file of a disk as a whole: growth, replacement, export. Each leaves the former or the new disk.
import { randomUUID } from 'node:crypto';
import { link, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../api/errors.ts';
import type { DiskFactory } from './disk.ts';
import { checkDisk, growFileSystem } from './disk-tools.ts';
import { syncPath } from './record.ts';
import { readSuperblock } from './superblock.ts';
import { codeOf, messageOf } from './volume-errors.ts';

const DISK_FILE = 'disk.img';
/** A disk on its way into another one's place; found after a crash, it goes. */
export const ARRIVING_FILE = 'arriving.img';

/** The disk in a volume's directory. */
export function diskIn(dir: string): string {
  return join(dir, DISK_FILE);
}

export class DiskFiles {
  readonly #disks: DiskFactory;
  readonly #step: (step: string) => Promise<void>;

  /** `step` is told of each step that left something behind, and waited for. */
  constructor(disks: DiskFactory, step: (step: string) => Promise<void>) {
    this.#disks = disks;
    this.#step = step;
  }

  /**
   * Makes file and file system so large. In place where nothing has to move, which a kill leaves repairable; what would
   * have to move is grown as a copy that takes the disk's place when it is done.
   */
  async grow(dir: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const path = diskIn(dir);
    const superblock = await readSuperblock(path);
    if (superblock === undefined || !superblock.clean)
      throw new BulkheadError('VOLUME_NOT_READY', 'The volume waits for a check before it can grow.');
    if (sizeBytes / superblock.blockBytes <= superblock.growableToBlocks) {
      await this.#disks.grow(path, sizeBytes);
      await this.#step('file grown');
      await growFileSystem(path, signal);
      return;
    }
    const arriving = join(dir, ARRIVING_FILE);
    try {
      await this.#disks.copy(path, arriving);
      await this.#disks.grow(arriving, sizeBytes);
      await growFileSystem(arriving, signal);
      await this.#step('copy grown');
      await rename(arriving, path);
      await syncPath(dir);
    } finally {
      await rm(arriving, { force: true });
    }
  }

  /** Writes the disk of `dir` to a new file. Fails with ALREADY_EXISTS. */
  async exportTo(dir: string, path: string): Promise<void> {
    const partial = `${path}.${randomUUID()}.partial`;
    try {
      await this.#disks.copy(diskIn(dir), partial);
      await syncPath(partial);
      // Unlike a rename, a link replaces nothing.
      await link(partial, path);
    } catch (error) {
      if (codeOf(error) === 'EEXIST')
        throw new BulkheadError('ALREADY_EXISTS', `The file ${path} exists.`, { cause: error });
      throw error;
    } finally {
      await rm(partial, { force: true });
    }
  }

  /**
   * Puts a raw ext4 image in the place of the disk of `dir`, checked and grown to its size. Fails with INVALID. `admit` refuses by
   * throwing, once it is known for an image.
   */
  async replace(dir: string, image: string, signal: AbortSignal, admit: () => Promise<void>): Promise<void> {
    const { size } = await stat(diskIn(dir));
    const arriving = join(dir, ARRIVING_FILE);
    try {
      await this.#receive(image, arriving, size, signal, admit);
      await this.#step('arrived');
      await rename(arriving, diskIn(dir));
      await syncPath(dir);
    } finally {
      await rm(arriving, { force: true });
    }
  }

  /** A checked copy of an image, grown to `sizeBytes`. */
  async #receive(
    path: string,
    arriving: string,
    sizeBytes: number,
    signal: AbortSignal,
    admit: () => Promise<void>,
  ): Promise<void> {
    const found = await stat(path).catch((error: unknown) => {
      throw new BulkheadError('INVALID', `${path} cannot be read: ${messageOf(error)}`, { cause: error });
    });
    if (!found.isFile()) throw new BulkheadError('INVALID', `${path} is no file.`);
    if (found.size > sizeBytes)
      throw new BulkheadError(
        'INVALID',
        `${path} has ${found.size} bytes, the volume only ${sizeBytes}: grow its capacity first.`,
      );
    const declared = await readSuperblock(path);
    if (declared === undefined) throw new BulkheadError('INVALID', `${path} is no raw ext4 image.`);
    await admit();
    await this.#disks.copy(path, arriving);
    if ((await stat(arriving)).size > sizeBytes)
      throw new BulkheadError('INVALID', `${path} grew while it was read.`);
    try {
      await checkDisk(arriving, signal);
      await this.#disks.grow(arriving, sizeBytes);
      await growFileSystem(arriving, signal);
    } catch (error) {
      if (error instanceof BulkheadError && error.code === 'VOLUME_DAMAGED')
        throw new BulkheadError('INVALID', `${path}: ${error.message}`, { cause: error });
      throw error;
    }
    await using file = await open(arriving, 'r+');
    await file.chmod(0o600);
    await file.sync();
  }
}
