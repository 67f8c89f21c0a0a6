// What a guest saw of its root file system: the image below, the upper disk above, put together as overlayfs does it, as one tar.
import type { FileHandle } from 'node:fs/promises';
import { BulkheadError } from '../../api/errors.ts';
import { type DiskEntry, walkDisk } from '../erofs/reader.ts';
import { type Ext4Inode, Ext4Reader, ROOT_INODE } from '../ext4/reader.ts';
import type { ImageLimits } from '../limits.ts';
import { encodeTarHeader, TAR_END, type TarWriteEntry, tarPadding } from '../tar/writer.ts';

/** The upper directory on the upper disk; beside it is overlayfs's own work directory. */
const UPPER_NAME = 'root';
const OPAQUE = 'trusted.overlay.opaque';
const REDIRECT = 'trusted.overlay.redirect';
const OVERLAY = 'trusted.overlay.';
const DEPTH_MAX = 1024;

/** A name of the image. */
interface Lower {
  entry: DiskEntry;
  children: Map<string, Lower>;
}

interface Merge {
  ext4: Ext4Reader;
  root: Lower;
  limits: ImageLimits;
  /** Where each inode with several names was put first. */
  seen: Map<string, string>;
  /** Directories of the upper disk on the way to the present one, which a damaged disk may lead into again. */
  entries: number;
  contentBytes: number;
}

/** The bytes of the tar. Throws DISK_DAMAGED, and IMAGE_INVALID for more than an image may have. */
export async function* mergedTar(
  image: FileHandle,
  upper: FileHandle,
  limits: ImageLimits,
): AsyncGenerator<Buffer> {
  const ext4 = await Ext4Reader.open(upper);
  const root = await lowerTree(image);
  const merge: Merge = { ext4, root, limits, seen: new Map(), entries: 0, contentBytes: 0 };
  const top = await ext4.list(await ext4.inode(ROOT_INODE), limits.maxEntries);
  const found = top.find(({ name }) => name === UPPER_NAME);
  // A guest that never came up has nothing above its image.
  const inode = found === undefined ? undefined : await ext4.inode(found.inode);
  yield* directory(merge, '', inode, root, 0);
  yield TAR_END;
}

async function lowerTree(image: FileHandle): Promise<Lower> {
  let root: Lower | undefined;
  const directories = new Map<string, Lower>();
  for await (const entry of walkDisk(image)) {
    const node: Lower = { entry, children: new Map() };
    const slash = entry.path.lastIndexOf('/');
    if (entry.path === '') root = node;
    else
      directories
        .get(entry.path.slice(0, Math.max(0, slash)))
        ?.children.set(entry.path.slice(slash + 1), node);
    if (entry.inode.kind === 'directory') directories.set(entry.path, node);
  }
  if (root === undefined) throw new BulkheadError('INTERNAL', 'the disk of the image has no root');
  return root;
}

/** A directory and all below it; of the upper disk, of the image, or of both. */
async function* directory(
  merge: Merge,
  path: string,
  upper: Ext4Inode | undefined,
  lower: Lower | undefined,
  depth: number,
): AsyncGenerator<Buffer> {
  if (depth > DEPTH_MAX) throw refused(path, `is deeper than ${DEPTH_MAX} levels`);
  count(merge, path);
  const attributes =
    upper === undefined ? (lower === undefined ? undefined : ofImage(lower.entry)) : ofUpper(upper);
  if (attributes === undefined) return;
  yield encodeTarHeader({ ...attributes, type: 'directory', name: `${path === '' ? '.' : path}/`, size: 0 });
  const names = new Map<string, Ext4Inode>();
  if (upper !== undefined)
    for (const { name, inode } of await merge.ext4.list(upper, merge.limits.maxEntries))
      names.set(name, await merge.ext4.inode(inode));
  const below = lower?.children ?? new Map<string, Lower>();
  for (const name of [...new Set([...names.keys(), ...below.keys()])].sort()) {
    const child = path === '' ? name : `${path}/${name}`;
    const above = names.get(name);
    const hidden = below.get(name);
    if (above === undefined) {
      if (hidden !== undefined) yield* imageNode(merge, child, hidden, depth + 1);
    } else if (above.kind === 'directory') {
      yield* directory(merge, child, above, lowerOf(merge, above, lower, hidden, child), depth + 1);
    } else if (!isWhiteout(above)) yield* upperNode(merge, child, above);
  }
}

/** What of the image is below a directory of the upper disk: nothing, what has its name, or what it was before it was renamed. */
function lowerOf(
  { root }: Merge,
  upper: Ext4Inode,
  lowerParent: Lower | undefined,
  hidden: Lower | undefined,
  path: string,
): Lower | undefined {
  const redirect = upper.xattrs.get(REDIRECT)?.toString('latin1');
  if (redirect !== undefined) {
    let at: Lower | undefined = redirect.startsWith('/') ? root : lowerParent;
    for (const part of redirect.split('/')) if (part !== '') at = at?.children.get(part);
    if (at?.entry.inode.kind !== 'directory')
      throw refused(path, 'was renamed from what the image does not have');
    return at;
  }
  if (upper.xattrs.get(OPAQUE)?.toString() === 'y') return undefined;
  return hidden?.entry.inode.kind === 'directory' ? hidden : undefined;
}

async function* imageNode(merge: Merge, path: string, node: Lower, depth: number): AsyncGenerator<Buffer> {
  const { entry } = node;
  if (entry.inode.kind === 'directory') {
    yield* directory(merge, path, undefined, node, depth);
    return;
  }
  count(merge, path);
  const attributes = ofImage(entry);
  const first = merge.seen.get(`image ${entry.nid}`);
  if (first !== undefined) {
    yield linkTo(attributes, path, first);
    return;
  }
  merge.seen.set(`image ${entry.nid}`, path);
  yield encodeTarHeader({ ...attributes, name: path });
  if (entry.inode.kind !== 'file') return;
  yield* entry.data();
  yield tarPadding(entry.inode.size);
}

async function* upperNode(merge: Merge, path: string, inode: Ext4Inode): AsyncGenerator<Buffer> {
  // Nobody listens to it any more.
  if (inode.kind === 'socket') return;
  count(merge, path);
  const linkName = inode.kind === 'symlink' ? await merge.ext4.target(inode) : '';
  const attributes = { ...ofUpper(inode), linkName };
  const first = inode.links > 1 ? merge.seen.get(`upper ${inode.number}`) : undefined;
  if (first !== undefined) {
    yield linkTo(attributes, path, first);
    return;
  }
  merge.seen.set(`upper ${inode.number}`, path);
  if (inode.kind !== 'file') {
    yield encodeTarHeader({ ...attributes, name: path, size: 0 });
    return;
  }
  merge.contentBytes += inode.size;
  if (merge.contentBytes > merge.ext4.sizeBytes)
    throw refused(path, 'is sparse: files of a new image hold no more than the disk of the sandbox');
  yield encodeTarHeader({ ...attributes, name: path });
  yield* merge.ext4.data(inode);
  yield tarPadding(inode.size);
}

function linkTo(attributes: TarWriteEntry, path: string, first: string): Buffer {
  return encodeTarHeader({
    ...attributes,
    type: 'link',
    name: path,
    linkName: first,
    size: 0,
    xattrs: undefined,
  });
}

function isWhiteout({ kind, major, minor }: Ext4Inode): boolean {
  return kind === 'character' && major === 0 && minor === 0;
}

function count(merge: Merge, path: string): void {
  merge.entries += 1;
  if (merge.entries > merge.limits.maxEntries)
    throw refused(path, `is one of more than ${merge.limits.maxEntries} names`);
}

function ofImage({ inode, target, major, minor, xattrs }: DiskEntry): TarWriteEntry {
  return {
    ...{ type: inode.kind, name: '', linkName: target, mode: inode.mode, uid: inode.uid, gid: inode.gid },
    size: inode.kind === 'file' ? inode.size : 0,
    mtime: { seconds: inode.seconds, nanoseconds: inode.nanoseconds },
    ...{ devMajor: major, devMinor: minor, xattrs },
  };
}

function ofUpper(inode: Ext4Inode): TarWriteEntry {
  const { kind, mode, uid, gid, mtime, major, minor } = inode;
  const xattrs = new Map([...inode.xattrs].filter(([name]) => !name.startsWith(OVERLAY)));
  return {
    ...{ type: kind === 'socket' ? 'file' : kind, name: '', mode, uid, gid, mtime },
    size: kind === 'file' ? inode.size : 0,
    ...{ devMajor: major, devMinor: minor },
    xattrs: xattrs.size === 0 ? undefined : xattrs,
  };
}

function refused(path: string, why: string): BulkheadError {
  const shown = JSON.stringify(path.slice(0, 200)).replace(/[^\x20-\x7e]/g, '?');
  return new BulkheadError('IMAGE_INVALID', `${shown} ${why}.`);
}
