// Directory blocks: entries and names packed per block, sorted by the bytes of the names, `.` and `..` among them.

import type { Inode } from '../layers/tree.ts';
import { BLOCK_BYTES, DIRENT_BYTES, FILE_TYPE } from './format.ts';

export interface DirectoryEntry {
  /** Latin1. */
  name: string;
  inode: Inode;
}

/** How the entries of a directory spread over blocks. */
export interface DirectoryShape {
  /** Index of the first entry of each block. */
  starts: number[];
  /** Bytes used of the last block. */
  tailBytes: number;
  /** All full blocks and the tail. */
  size: number;
}

export function shapeOf(entries: readonly DirectoryEntry[]): DirectoryShape {
  const starts = [0];
  let used = 0;
  entries.forEach(({ name }, index) => {
    const bytes = DIRENT_BYTES + name.length;
    if (used + bytes > BLOCK_BYTES) {
      starts.push(index);
      used = 0;
    }
    used += bytes;
  });
  return { starts, tailBytes: used, size: (starts.length - 1) * BLOCK_BYTES + used };
}

/** One block of the directory: all of it padded with zeros, or the tail at its true length. */
export function encodeBlock(
  entries: readonly DirectoryEntry[],
  shape: DirectoryShape,
  index: number,
  nidOf: (inode: Inode) => number,
): Buffer {
  const first = shape.starts[index] ?? 0;
  const end = shape.starts[index + 1] ?? entries.length;
  const isTail = index === shape.starts.length - 1;
  const block = Buffer.alloc(isTail ? shape.tailBytes : BLOCK_BYTES);
  let nameAt = (end - first) * DIRENT_BYTES;
  for (let i = first; i < end; i++) {
    const entry = entries[i];
    if (entry === undefined) break;
    const at = (i - first) * DIRENT_BYTES;
    block.writeBigUInt64LE(BigInt(nidOf(entry.inode)), at);
    block.writeUInt16LE(nameAt, at + 8);
    block.writeUInt8(FILE_TYPE[entry.inode.kind], at + 10);
    nameAt += block.write(entry.name, nameAt, 'latin1');
  }
  return block;
}
