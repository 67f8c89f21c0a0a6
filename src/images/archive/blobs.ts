// Where the blobs of an image come from when no registry is asked: a layout folder, or a tar archive read in place.

import { lstat, open, realpath } from 'node:fs/promises';
import { join, sep } from 'node:path';
import type { FileRange } from '../layers/decompress.ts';
import { invalid } from '../oci/json.ts';

/** Files of an image by the name that they have in its layout. */
export interface BlobFiles {
  /** `undefined` when there is no such file. */
  find(name: string): Promise<FileRange | undefined>;
}

/** An OCI layout folder. */
export class LayoutFolder implements BlobFiles {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async find(name: string): Promise<FileRange | undefined> {
    const path = join(this.#folder, name);
    // The names come from the image, and so may symlinks: neither may lead to other files of the host.
    const inside = `${await realpath(this.#folder)}${sep}`;
    const real = await realpath(path).catch(() => undefined);
    if (real === undefined || !real.startsWith(inside)) return undefined;
    const found = await lstat(real);
    return found.isFile() ? { path: real, offset: 0, length: found.size } : undefined;
  }
}

/** All bytes of a small file. @throws BulkheadError IMAGE_INVALID if it is missing, or larger than `most`. */
export async function readSmall(files: BlobFiles, name: string, most: number): Promise<Buffer> {
  const range = await files.find(name);
  if (range === undefined) throw invalid(name, 'is missing');
  if (range.length > most) throw invalid(name, `has more than ${most} bytes`);
  const bytes = Buffer.alloc(range.length);
  const file = await open(range.path, 'r');
  try {
    const { bytesRead } = await file.read(bytes, 0, range.length, range.offset);
    if (bytesRead !== range.length) throw invalid(name, 'ends early');
  } finally {
    await file.close();
  }
  return bytes;
}

export function blobName(digest: string): string {
  return `blobs/sha256/${digest.slice('sha256:'.length)}`;
}
