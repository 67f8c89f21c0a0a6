// Empty ext4 disks of a given size, in about a millisecond.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BulkheadError } from '../api/errors.ts';
import { DISK_BLOCK_BYTES } from './volumes.ts';

const MIB = 1024 * 1024;
/** Below it ext4's own structures and journal leave little to use. */
export const MIN_DISK_BYTES = 64 * MIB;
/** ext4 with 4 KiB blocks reaches 16 TiB with 32-bit block numbers, and so do files on an ext4 host. */
export const MAX_DISK_BYTES = 16 * 1024 * 1024 * MIB - 4096;
/** mkfs takes about 10 ms; a disk that is full or hangs takes longer. */
const MKFS_TIMEOUT_MS = 60_000;

/**
 * The journal is kept: these disks must survive a killed VMM. No reserved blocks (there is no root to rescue), and the
 * inode tables count as zeroed, which a fresh sparse file is: otherwise the guest would write them out in the background.
 */
const MKFS_OPTIONS = ['-q', '-F', '-t', 'ext4', '-b', String(DISK_BLOCK_BYTES), '-I', '256', '-m', '0'];
/** Named one by one, because the host's /etc/mke2fs.conf, where distributions keep them, is not read: same disks everywhere. */
const MKFS_FEATURES =
  'has_journal,extent,flex_bg,64bit,metadata_csum,huge_file,large_file,dir_nlink,dir_index,extra_isize,sparse_super,resize_inode,filetype,ext_attr';
const MKFS_EXTENDED = 'nodiscard,assume_storage_prezeroed=1';
/** Raised when the options change; part of the template's name. */
const TEMPLATE_VERSION = 2;
/** Ends the names of templates that are being made. */
const TEMPORARY = '.tmp';
/** Few sizes are asked for again and again. Whoever asks for ever other ones must not fill the disk: one takes up to some MiB. */
const TEMPLATES_MAX = 32;

interface Template {
  path: Promise<string>;
  /** Disks that are being copied from it. */
  users: number;
}

/** Copies the data extents of a sparse file to a new file; fails when the target exists. */
export type SparseCopy = (source: string, target: string) => Promise<void>;

/** Makes disks from templates that it keeps in a folder, one for each size that was asked for. */
export class DiskFactory {
  readonly #dir: string;
  readonly #copy: SparseCopy;
  /** By size, the latest used last. */
  readonly #templates = new Map<number, Template>();

  constructor(templateDir: string, copy: SparseCopy) {
    this.#dir = templateDir;
    this.#copy = copy;
  }

  /** Removes half-made templates, and all where there are too many. Only while nobody else makes disks from this folder. */
  async removeLeftovers(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const names = await readdir(this.#dir);
    for (const name of names)
      if (name.endsWith(TEMPORARY) || names.length > TEMPLATES_MAX)
        await rm(join(this.#dir, name), { force: true });
  }

  /**
   * Makes a sparse file of `sizeBytes`, rounded up to whole 4 KiB blocks, with an empty ext4 file system. Not synced: the
   * guest's first flush does that, and a file that a power cut loses before it holds nothing yet. An existing file is replaced.
   */
  async create(path: string, sizeBytes: number): Promise<void> {
    const size = Math.ceil(sizeBytes / DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < MIN_DISK_BYTES || size > MAX_DISK_BYTES)
      throw new BulkheadError(
        'INVALID',
        `a disk of ${sizeBytes} bytes cannot be made: between ${MIN_DISK_BYTES} and ${MAX_DISK_BYTES} are possible`,
      );
    try {
      await this.#copyTemplate(size, path);
    } catch (error) {
      throw diskError(error, path);
    }
  }

  /**
   * Makes an existing disk's file at least `sizeBytes` long, and gives its size; the guest grows the file system when it
   * mounts it. A disk never shrinks: what is asked for may be less than what it holds.
   */
  async grow(path: string, sizeBytes: number): Promise<number> {
    const wanted = Math.ceil(sizeBytes / DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES;
    if (!Number.isSafeInteger(sizeBytes) || wanted > MAX_DISK_BYTES)
      throw new BulkheadError(
        'INVALID',
        `a disk cannot grow to ${sizeBytes} bytes: at most ${MAX_DISK_BYTES}`,
      );
    try {
      await using file = await open(path, 'r+');
      const { size } = await file.stat();
      if (size >= wanted) return size;
      await file.truncate(wanted);
      return wanted;
    } catch (error) {
      throw diskError(error, path);
    }
  }

  /** Makes `path` a copy of another disk's file, whole or not at all. Replaces nothing that is being written elsewhere. */
  async copy(source: string, path: string): Promise<void> {
    const temporary = `${path}.new`; // left by a crash: begun again
    try {
      await rm(temporary, { force: true });
      await this.#copy(source, temporary);
      await rename(temporary, path);
    } catch (error) {
      throw diskError(error, path);
    }
  }

  async #copyTemplate(size: number, path: string): Promise<void> {
    const template = this.#templates.get(size) ?? { path: this.#make(size), users: 0 };
    this.#templates.delete(size);
    this.#templates.set(size, template);
    template.users += 1;
    try {
      const source = await template.path.catch((error: unknown) => {
        if (this.#templates.get(size) === template) this.#templates.delete(size);
        throw error;
      });
      await this.copy(source, path);
    } finally {
      template.users -= 1;
      this.#forgetOldest();
    }
  }

  #forgetOldest(): void {
    for (const [size, { users }] of this.#templates) {
      if (this.#templates.size <= TEMPLATES_MAX) return;
      if (users > 0) continue;
      this.#templates.delete(size);
      // At once, so that nobody who asks for this size meanwhile finds it.
      rmSync(this.#pathOf(size), { force: true });
    }
  }

  #pathOf(size: number): string {
    return join(this.#dir, `ext4-${TEMPLATE_VERSION}-${size}.img`);
  }

  async #make(size: number): Promise<string> {
    const path = this.#pathOf(size);
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    try {
      await using file = await open(path, 'r');
      if ((await file.stat()).size === size) return path;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
    const temporary = `${path}.${randomBytes(6).toString('hex')}${TEMPORARY}`;
    try {
      await (await open(temporary, 'wx', 0o600)).close();
      await truncate(temporary, size);
      await promisify(execFile)(
        'mkfs.ext4',
        [...MKFS_OPTIONS, '-O', MKFS_FEATURES, '-E', MKFS_EXTENDED, temporary],
        {
          timeout: MKFS_TIMEOUT_MS,
          env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', MKE2FS_CONFIG: '/dev/null' },
        },
      );
      {
        await using file = await open(temporary, 'r+');
        await file.sync();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    return path;
  }
}

function diskError(error: unknown, path: string): BulkheadError {
  if (error instanceof BulkheadError) return error;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const message = `disk ${path}: ${error instanceof Error ? error.message : String(error)}`;
  // mkfs has no code of its own for it, only the words.
  const full = code === 'ENOSPC' || code === 'EDQUOT' || /No space left on device/.test(message);
  return new BulkheadError(full ? 'DISK_FULL' : 'VM_START_FAILED', message, { cause: error });
}
