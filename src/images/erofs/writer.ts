// The second half of an EROFS image: with all file data on the disk already, lays out and writes directories, inodes and
// the superblock. Same tree, same bytes.

import type { FileHandle } from 'node:fs/promises';
import type { DirectoryInode, Inode } from '../layers/tree.ts';
import type { BlockWriter } from './block-writer.ts';
import { type DirectoryEntry, type DirectoryShape, encodeBlock, shapeOf } from './directory.ts';
import {
  BLOCK_BYTES,
  encodeDevice,
  INODE_BYTES,
  LAYOUT_INLINE,
  LAYOUT_PLAIN,
  SLOT_BYTES,
  superblock,
  writeInode,
} from './format.ts';
import { encodeXattrs } from './xattrs.ts';

/** The root's inode must be within the first 65,536 slots, so it is first; slot 0 is left free because readers of
 * directories take inode number 0 for "no entry". */
const FIRST_INODE_AT = 2 * SLOT_BYTES;

/** One inode with the place it got. */
interface Placed {
  inode: Inode;
  serial: number;
  /** Bytes from the start of the metadata. */
  at: number;
  links: number;
  xattrs: Buffer;
  /** What of its content follows the inode itself: a directory's last block, a symlink's target. */
  inlineBytes: number;
  /** First block of content that is not inline. */
  startBlock: number;
  directory: { entries: DirectoryEntry[]; shape: DirectoryShape } | undefined;
}

/** Writes all that is not file data, and sets the file's length. The file is not yet synced. */
export async function writeMetadata(
  root: DirectoryInode,
  writer: BlockWriter,
  file: FileHandle,
  uuid: Buffer,
): Promise<{ sizeBytes: number; inodes: number }> {
  const placed = enumerate(root);
  const nids = new Map<Inode, Placed>();
  for (const item of placed) nids.set(item.inode, item);
  const nidOf = (inode: Inode): number => (nids.get(inode)?.at ?? 0) / SLOT_BYTES;

  place(placed, writer.block);
  for (const item of placed) await writeOutOfLine(item, writer, nidOf);
  const metadataBlock = writer.block;
  for (const item of placed) await writeInline(item, writer, metadataBlock, nidOf);
  await writer.align();
  const blocks = writer.block;
  await writer.finish();
  const rootNid = nidOf(root);
  const first = superblock({ rootNid, inodes: placed.length, blocks, metadataBlock, uuid });
  await file.write(first, 0, first.length, 0);
  return { sizeBytes: blocks * BLOCK_BYTES, inodes: placed.length };
}

/** Every inode once, parents before children, children in the order of their names. */
function enumerate(root: DirectoryInode): Placed[] {
  const found = new Map<Inode, Placed>();
  const stack: Inode[] = [root];
  for (let inode = stack.pop(); inode !== undefined; inode = stack.pop()) {
    const known = found.get(inode);
    if (known !== undefined) {
      known.links++;
      continue;
    }
    const item: Placed = {
      inode,
      serial: found.size + 1,
      at: 0,
      links: 1,
      xattrs: encodeXattrs(inode.xattrs),
      inlineBytes: 0,
      startBlock: 0,
      directory: undefined,
    };
    found.set(inode, item);
    if (inode.kind === 'directory') {
      const entries = sortedEntries(inode, root);
      item.directory = { entries, shape: shapeOf(entries) };
      item.links = 2;
      for (const entry of entries.toReversed()) {
        if (entry.name === '.' || entry.name === '..') continue;
        if (entry.inode.kind === 'directory') item.links++;
        stack.push(entry.inode);
      }
    }
  }
  return [...found.values()];
}

function sortedEntries(directory: DirectoryInode, root: DirectoryInode): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [
    { name: '.', inode: directory },
    { name: '..', inode: directory.parent ?? root },
  ];
  for (const [name, inode] of directory.children) entries.push({ name, inode });
  // Latin1 strings compare as their bytes, which is the order that EROFS looks names up in.
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Gives every inode its slot, and content that does not fit beside its inode its blocks, from `nextBlock` on. */
function place(items: readonly Placed[], nextBlock: number): void {
  let cursor = FIRST_INODE_AT;
  let block = nextBlock;
  for (const item of items) {
    const { inode } = item;
    const fixed = INODE_BYTES + item.xattrs.length;
    const tail = item.directory?.shape.tailBytes ?? (inode.kind === 'symlink' ? inode.target.length : 0);
    item.inlineBytes = tail > 0 && fixed + tail <= BLOCK_BYTES ? tail : 0;
    // The kernel wants an inode with inline content in one block; one without must only not be cut itself.
    const together = item.inlineBytes > 0 ? fixed + item.inlineBytes : INODE_BYTES;
    item.at = alignUp(cursor, SLOT_BYTES);
    if ((item.at % BLOCK_BYTES) + together > BLOCK_BYTES) item.at = alignUp(item.at, BLOCK_BYTES);
    cursor = item.at + fixed + item.inlineBytes;

    const outOfLine = blocksOutOfLine(item);
    if (inode.kind === 'file') item.startBlock = inode.startBlock;
    else if (outOfLine > 0) item.startBlock = block;
    block += outOfLine;
  }
}

function blocksOutOfLine(item: Placed): number {
  if (item.directory !== undefined) {
    return item.directory.shape.starts.length - (item.inlineBytes > 0 ? 1 : 0);
  }
  return item.inode.kind === 'symlink' && item.inlineBytes === 0 ? 1 : 0;
}

function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

async function writeOutOfLine(
  item: Placed,
  writer: BlockWriter,
  nidOf: (inode: Inode) => number,
): Promise<void> {
  const count = blocksOutOfLine(item);
  if (item.directory !== undefined) {
    const { entries, shape } = item.directory;
    for (let i = 0; i < count; i++) {
      await writer.write(encodeBlock(entries, shape, i, nidOf));
      await writer.align();
    }
  } else if (item.inode.kind === 'symlink' && count > 0) {
    await writer.write(Buffer.from(item.inode.target, 'latin1'));
    await writer.align();
  }
}

async function writeInline(
  item: Placed,
  writer: BlockWriter,
  metadataBlock: number,
  nidOf: (inode: Inode) => number,
): Promise<void> {
  await writer.hole(metadataBlock * BLOCK_BYTES + item.at - writer.position);
  const { inode } = item;
  const bytes = Buffer.alloc(INODE_BYTES);
  writeInode(bytes, 0, {
    kind: inode.kind,
    layout: item.inlineBytes > 0 ? LAYOUT_INLINE : LAYOUT_PLAIN,
    mode: inode.mode,
    size: sizeOf(item),
    union: 'major' in inode ? encodeDevice(inode.major, inode.minor) : item.startBlock,
    serial: item.serial,
    uid: inode.uid,
    gid: inode.gid,
    seconds: inode.mtime.seconds,
    nanoseconds: inode.mtime.nanoseconds,
    links: item.links,
    xattrBytes: item.xattrs.length,
  });
  await writer.write(bytes);
  await writer.write(item.xattrs);
  if (item.inlineBytes === 0) return;
  if (item.directory !== undefined) {
    const { entries, shape } = item.directory;
    await writer.write(encodeBlock(entries, shape, shape.starts.length - 1, nidOf));
  } else if (inode.kind === 'symlink') {
    await writer.write(Buffer.from(inode.target, 'latin1'));
  }
}

function sizeOf(item: Placed): number {
  const { inode } = item;
  if (item.directory !== undefined) return item.directory.shape.size;
  if (inode.kind === 'file') return inode.size;
  return inode.kind === 'symlink' ? inode.target.length : 0;
}
