// EROFS on disk: the structures of the kernel's fs/erofs/erofs_fs.h (6.1) that this writer uses.

import { crc32c } from './crc32c.ts';

export const BLOCK_BITS = 12;
export const BLOCK_BYTES = 1 << BLOCK_BITS;
/** Inode numbers (nids) count units of this from the start of the metadata. */
export const SLOT_BYTES = 32;
/** Compact inodes (32 bytes) hold no time and 16-bit owners; images need both, so every inode is extended. */
export const INODE_BYTES = 64;
export const DIRENT_BYTES = 12;
export const XATTR_HEADER_BYTES = 12;

export const LAYOUT_PLAIN = 0;
export const LAYOUT_INLINE = 2;

const SUPERBLOCK_AT = 1024;
const MAGIC = 0xe0f5_e1e2;
const COMPAT_CHECKSUM = 1;
const COMPAT_MTIME = 2;

const S_IFMT = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
} as const;

/** File types in directory entries: the kernel's FT_*. */
export const FILE_TYPE = { file: 1, directory: 2, character: 3, block: 4, fifo: 5, symlink: 7 } as const;

export type InodeKind = keyof typeof S_IFMT;

export interface SuperblockFields {
  rootNid: number;
  inodes: number;
  blocks: number;
  metadataBlock: number;
  uuid: Buffer;
}

/** Block 0 with the superblock in it. */
export function superblock(fields: SuperblockFields): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const sb = block.subarray(SUPERBLOCK_AT);
  sb.writeUInt32LE(MAGIC, 0);
  sb.writeUInt32LE(COMPAT_CHECKSUM | COMPAT_MTIME, 8);
  sb.writeUInt8(BLOCK_BITS, 12);
  sb.writeUInt16LE(fields.rootNid, 14);
  sb.writeBigUInt64LE(BigInt(fields.inodes), 16);
  sb.writeUInt32LE(fields.blocks, 36);
  sb.writeUInt32LE(fields.metadataBlock, 40);
  fields.uuid.copy(sb, 48, 0, 16);
  sb.writeUInt32LE(crc32c(sb), 4);
  return block;
}

/** The fields of block 0. @throws RangeError unless it is a superblock of this writer with the right checksum. */
export function readSuperblock(block: Buffer): SuperblockFields {
  const sb = Buffer.from(block.subarray(SUPERBLOCK_AT));
  const checksum = sb.readUInt32LE(4);
  sb.writeUInt32LE(0, 4);
  if (sb.readUInt32LE(0) !== MAGIC || sb.readUInt8(12) !== BLOCK_BITS || crc32c(sb) !== checksum) {
    throw new RangeError('not an EROFS image of this writer');
  }
  return {
    rootNid: sb.readUInt16LE(14),
    inodes: Number(sb.readBigUInt64LE(16)),
    blocks: sb.readUInt32LE(36),
    metadataBlock: sb.readUInt32LE(40),
    uuid: sb.subarray(48, 64),
  };
}

export interface InodeFields {
  kind: InodeKind;
  layout: typeof LAYOUT_PLAIN | typeof LAYOUT_INLINE;
  mode: number;
  size: number;
  /** First data block, or the device number. */
  union: number;
  serial: number;
  uid: number;
  gid: number;
  seconds: number;
  nanoseconds: number;
  links: number;
  xattrBytes: number;
}

export function writeInode(into: Buffer, at: number, inode: InodeFields): void {
  const extended = 1;
  const xattrCount = inode.xattrBytes === 0 ? 0 : (inode.xattrBytes - XATTR_HEADER_BYTES) / 4 + 1;
  into.writeUInt16LE(extended | (inode.layout << 1), at);
  into.writeUInt16LE(xattrCount, at + 2);
  into.writeUInt16LE(S_IFMT[inode.kind] | inode.mode, at + 4);
  into.writeBigUInt64LE(BigInt(inode.size), at + 8);
  into.writeUInt32LE(inode.union, at + 16);
  into.writeUInt32LE(inode.serial, at + 20);
  into.writeUInt32LE(inode.uid, at + 24);
  into.writeUInt32LE(inode.gid, at + 28);
  into.writeBigInt64LE(BigInt(inode.seconds), at + 32);
  into.writeUInt32LE(inode.nanoseconds, at + 40);
  into.writeUInt32LE(inode.links, at + 44);
}

/** The inverse of `writeInode`. @throws RangeError for what this writer does not write. */
export function readInode(bytes: Buffer): InodeFields {
  const format = bytes.readUInt16LE(0);
  const layout = format >> 1;
  const mode = bytes.readUInt16LE(4);
  const kind = (Object.keys(S_IFMT) as InodeKind[]).find((name) => S_IFMT[name] === (mode & 0o170000));
  if ((format & 1) === 0 || kind === undefined || (layout !== LAYOUT_PLAIN && layout !== LAYOUT_INLINE)) {
    throw new RangeError('not an inode of this writer');
  }
  const xattrCount = bytes.readUInt16LE(2);
  return {
    kind,
    layout,
    mode: mode & 0o7777,
    size: Number(bytes.readBigUInt64LE(8)),
    union: bytes.readUInt32LE(16),
    serial: bytes.readUInt32LE(20),
    uid: bytes.readUInt32LE(24),
    gid: bytes.readUInt32LE(28),
    seconds: Number(bytes.readBigInt64LE(32)),
    nanoseconds: bytes.readUInt32LE(40),
    links: bytes.readUInt32LE(44),
    xattrBytes: xattrCount === 0 ? 0 : (xattrCount - 1) * 4 + XATTR_HEADER_BYTES,
  };
}

/** The kernel's new_encode_dev. */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}

/** The kernel's new_decode_dev. */
export function decodeDevice(device: number): { major: number; minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}
