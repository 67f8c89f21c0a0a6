// Reads an ext4 file system that a guest wrote, for the image that is made of it. Whatever the bytes are, each number is bounded
// before it is used, and what cannot be is refused: not a reader of ext4 at large, but of disks made by this product.
import type { FileHandle } from 'node:fs/promises';
import { BulkheadError } from '../../api/errors.ts';
import { decodeXattrEntries } from './xattrs.ts';

export type Ext4Kind = 'file' | 'directory' | 'symlink' | 'character' | 'block' | 'fifo' | 'socket';

export interface Ext4Inode {
  number: number;
  kind: Ext4Kind;
  /** Permission bits with set-uid, set-gid and sticky. */
  mode: number;
  uid: number;
  gid: number;
  size: number;
  links: number;
  mtime: { seconds: number; nanoseconds: number };
  /** Of devices. */
  major: number;
  minor: number;
  xattrs: ReadonlyMap<string, Buffer>;
  /** The 60 bytes that map the content, or are it. */
  map: Buffer;
  flags: number;
}

/** A name in a directory; latin1, one char for each byte. */
export interface Ext4Entry {
  name: string;
  inode: number;
}

export const ROOT_INODE = 2;
const SUPERBLOCK_AT = 1024;
const SUPERBLOCK_BYTES = 1024;
const MAGIC = 0xef53;
const BLOCK_BYTES = 4096;
/** filetype, extents, 64bit, flex_bg, csum_seed, large_dir; the journal must be empty, and nothing is inline or encrypted. */
const INCOMPAT_KNOWN = 0x2 | 0x40 | 0x80 | 0x200 | 0x2000 | 0x4000;
const INCOMPAT_RECOVER = 0x4;
const INCOMPAT_64BIT = 0x80;
const FLAG_EXTENTS = 0x80000;
const FAST_SYMLINK_BYTES = 60;
const TARGET_BYTES_MAX = 4096;
const EXTENT_MAGIC = 0xf30a;
/** Linux makes none deeper. */
const EXTENT_DEPTH_MAX = 5;
/** Of one file: a disk of 16 TiB in pieces of 4 MiB. */
const EXTENTS_MAX = 4_000_000;
/** Longer ones are allocated but were never written: they read as zeros. */
const WRITTEN_BLOCKS_MAX = 32_768;
const DIRECTORY_BYTES_MAX = 1024 ** 3;
const READ_BYTES = 1024 * 1024;

const KINDS: Readonly<Record<number, Ext4Kind>> = {
  1: 'fifo',
  2: 'character',
  4: 'directory',
  6: 'block',
  8: 'file',
  10: 'symlink',
  12: 'socket',
};

interface Extent {
  /** In the file, in blocks. */
  first: number;
  count: number;
  /** On the disk; absent where it was never written. */
  at?: number;
}

interface Geometry {
  blocks: number;
  inodes: number;
  inodesPerGroup: number;
  inodeBytes: number;
  descriptorBytes: number;
}

export class Ext4Reader {
  readonly #file: FileHandle;
  readonly #geometry: Geometry;

  private constructor(file: FileHandle, geometry: Geometry) {
    this.#file = file;
    this.#geometry = geometry;
  }

  /** Throws DISK_DAMAGED for what is none, or was not left in order. */
  static async open(file: FileHandle): Promise<Ext4Reader> {
    const bytes = Buffer.alloc(SUPERBLOCK_BYTES);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, SUPERBLOCK_AT);
    const incompat = bytes.readUInt32LE(0x60);
    if (bytesRead !== bytes.length || bytes.readUInt16LE(0x38) !== MAGIC) throw damaged('it is no ext4');
    if ((incompat & INCOMPAT_RECOVER) !== 0) throw damaged('it was not left in order');
    if ((incompat & ~INCOMPAT_KNOWN) !== 0 || bytes.readUInt32LE(0x18) !== 2)
      throw damaged('it has features that no disk of a sandbox has');
    const high = (incompat & INCOMPAT_64BIT) !== 0;
    const geometry = {
      blocks: bytes.readUInt32LE(4) + (high ? bytes.readUInt32LE(0x150) * 2 ** 32 : 0),
      inodes: bytes.readUInt32LE(0),
      inodesPerGroup: bytes.readUInt32LE(0x28),
      inodeBytes: bytes.readUInt16LE(0x58),
      descriptorBytes: high ? bytes.readUInt16LE(0xfe) : 32,
    };
    const { size } = await file.stat();
    if (
      geometry.blocks * BLOCK_BYTES > size ||
      geometry.inodesPerGroup === 0 ||
      geometry.inodeBytes < 128 ||
      geometry.inodeBytes > BLOCK_BYTES ||
      geometry.descriptorBytes < (high ? 64 : 32) ||
      geometry.descriptorBytes > BLOCK_BYTES
    )
      throw damaged('its superblock makes no sense');
    return new Ext4Reader(file, geometry);
  }

  /** Of the whole file system. */
  get sizeBytes(): number {
    return this.#geometry.blocks * BLOCK_BYTES;
  }

  async inode(number: number): Promise<Ext4Inode> {
    const { inodes, inodesPerGroup, inodeBytes, descriptorBytes } = this.#geometry;
    if (number < 1 || number > inodes) throw damaged(`there is no inode ${number}`);
    const group = Math.floor((number - 1) / inodesPerGroup);
    const descriptor = await this.#read(BLOCK_BYTES + group * descriptorBytes, descriptorBytes);
    const tableHigh = descriptorBytes >= 64 ? descriptor.readUInt32LE(0x28) : 0;
    const table = descriptor.readUInt32LE(8) + tableHigh * 2 ** 32;
    const index = (number - 1) % inodesPerGroup;
    const bytes = await this.#read(table * BLOCK_BYTES + index * inodeBytes, inodeBytes);
    return this.#parseInode(number, bytes);
  }

  /** Names of a directory but `.` and `..`, in the order of the disk. At most `max` of them. */
  async list(directory: Ext4Inode, max: number): Promise<Ext4Entry[]> {
    if (directory.size > DIRECTORY_BYTES_MAX) throw damaged('a directory is too large');
    const entries: Ext4Entry[] = [];
    for await (const chunk of this.data(directory)) {
      for (let block = 0; block < chunk.length; block += BLOCK_BYTES) {
        for (const entry of entriesOf(chunk.subarray(block, block + BLOCK_BYTES))) {
          if (entry.name === '.' || entry.name === '..') continue;
          if (entries.length === max) throw damaged('it has too many names');
          entries.push(entry);
        }
      }
    }
    return entries;
  }

  async target(link: Ext4Inode): Promise<string> {
    if (link.size >= TARGET_BYTES_MAX) throw damaged('a link is too long');
    if (link.size < FAST_SYMLINK_BYTES && (link.flags & FLAG_EXTENTS) === 0)
      return link.map.toString('latin1', 0, link.size);
    const parts: Buffer[] = [];
    for await (const chunk of this.data(link)) parts.push(chunk);
    return Buffer.concat(parts).toString('latin1');
  }

  /** The whole content, holes as zeros. */
  async *data(inode: Ext4Inode): AsyncGenerator<Buffer> {
    let position = 0;
    for (const { first, count, at } of await this.#extents(inode)) {
      const from = first * BLOCK_BYTES;
      if (from < position) throw damaged('pieces of a file overlap');
      yield* zeros(Math.min(from, inode.size) - position);
      position = Math.min(from, inode.size);
      const end = Math.min(from + count * BLOCK_BYTES, inode.size);
      if (at === undefined) yield* zeros(end - position);
      else
        for (let next = position; next < end; next += READ_BYTES)
          yield await this.#read(at * BLOCK_BYTES + next - from, Math.min(READ_BYTES, end - next));
      position = Math.max(position, end);
    }
    yield* zeros(inode.size - position);
  }

  async #extents(inode: Ext4Inode): Promise<Extent[]> {
    if (inode.size === 0) return [];
    if ((inode.flags & FLAG_EXTENTS) === 0) throw damaged('a file has no extents');
    const extents: Extent[] = [];
    await this.#extentNode(inode.map, EXTENT_DEPTH_MAX, extents);
    return extents;
  }

  async #extentNode(node: Buffer, depthMax: number, into: Extent[]): Promise<void> {
    const [magic, count, depth] = [node.readUInt16LE(0), node.readUInt16LE(2), node.readUInt16LE(6)];
    if (magic !== EXTENT_MAGIC || depth > depthMax || 12 * (count + 1) > node.length)
      throw damaged('the map of a file makes no sense');
    for (let i = 1; i <= count; i++) {
      const entry = node.subarray(12 * i, 12 * (i + 1));
      if (into.length >= EXTENTS_MAX) throw damaged('a file has too many pieces');
      if (depth > 0) {
        const block = entry.readUInt32LE(4) + entry.readUInt16LE(8) * 2 ** 32;
        await this.#extentNode(await this.#read(block * BLOCK_BYTES, BLOCK_BYTES), depth - 1, into);
        continue;
      }
      const length = entry.readUInt16LE(4);
      const isWritten = length <= WRITTEN_BLOCKS_MAX;
      const at = entry.readUInt32LE(8) + entry.readUInt16LE(6) * 2 ** 32;
      into.push({
        first: entry.readUInt32LE(0),
        count: isWritten ? length : length - WRITTEN_BLOCKS_MAX,
        ...(isWritten ? { at } : {}),
      });
    }
  }

  async #parseInode(number: number, bytes: Buffer): Promise<Ext4Inode> {
    const u16 = (at: number) => bytes.readUInt16LE(at);
    const u32 = (at: number) => bytes.readUInt32LE(at);
    const mode = u16(0);
    const kind = KINDS[mode >> 12];
    if (kind === undefined) throw damaged(`inode ${number} is of no kind`);
    const extra = bytes.length > 128 ? u16(0x80) : 0;
    if (128 + extra > bytes.length) throw damaged(`inode ${number} makes no sense`);
    const mtimeExtra = extra >= 12 ? u32(0x88) : 0;
    const size = u32(4) + (kind === 'file' || kind === 'directory' ? u32(0x6c) * 2 ** 32 : 0);
    if (!Number.isSafeInteger(size)) throw damaged(`inode ${number} is too large`);
    const map = bytes.subarray(0x28, 0x28 + FAST_SYMLINK_BYTES);
    const device = deviceOf(kind, map);
    return {
      ...{ number, kind, mode: mode & 0o7777, size, links: u16(0x1a), map, flags: u32(0x20) },
      uid: u16(2) + u16(0x78) * 2 ** 16,
      gid: u16(0x18) + u16(0x7a) * 2 ** 16,
      mtime: {
        seconds: bytes.readInt32LE(0x10) + (mtimeExtra & 3) * 2 ** 32,
        nanoseconds: Math.min(mtimeExtra >>> 2, 999_999_999),
      },
      ...device,
      xattrs: await this.#xattrs(bytes, extra, u32(0x68) + u16(0x76) * 2 ** 32),
    };
  }

  async #xattrs(bytes: Buffer, extra: number, block: number): Promise<ReadonlyMap<string, Buffer>> {
    const found = new Map<string, Buffer>();
    // Values in the inode are placed from behind the magic on, those of a block from its begin on.
    const inInode = bytes.subarray(128 + extra);
    decodeXattrEntries(inInode, 4, 4, found);
    if (block !== 0) decodeXattrEntries(await this.#read(block * BLOCK_BYTES, BLOCK_BYTES), 32, 0, found);
    return found;
  }

  async #read(at: number, length: number): Promise<Buffer> {
    if (at + length > this.sizeBytes) throw damaged('it points beyond its end');
    const bytes = Buffer.alloc(length);
    const { bytesRead } = await this.#file.read(bytes, 0, length, at);
    if (bytesRead !== length) throw damaged('it is cut off');
    return bytes;
  }
}

function* entriesOf(block: Buffer): Generator<Ext4Entry> {
  for (let at = 0; at + 8 <= block.length; ) {
    const [inode, length, nameLength] = [
      block.readUInt32LE(at),
      block.readUInt16LE(at + 4),
      block[at + 6] ?? 0,
    ];
    if (length < 8 || length % 4 !== 0 || at + length > block.length || nameLength + 8 > length)
      throw damaged('a directory makes no sense');
    const name = block.toString('latin1', at + 8, at + 8 + nameLength);
    at += length;
    if (inode === 0) continue;
    if (nameLength === 0 || name.includes('/') || name.includes('\0')) throw damaged('a name makes no sense');
    yield { name, inode };
  }
}

function deviceOf(kind: Ext4Kind, map: Buffer): { major: number; minor: number } {
  if (kind !== 'character' && kind !== 'block') return { major: 0, minor: 0 };
  const [old, wide] = [map.readUInt32LE(0), map.readUInt32LE(4)];
  if (old !== 0) return { major: (old >> 8) & 0xff, minor: old & 0xff };
  return { major: (wide >> 8) & 0xfff, minor: (wide & 0xff) | ((wide >>> 12) & 0xfff00) };
}

function* zeros(count: number): Generator<Buffer> {
  for (let left = count; left > 0; left -= READ_BYTES) yield Buffer.alloc(Math.min(left, READ_BYTES));
}

function damaged(why: string): BulkheadError {
  return new BulkheadError('DISK_DAMAGED', `The disk of the sandbox cannot be read: ${why}.`);
}
