// Layers in, one EROFS disk out: streams each through decompression, digests and tar into the disk, then writes the metadata.

import { createHash, type Hash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { BulkheadError } from '../../api/errors.ts';
import { BlockWriter } from '../erofs/block-writer.ts';
import { writeMetadata } from '../erofs/writer.ts';
import { applyLayer, type Usage } from '../layers/apply.ts';
import { compressionOf, decompressed, type FileRange, readRange } from '../layers/decompress.ts';
import { type DirectoryInode, newDirectory } from '../layers/tree.ts';
import type { ImageLimits } from '../limits.ts';
import { ByteReader } from '../tar/bytes.ts';
import { TarError } from '../tar/header.ts';

/** Goes into the cache key and the disk's UUID: raise it whenever the same layers give other bytes. */
export const WRITER_VERSION = 1;

/** One layer, lowest first. */
export interface LayerSource {
  range: FileRange;
  /** Of the stored bytes; absent when whoever wrote the file has checked it. */
  digest?: string;
  /** Of the decompressed tar. */
  diffId: string;
}

export interface BuildInput {
  /** File to write; must not exist. */
  diskPath: string;
  diffIds: readonly string[];
  limits: ImageLimits;
}

export interface BuiltDisk {
  sizeBytes: number;
  inodes: number;
}

/**
 * Writes and syncs the disk. `layer(i)` is awaited when the layers before it are done, so it may still be on its way.
 * @throws BulkheadError IMAGE_INVALID naming layer and entry, DISK_FULL; the file may be left behind on any error.
 */
export async function buildDisk(
  input: BuildInput,
  layer: (index: number) => Promise<LayerSource>,
  onBytes: (bytes: number) => void,
): Promise<BuiltDisk> {
  const file = await open(input.diskPath, 'wx', 0o644);
  const writer = new BlockWriter(file, input.limits.maxDiskBytes);
  try {
    const root = newDirectory(undefined, '');
    const usage: Usage = { entries: 0, metadataBytes: 0 };
    for (let index = 0; index < input.diffIds.length; index++) {
      await buildLayer(root, index, await layer(index), writer, input, usage, onBytes);
    }
    const built = await writeMetadata(root, writer, file, uuidOf(input.diffIds));
    await file.sync();
    return built;
  } catch (error) {
    throw asDiskError(error, input.diskPath);
  } finally {
    await writer.settle();
    await file.close();
  }
}

async function buildLayer(
  root: DirectoryInode,
  index: number,
  source: LayerSource,
  writer: BlockWriter,
  input: BuildInput,
  usage: Usage,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const stored = source.digest === undefined ? undefined : createHash('sha256');
  const plain = createHash('sha256');
  try {
    const start = await firstBytes(source.range);
    const compressed = Readable.from(tapped(readRange(source.range), stored, onBytes), { objectMode: false });
    const tar = decompressed(compressed, compressionOf(start), source.range.length, input.limits);
    const reader = new ByteReader(hashed(tar, plain));
    await applyLayer(root, index, reader, writer, input.limits, usage);
    // What follows the end of the archive belongs to the digests.
    await reader.drain();
  } catch (error) {
    if (!(error instanceof TarError)) throw error;
    const entry = error.entry === '' ? '' : `, entry ${printable(error.entry)}`;
    throw new BulkheadError(
      'IMAGE_INVALID',
      `layer ${index + 1} of ${input.diffIds.length}${entry}: ${error.message}`,
    );
  }
  checkDigest('digest', stored, source.digest, index, input);
  checkDigest('diff ID', plain, source.diffId, index, input);
}

async function firstBytes(range: FileRange): Promise<Buffer> {
  for await (const chunk of readRange({ ...range, length: Math.min(range.length, 4) })) return chunk;
  return Buffer.alloc(0);
}

async function* tapped(
  source: AsyncIterable<Buffer>,
  hash: Hash | undefined,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    hash?.update(chunk);
    onBytes(chunk.length);
    yield chunk;
  }
}

async function* hashed(source: AsyncIterable<Buffer>, hash: Hash): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    hash.update(chunk);
    yield chunk;
  }
}

function checkDigest(
  what: string,
  hash: Hash | undefined,
  expected: string | undefined,
  index: number,
  input: BuildInput,
): void {
  if (hash === undefined || expected === undefined) return;
  const found = `sha256:${hash.digest('hex')}`;
  if (found === expected) return;
  throw new BulkheadError(
    'IMAGE_INVALID',
    `layer ${index + 1} of ${input.diffIds.length}: its ${what} is ${found}, the image says ${expected}`,
  );
}

/** Names from images go to logs and terminals: everything but printable ASCII is escaped, and the length is bounded. */
function printable(name: string): string {
  const shown = name.length > 200 ? `${name.slice(0, 200)}...` : name;
  return JSON.stringify(shown).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

function uuidOf(diffIds: readonly string[]): Buffer {
  const hash = createHash('sha256').update(`bulkhead erofs ${WRITER_VERSION}\n`).update(diffIds.join('\n'));
  const uuid = hash.digest().subarray(0, 16);
  // RFC 9562: version 8 (made by an own rule), variant 10.
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80;
  return uuid;
}

/** A full disk is the operator's to mend, whatever call met it first. */
export function asDiskError(error: unknown, path: string): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new BulkheadError('DISK_FULL', `no space left for ${path}`, { cause: error });
}
