// The superblock of an ext4 file system: how large it is, how full, and whether it was left in order. A guest may have
// written anything there: the bytes are only measured here, with every field bounded, and never trusted for more.
import { constants, open } from 'node:fs/promises';
import { crc32c } from './crc32c.ts';

/** Where the superblock begins, and how long it is. */
const OFFSET = 1024;
const LENGTH = 1024;
const MAGIC = 0xef53;
/** ext4 of 4 KiB blocks has 64 KiB at most; Linux mounts none beyond the page size, 4 KiB on every machine of ours. */
const BLOCK_BYTES_MAX = 4096;
/** Blocks of a disk of 16 TiB in the smallest block size: more is no disk of ours. */
const BLOCKS_MAX = 2 ** 34;
const CHECKSUM_AT = 0x3fc;

const STATE_VALID = 1;
const STATE_ERROR = 2;
const COMPAT_JOURNAL = 0x4;
/** The journal holds what is not in place yet: set while the file system is mounted. */
const INCOMPAT_RECOVER = 0x4;
const INCOMPAT_64BIT = 0x80;
const RO_COMPAT_SPARSE_SUPER = 0x1;
const RO_COMPAT_METADATA_CSUM = 0x400;

/** Descriptors of block groups take so many bytes without the feature 64bit. */
const DESCRIPTOR_BYTES_OLD = 32;
/** What ext4 keeps back for its own bookkeeping when it counts free space: a fiftieth, at most so many blocks. */
const RESERVED_CLUSTERS_MAX = 4096;
const RESERVED_CLUSTERS_SHARE = 50;

/** An ext4 superblock, in bytes and counts. */
export interface Superblock {
  blockBytes: number;
  blocks: number;
  freeBlocks: number;
  inodes: number;
  freeInodes: number;
  /** Blocks that files can never have: tables, bitmaps, the journal. As Linux counts them for `df`. */
  overheadBlocks: number;
  /** Unmounted in order, without errors noted. */
  clean: boolean;
  /** The file system can grow to so many blocks without moving what is there. */
  growableToBlocks: number;
}

/** Reads the superblock of a disk. `undefined` when there is none that makes sense. */
export async function readSuperblock(path: string): Promise<Superblock | undefined> {
  const bytes = Buffer.alloc(LENGTH);
  // A pipe in the place of an image must not hold anybody up; to files the flag is nothing.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const { bytesRead } = await file.read(bytes, 0, LENGTH, OFFSET);
  return bytesRead === LENGTH ? parseSuperblock(bytes) : undefined;
}

/** `undefined` for bytes that are no ext4 superblock of a possible shape. */
export function parseSuperblock(bytes: Uint8Array): Superblock | undefined {
  if (bytes.length !== LENGTH) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u16 = (at: number) => view.getUint16(at, true);
  const u32 = (at: number) => view.getUint32(at, true);
  if (u16(0x38) !== MAGIC) return undefined;
  const [compat, incompat, roCompat] = [u32(0x5c), u32(0x60), u32(0x64)];
  if (roCompat & RO_COMPAT_METADATA_CSUM && crc32c(bytes.subarray(0, CHECKSUM_AT)) !== u32(CHECKSUM_AT))
    return undefined;

  const high = (incompat & INCOMPAT_64BIT) !== 0;
  const wide = (low: number, atHigh: number) => u32(low) + (high ? u32(atHigh) * 2 ** 32 : 0);
  const blockBytes = 1024 * 2 ** Math.min(u32(0x18), 32);
  const [blocks, freeBlocks] = [wide(0x04, 0x150), wide(0x0c, 0x158)];
  const [inodes, freeInodes] = [u32(0x00), u32(0x10)];
  const [firstBlock, blocksPerGroup, inodesPerGroup] = [u32(0x14), u32(0x20), u32(0x28)];
  const inodeBytes = u16(0x58);
  const descriptorBytes = high ? u16(0xfe) : DESCRIPTOR_BYTES_OLD;
  const bounded =
    blockBytes <= BLOCK_BYTES_MAX &&
    blocks > 0 &&
    blocks <= BLOCKS_MAX &&
    freeBlocks <= blocks &&
    freeInodes <= inodes &&
    firstBlock <= 1 &&
    // A bitmap of one block has a bit for each.
    blocksPerGroup >= 8 &&
    blocksPerGroup <= 8 * blockBytes &&
    inodesPerGroup >= 1 &&
    inodesPerGroup <= 8 * blockBytes &&
    inodeBytes >= 128 &&
    inodeBytes <= blockBytes &&
    descriptorBytes >= DESCRIPTOR_BYTES_OLD &&
    descriptorBytes <= blockBytes;
  if (!bounded) return undefined;

  const groupsOf = (count: number) => Math.ceil((count - firstBlock) / blocksPerGroup);
  const groups = groupsOf(blocks);
  const descriptorsPerBlock = Math.floor(blockBytes / descriptorBytes);
  const descriptorBlocks = Math.ceil(groups / descriptorsPerBlock);
  const reservedDescriptorBlocks = u16(0xce);
  const copies = roCompat & RO_COMPAT_SPARSE_SUPER ? sparseGroups(groups) : groups;
  const inodeTableBlocks = Math.ceil((inodesPerGroup * inodeBytes) / blockBytes);
  const journalBytes = compat & COMPAT_JOURNAL ? u32(0x14c) : 0;
  const overheadBlocks =
    firstBlock +
    copies * (1 + descriptorBlocks + reservedDescriptorBlocks) +
    groups * (2 + inodeTableBlocks) +
    Math.floor(journalBytes / blockBytes);
  const state = u16(0x3a);
  return {
    blockBytes,
    blocks,
    freeBlocks,
    inodes,
    freeInodes,
    overheadBlocks: Math.min(overheadBlocks, blocks - freeBlocks),
    clean: (state & STATE_VALID) !== 0 && (state & STATE_ERROR) === 0 && (incompat & INCOMPAT_RECOVER) === 0,
    growableToBlocks:
      firstBlock + (descriptorBlocks + reservedDescriptorBlocks) * descriptorsPerBlock * blocksPerGroup,
  };
}

/** Space as `df` in a guest would say it. */
export function spaceOf(superblock: Superblock): { usedBytes: number; availableBytes: number } {
  const { blockBytes, blocks, freeBlocks, overheadBlocks } = superblock;
  const kept = Math.min(Math.floor(blocks / RESERVED_CLUSTERS_SHARE), RESERVED_CLUSTERS_MAX);
  return {
    usedBytes: (blocks - overheadBlocks - freeBlocks) * blockBytes,
    availableBytes: Math.max(0, freeBlocks - kept) * blockBytes,
  };
}

/** Groups with a copy of the superblock: 0, 1, and the powers of 3, 5 and 7. */
function sparseGroups(groups: number): number {
  let count = Math.min(groups, 2);
  for (const base of [3, 5, 7]) for (let group = base; group < groups; group *= base) count += 1;
  return count;
}
