// Reads back the disks that the writer makes: for export. Not a reader of EROFS at large: one block size, no compression.

import type { FileHandle } from 'node:fs/promises';
import { BulkheadError } from '../../api/errors.ts';
import {
  BLOCK_BYTES,
  DIRENT_BYTES,
  decodeDevice,
  INODE_BYTES,
  type InodeFields,
  LAYOUT_INLINE,
  readInode,
  readSuperblock,
  SLOT_BYTES,
} from './format.ts';
import { decodeXattrs } from './xattrs.ts';

/** One name of the tree. Strings are latin1. */
export interface DiskEntry {
  /** Without a leading slash; empty for the root. */
  path: string;
  /** Number of the inode: the same for hard links. */
  nid: number;
  inode: InodeFields;
  xattrs: ReadonlyMap<string, Buffer> | undefined;
  /** Of a symlink. */
  target: string;
  major: number;
  minor: number;
  /** Content of a regular file. */
  data(): AsyncGenerator<Buffer>;
}

const READ_BYTES = 1024 * 1024;

/** All names, parents before children, in the order of their bytes. @throws BulkheadError INTERNAL for a damaged disk. */
export async function* walkDisk(file: FileHandle): AsyncGenerator<DiskEntry> {
  const superblock = readSuperblock(await readAt(file, 0, BLOCK_BYTES));
  const metadataAt = superblock.metadataBlock * BLOCK_BYTES;
  const stack = [{ path: '', nid: superblock.rootNid }];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const entry = await readEntry(file, metadataAt, next.path, next.nid);
    yield entry;
    if (entry.inode.kind !== 'directory') continue;
    const children = parseDirectory(await collect(entry.data()));
    for (const child of children.reverse()) {
      stack.push({ path: entry.path === '' ? child.name : `${entry.path}/${child.name}`, nid: child.nid });
    }
  }
}

async function readEntry(
  file: FileHandle,
  metadataAt: number,
  path: string,
  nid: number,
): Promise<DiskEntry> {
  const at = metadataAt + nid * SLOT_BYTES;
  const inode = readInode(await readAt(file, at, INODE_BYTES));
  const xattrBytes =
    inode.xattrBytes > 0 ? await readAt(file, at + INODE_BYTES, inode.xattrBytes) : undefined;
  const inlineAt = at + INODE_BYTES + inode.xattrBytes;
  const data = (): AsyncGenerator<Buffer> => readContent(file, inode, inlineAt);
  const isDevice = inode.kind === 'character' || inode.kind === 'block';
  return {
    path,
    nid,
    inode,
    xattrs: xattrBytes === undefined ? undefined : decodeXattrs(xattrBytes),
    target: inode.kind === 'symlink' ? (await collect(data())).toString('latin1') : '',
    ...(isDevice ? decodeDevice(inode.union) : { major: 0, minor: 0 }),
    data,
  };
}

async function* readContent(file: FileHandle, inode: InodeFields, inlineAt: number): AsyncGenerator<Buffer> {
  const inlineBytes = inode.layout === LAYOUT_INLINE ? inode.size % BLOCK_BYTES || BLOCK_BYTES : 0;
  const outOfLine = inode.size - Math.min(inlineBytes, inode.size);
  for (let at = 0; at < outOfLine; at += READ_BYTES) {
    yield await readAt(file, inode.union * BLOCK_BYTES + at, Math.min(READ_BYTES, outOfLine - at));
  }
  if (inode.size > outOfLine) yield await readAt(file, inlineAt, inode.size - outOfLine);
}

function parseDirectory(bytes: Buffer): { name: string; nid: number }[] {
  const children: { name: string; nid: number }[] = [];
  for (let start = 0; start < bytes.length; start += BLOCK_BYTES) {
    const block = bytes.subarray(start, start + BLOCK_BYTES);
    const count = block.readUInt16LE(8) / DIRENT_BYTES;
    for (let i = 0; i < count; i++) {
      const nameAt = block.readUInt16LE(i * DIRENT_BYTES + 8);
      const end = i + 1 < count ? block.readUInt16LE((i + 1) * DIRENT_BYTES + 8) : block.length;
      const name = block.toString('latin1', nameAt, end).replace(/\0+$/, '');
      const nid = Number(block.readBigUInt64LE(i * DIRENT_BYTES));
      if (name !== '.' && name !== '..') children.push({ name, nid });
    }
  }
  return children;
}

async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

async function readAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  const { bytesRead } = await file.read(bytes, 0, length, at);
  if (bytesRead !== length) throw new BulkheadError('INTERNAL', 'the disk of the image is damaged');
  return bytes;
}
