// The few file system calls that a snapshot needs, as an interface: tests move things between two of them.
import type { BigIntStats } from 'node:fs';
import { constants } from 'node:fs';
import { lstat, open, readdir, readlink, realpath } from 'node:fs/promises';

export type FileType = 'file' | 'directory' | 'symlink' | 'other';

export interface FileEntry {
  type: FileType;
  /** `st_dev`: tells an unmounted file system from an emptied directory. */
  device: string;
}

/** Thrown when what was opened is no longer what was looked at; the pass starts again. */
export class MovedError extends Error {
  constructor(path: string) {
    super(`${path} changed while it was read`);
    this.name = 'MovedError';
  }
}

/** Thrown for a file above the size limit. */
export class OversizeError extends Error {
  constructor(limit: number) {
    super(`the file is larger than ${limit} bytes`);
    this.name = 'OversizeError';
  }
}

export interface SnapshotFs {
  realpath(path: string): Promise<string>;
  /** Looks at the entry itself, not at what a link leads to. */
  entry(path: string): Promise<FileEntry>;
  /** Names in a directory, unsorted. */
  names(directory: string): Promise<string[]>;
  /**
   * Content of the regular file at `path`, which must be a real path (no link in it).
   * Throws MovedError when it changed meanwhile, OversizeError above `maxBytes`, and the system's own error otherwise.
   */
  read(path: string, maxBytes: number): Promise<Buffer>;
}

function typeOf(stat: BigIntStats): FileType {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  return stat.isSymbolicLink() ? 'symlink' : 'other';
}

// O_NONBLOCK: a FIFO put in place of a file must not hang the pass. O_NOFOLLOW: nor may a link put there be followed.
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

async function readWhole(path: string, maxBytes: number): Promise<Buffer> {
  await using file = await open(path, OPEN_FLAGS);
  const before = await file.stat({ bigint: true });
  // The kernel's own answer to what was opened: a directory on the way that became a link shows here.
  if (!before.isFile() || (await readlink(`/proc/self/fd/${file.fd}`)) !== path) throw new MovedError(path);
  if (before.size > BigInt(maxBytes)) throw new OversizeError(maxBytes);

  // One byte more than announced: a file that grows shows as a longer read.
  const buffer = Buffer.allocUnsafe(Number(before.size) + 1);
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  const after = await file.stat({ bigint: true });
  if (length !== Number(before.size) || after.size !== before.size || after.mtimeNs !== before.mtimeNs) {
    throw new MovedError(path);
  }
  return buffer.subarray(0, length);
}

/** The real file system. */
export const nodeFs: SnapshotFs = {
  realpath: (path) => realpath(path),
  async entry(path) {
    const stat = await lstat(path, { bigint: true });
    return { type: typeOf(stat), device: stat.dev.toString() };
  },
  names: (directory) => readdir(directory),
  read: readWhole,
};

/** `ENOENT`, `EACCES` and their like; empty for anything else. */
export function errorCode(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('code' in error)) return '';
  return typeof error.code === 'string' ? error.code : '';
}
