// Opens what `load` is given: a layout folder, or a tar archive that may be compressed as a whole.

import { createReadStream, createWriteStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BulkheadError } from '../../api/errors.ts';
import { compressionOf, decompressed } from '../layers/decompress.ts';
import type { ImageLimits } from '../limits.ts';
import { TarError } from '../tar/header.ts';
import { type BlobFiles, LayoutFolder } from './blobs.ts';
import { indexArchive } from './tar-files.ts';

/**
 * @param staging folder for the plain tar of a compressed archive; the caller removes it after use.
 * @throws BulkheadError NOT_FOUND, IMAGE_INVALID
 */
export async function openArchive(
  path: string,
  staging: string,
  limits: ImageLimits,
  signal: AbortSignal,
): Promise<BlobFiles> {
  const found = await stat(path).catch((error: unknown) => {
    throw new BulkheadError('NOT_FOUND', `cannot read ${path}`, { cause: error });
  });
  if (found.isDirectory()) return new LayoutFolder(path);
  // A device or a fifo never ends.
  if (!found.isFile()) throw new BulkheadError('IMAGE_INVALID', `${path} is neither a file nor a folder`);
  const compression = compressionOf(await firstBytes(path));
  if (compression === 'none') return indexArchive(path);
  const plain = join(staging, 'archive.tar');
  const tar = decompressed(createReadStream(path), compression, found.size, limits);
  try {
    await pipeline(Readable.from(tar, { objectMode: false }), createWriteStream(plain), { signal });
  } catch (error) {
    if (error instanceof TarError) throw new BulkheadError('IMAGE_INVALID', `archive: ${error.message}`);
    throw error;
  }
  return indexArchive(plain);
}

async function firstBytes(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
