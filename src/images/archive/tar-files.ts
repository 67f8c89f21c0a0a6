// Index of a tar archive on disk: its members are read in place, their data is never copied out.

import { type FileHandle, open } from 'node:fs/promises';
import { posix } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import type { FileRange } from '../layers/decompress.ts';
import type { TarBytes } from '../tar/bytes.ts';
import { TarError } from '../tar/header.ts';
import { TarReader } from '../tar/reader.ts';
import type { BlobFiles } from './blobs.ts';

/** Members of an archive of images: about three per layer of each image. */
const MAX_MEMBERS = 100_000;
/** Older `docker save` writes a layer that repeats as a symlink to the first. */
const MAX_LINKS = 8;

type Member = FileRange | { link: string };

/** The members of a tar archive. */
export class TarFiles implements BlobFiles {
  readonly #members: ReadonlyMap<string, Member>;

  constructor(members: ReadonlyMap<string, Member>) {
    this.#members = members;
  }

  find(name: string): Promise<FileRange | undefined> {
    let member = this.#members.get(posix.normalize(name));
    for (let hops = 0; hops < MAX_LINKS && member !== undefined && 'link' in member; hops++) {
      member = this.#members.get(member.link);
    }
    return Promise.resolve(member === undefined || 'link' in member ? undefined : member);
  }
}

/** @throws BulkheadError IMAGE_INVALID for what is no tar archive. */
export async function indexArchive(path: string): Promise<TarFiles> {
  const file = await open(path, 'r');
  try {
    return new TarFiles(await readMembers(path, new FileCursor(file, (await file.stat()).size)));
  } catch (error) {
    if (error instanceof TarError) throw new BulkheadError('IMAGE_INVALID', `archive: ${error.message}`);
    throw error;
  } finally {
    await file.close();
  }
}

async function readMembers(path: string, cursor: FileCursor): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  const tar = new TarReader(cursor);
  for (let entry = await tar.next(); entry !== undefined; entry = await tar.next()) {
    const name = posix.normalize(entry.name);
    if (members.size >= MAX_MEMBERS) throw new TarError(`more than ${MAX_MEMBERS} members`);
    if (entry.type === 'symlink')
      members.set(name, { link: posix.join(posix.dirname(name), entry.linkName) });
    if (entry.type === 'link') members.set(name, { link: posix.normalize(entry.linkName) });
    // A sparse member is not one run of bytes; no writer of images makes one.
    const isWhole = entry.size === 0 || entry.pieces[0]?.length === entry.size;
    if (entry.type === 'file' && isWhole)
      members.set(name, { path, offset: cursor.position, length: entry.size });
  }
  return members;
}

/** Reads a file here and there; skipping costs nothing. */
class FileCursor implements TarBytes {
  readonly #file: FileHandle;
  readonly #size: number;
  position = 0;

  constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.#size = size;
  }

  async take(length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, this.#size - this.position)));
    const { bytesRead } = await this.#file.read(bytes, 0, bytes.length, this.position);
    this.position += bytesRead;
    return bytes.subarray(0, bytesRead);
  }

  async some(max: number): Promise<Buffer | undefined> {
    const bytes = await this.take(Math.min(max, 64 * 1024));
    return bytes.length > 0 ? bytes : undefined;
  }

  skip(length: number): Promise<boolean> {
    this.position += length;
    return Promise.resolve(this.position <= this.#size);
  }
}
