// The merged file tree of an image, in memory: metadata only, the data is on the disk already.

/** Attributes that every inode has. */
export interface Attributes {
  /** Permission bits, 07777 at most. */
  mode: number;
  uid: number;
  gid: number;
  mtime: { seconds: number; nanoseconds: number };
  /** Names with their namespace (`security.capability`), latin1. */
  xattrs: ReadonlyMap<string, Buffer> | undefined;
}

export interface FileInode extends Attributes {
  kind: 'file';
  size: number;
  /** First block of the data; 0 for an empty file. */
  startBlock: number;
}

export interface SymlinkInode extends Attributes {
  kind: 'symlink';
  /** Latin1. */
  target: string;
}

export interface SpecialInode extends Attributes {
  kind: 'character' | 'block' | 'fifo';
  major: number;
  minor: number;
}

export interface DirectoryInode extends Attributes {
  kind: 'directory';
  parent: DirectoryInode | undefined;
  /** Name in `parent`: folders have one only. */
  name: string;
  depth: number;
  /** By name, latin1. Hard links are one inode under several names. */
  children: Map<string, Inode>;
  /** The layer that `upper` is about. */
  upperLayer: number;
  /** Names that layer `upperLayer` put here itself: its own whiteouts leave them alone. */
  upper: Set<string>;
}

export type Inode = FileInode | SymlinkInode | SpecialInode | DirectoryInode;

/** Folders that no layer describes are the system's: root's, readable by all, from the epoch (so that output repeats). */
const IMPLIED_DIRECTORY: Attributes = {
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: { seconds: 0, nanoseconds: 0 },
  xattrs: undefined,
};

export function newDirectory(
  parent: DirectoryInode | undefined,
  name: string,
  attributes = IMPLIED_DIRECTORY,
): DirectoryInode {
  return {
    kind: 'directory',
    ...attributes,
    parent,
    name,
    depth: parent === undefined ? 0 : parent.depth + 1,
    children: new Map(),
    upperLayer: -1,
    upper: new Set(),
  };
}

/** Puts `inode` at `name`, and notes for this layer's whiteouts that the name and all folders above it are its own. */
export function put(parent: DirectoryInode, name: string, inode: Inode, layer: number): void {
  parent.children.set(name, inode);
  markUpper(parent, name, layer);
}

/** Notes that `layer` itself has `name` in `parent`, and so every folder above. */
export function markUpper(parent: DirectoryInode, name: string, layer: number): void {
  let directory = parent;
  let child = name;
  for (;;) {
    if (directory.upperLayer !== layer) {
      directory.upperLayer = layer;
      directory.upper = new Set();
    } else if (directory.upper.has(child)) {
      return;
    }
    directory.upper.add(child);
    const above = directory.parent;
    if (above === undefined) return;
    child = directory.name;
    directory = above;
  }
}

/** Removes from `directory` all that lower layers put there, and keeps what `layer` itself put there. */
export function removeLower(directory: DirectoryInode, layer: number): void {
  const stack = [directory];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const own = next.upperLayer === layer ? next.upper : undefined;
    for (const [name, child] of next.children) {
      if (!own?.has(name)) next.children.delete(name);
      else if (child.kind === 'directory') stack.push(child);
    }
  }
}

/** Removes `name` from `directory` as far as lower layers put it there. */
export function whiteout(directory: DirectoryInode, name: string, layer: number): void {
  const child = directory.children.get(name);
  if (child === undefined) return;
  const own = directory.upperLayer === layer && directory.upper.has(name);
  if (!own) directory.children.delete(name);
  else if (child.kind === 'directory') removeLower(child, layer);
}
