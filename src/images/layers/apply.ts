// Applies one layer's tar stream to the tree: whiteouts, replacements and hard links by the OCI image specification, data
// straight to the disk.

import { type ImageLimits, MAX_DEPTH, MAX_PATH_BYTES } from '../limits.ts';
import type { ByteReader } from '../tar/bytes.ts';
import { TarError } from '../tar/header.ts';
import { type TarEntry, TarReader } from '../tar/reader.ts';
import { components, type Place, resolveDirectory } from './resolve.ts';
import {
  type Attributes,
  type DirectoryInode,
  type Inode,
  newDirectory,
  put,
  removeLower,
  whiteout,
} from './tree.ts';
import { keptXattrs } from './xattrs.ts';

/** Where file data goes. Offsets and order are the entry's; holes read as zeros. */
export interface DataSink {
  /** Starts a file of `size` bytes; gives its first block. */
  beginFile(size: number): number;
  write(bytes: Buffer): Promise<void>;
  hole(length: number): Promise<void>;
  endFile(): Promise<void>;
}

/** Sums over all layers of one image. */
export interface Usage {
  entries: number;
  metadataBytes: number;
}

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** AUFS's own bookkeeping (`.wh..wh.plnk`, `.wh..wh.aufs`): nothing of the image. */
const WHITEOUT_META = '.wh..wh.';
/** Linux's dev_t: 12 bits of major, 20 of minor. */
const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xf_ffff;

/** @throws TarError for what breaks the format, tries to leave the root or passes a limit. */
export async function applyLayer(
  root: DirectoryInode,
  layer: number,
  reader: ByteReader,
  sink: DataSink,
  limits: ImageLimits,
  usage: Usage,
): Promise<void> {
  const tar = new TarReader(reader);
  for (let entry = await tar.next(); entry !== undefined; entry = await tar.next()) {
    account(entry, limits, usage);
    await applyEntry(root, layer, tar, entry, sink);
  }
}

function account(entry: TarEntry, limits: ImageLimits, usage: Usage): void {
  usage.entries++;
  if (usage.entries > limits.maxEntries)
    throw new TarError(`more than ${limits.maxEntries} entries`, entry.name);
  usage.metadataBytes += entry.name.length + entry.linkName.length;
  for (const [name, value] of entry.xattrs ?? []) usage.metadataBytes += name.length + value.length;
  if (usage.metadataBytes > limits.maxMetadataBytes) {
    throw new TarError(`names, links and xattrs of more than ${limits.maxMetadataBytes} bytes`, entry.name);
  }
}

async function applyEntry(
  root: DirectoryInode,
  layer: number,
  tar: TarReader,
  entry: TarEntry,
  sink: DataSink,
): Promise<void> {
  const parts = components(entry.name);
  const name = parts.pop();
  if (name === undefined) {
    if (entry.type !== 'directory') throw new TarError('the root must be a folder', entry.name);
    Object.assign(root, attributesOf(entry));
    return;
  }
  if (parts.some((part) => part.startsWith(WHITEOUT_META))) return;
  if (name.startsWith(WHITEOUT)) {
    applyWhiteout(root, layer, parts, name, entry.name);
    return;
  }
  const parent = resolveDirectory(root, parts, layer, entry.name);
  if (parent === undefined) throw new TarError('its parent cannot be made', entry.name);
  if (parent.depth >= MAX_DEPTH) throw new TarError(`more than ${MAX_DEPTH} folders deep`, entry.name);
  const place = { parent, name };
  if (entry.type === 'directory') putDirectory(place, layer, entry);
  else put(parent, name, await makeInode(root, place, tar, entry, sink), layer);
}

function applyWhiteout(
  root: DirectoryInode,
  layer: number,
  parts: readonly string[],
  name: string,
  entry: string,
): void {
  const hidden = name.slice(WHITEOUT.length);
  if (hidden === '' || hidden === '.' || hidden === '..') throw new TarError('whiteout of no name', entry);
  const parent = resolveDirectory(root, parts, undefined, entry);
  if (parent === undefined) return;
  if (name === OPAQUE) removeLower(parent, layer);
  else if (!name.startsWith(WHITEOUT_META)) whiteout(parent, hidden, layer);
}

/** A folder over a folder keeps its content; over anything else it replaces it. */
function putDirectory(place: Place, layer: number, entry: TarEntry): void {
  const present = place.parent.children.get(place.name);
  if (present?.kind === 'directory') {
    Object.assign(present, attributesOf(entry));
    put(place.parent, place.name, present, layer);
    return;
  }
  put(place.parent, place.name, newDirectory(place.parent, place.name, attributesOf(entry)), layer);
}

async function makeInode(
  root: DirectoryInode,
  place: Place,
  tar: TarReader,
  entry: TarEntry,
  sink: DataSink,
): Promise<Inode> {
  switch (entry.type) {
    case 'link':
      return linkTarget(root, place, entry);
    case 'symlink':
      return { kind: 'symlink', ...attributesOf(entry), target: checkedTarget(entry) };
    case 'character':
    case 'block':
      checkDevice(entry);
      return { kind: entry.type, ...attributesOf(entry), major: entry.devMajor, minor: entry.devMinor };
    case 'fifo':
      return { kind: 'fifo', ...attributesOf(entry), major: 0, minor: 0 };
    default:
      return {
        kind: 'file',
        ...attributesOf(entry),
        size: entry.size,
        startBlock: await copyData(tar, entry, sink),
      };
  }
}

function linkTarget(root: DirectoryInode, place: Place, entry: TarEntry): Inode {
  const parts = components(entry.linkName);
  const name = parts.pop();
  const parent = name === undefined ? undefined : resolveDirectory(root, parts, undefined, entry.name);
  const target = name === undefined ? root : parent?.children.get(name);
  if (target === undefined) throw new TarError('hard link to a missing file', entry.name);
  if (target.kind === 'directory') throw new TarError('hard link to a folder', entry.name);
  // Unpackers remove what is at the new name first, so a link to itself has no target any more.
  if (parent === place.parent && name === place.name) throw new TarError('hard link to itself', entry.name);
  return target;
}

function checkedTarget(entry: TarEntry): string {
  const target = entry.linkName;
  if (target === '') throw new TarError('symlink without a target', entry.name);
  if (target.length > MAX_PATH_BYTES) {
    throw new TarError(`symlink target of more than ${MAX_PATH_BYTES} bytes`, entry.name);
  }
  if (target.includes('\0')) throw new TarError('symlink target holds a NUL byte', entry.name);
  return target;
}

function checkDevice(entry: TarEntry): void {
  const { devMajor: major, devMinor: minor } = entry;
  if (major < 0 || major > MAX_MAJOR || minor < 0 || minor > MAX_MINOR) {
    throw new TarError('device number is out of range', entry.name);
  }
}

async function copyData(tar: TarReader, entry: TarEntry, sink: DataSink): Promise<number> {
  if (entry.size === 0) return 0;
  const startBlock = sink.beginFile(entry.size);
  let at = 0;
  let chunk: Buffer = Buffer.alloc(0);
  for (const piece of entry.pieces) {
    await sink.hole(piece.offset - at);
    at = piece.offset;
    const end = piece.offset + piece.length;
    while (at < end) {
      if (chunk.length === 0) chunk = (await tar.data()) ?? raiseShort(entry);
      const part = chunk.subarray(0, end - at);
      chunk = chunk.subarray(part.length);
      await sink.write(part);
      at += part.length;
    }
  }
  await sink.hole(entry.size - at);
  await sink.endFile();
  return startBlock;
}

function raiseShort(entry: TarEntry): never {
  throw new TarError('ends within the data of an entry', entry.name);
}

function attributesOf(entry: TarEntry): Attributes {
  return {
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime: entry.mtime,
    xattrs: keptXattrs(entry),
  };
}
