// A layer blob as its plain tar: the compression is told by its first bytes, sizes and ratio are bounded on the way.

import { createReadStream } from 'node:fs';
import type { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import type { ImageLimits } from '../limits.ts';
import { TarError } from '../tar/header.ts';

/** A run of bytes in a file: a whole blob, or a member of an archive. */
export interface FileRange {
  path: string;
  offset: number;
  length: number;
}

/** zlib's default of 16 KiB more than halves the rate: every chunk is a trip through the thread pool. */
const OUTPUT_CHUNK_BYTES = 256 * 1024;
const INPUT_CHUNK_BYTES = 512 * 1024;
/** zstd windows beyond 128 MiB need `--long` to be read anywhere; 2^27 bytes is zstd's own default ceiling. */
const ZSTD_WINDOW_LOG_MAX = 27;

export type Compression = 'gzip' | 'zstd' | 'none';

export function compressionOf(start: Buffer): Compression {
  if (start.length >= 2 && start.readUInt16BE(0) === 0x1f8b) return 'gzip';
  if (start.length >= 4 && start.readUInt32BE(0) === 0x28b5_2ffd) return 'zstd';
  return 'none';
}

/** The bytes of a range as they are stored. */
export async function* readRange(range: FileRange): AsyncGenerator<Buffer> {
  if (range.length === 0) return;
  const stream = createReadStream(range.path, {
    start: range.offset,
    end: range.offset + range.length - 1,
    highWaterMark: INPUT_CHUNK_BYTES,
  });
  for await (const chunk of stream as AsyncIterable<Buffer>) yield chunk;
}

/**
 * The decompressed bytes of `stored`, whose length on disk is `storedBytes`.
 * @throws TarError for a broken stream and for one that passes the limits.
 */
export async function* decompressed(
  stored: Readable,
  compression: Compression,
  storedBytes: number,
  limits: ImageLimits,
): AsyncGenerator<Buffer> {
  const transform = transformFor(compression);
  // The generator below sees the error: pipeline destroys the last stream with it.
  const output = transform === undefined ? stored : pipeline(stored, transform, () => undefined);
  const most = Math.min(
    limits.maxLayerUncompressedBytes,
    Math.max(limits.ratioFloorBytes, storedBytes * limits.maxCompressionRatio),
  );
  let total = 0;
  try {
    for await (const chunk of output as AsyncIterable<Buffer>) {
      total += chunk.length;
      if (total > most) throw new TarError(`decompresses to more than ${most} bytes`);
      yield chunk;
    }
  } catch (error) {
    throw isZlibError(error) ? new TarError(`its ${compression} stream is broken`) : error;
  }
}

function transformFor(compression: Compression): Transform | undefined {
  if (compression === 'gzip') return createGunzip({ chunkSize: OUTPUT_CHUNK_BYTES });
  if (compression === 'none') return undefined;
  return createZstdDecompress({
    chunkSize: OUTPUT_CHUNK_BYTES,
    params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
  });
}

function isZlibError(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return code.startsWith('Z_') || code.startsWith('ZSTD_') || code === 'ERR_ZLIB_INITIALIZATION_FAILED';
}
