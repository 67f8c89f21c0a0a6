// Paths of tar entries to places in the tree. Nothing here can leave the root: symlinks in parents are followed inside it.

import { MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_SYMLINK_HOPS } from '../limits.ts';
import { TarError } from '../tar/header.ts';
import { type DirectoryInode, newDirectory, put } from './tree.ts';

/** A place for an entry: `name` in `parent`. */
export interface Place {
  parent: DirectoryInode;
  name: string;
}

/**
 * The components of a tar path: relative to the root whether it starts with a slash or not, without `.`; empty for the root.
 * @throws TarError for `..`, a NUL byte and names that Linux could not hold.
 */
export function components(path: string): string[] {
  if (path.length > MAX_PATH_BYTES) {
    throw new TarError(`path of more than ${MAX_PATH_BYTES} bytes`, shorten(path));
  }
  if (path.includes('\0')) throw new TarError('path holds a NUL byte', path);
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  for (const part of parts) {
    // Writers have no reason for it, and after a symlink it means different things to different readers.
    if (part === '..') throw new TarError('path climbs with ".."', path);
    if (part.length > MAX_NAME_BYTES) {
      throw new TarError(`name of more than ${MAX_NAME_BYTES} bytes`, shorten(path));
    }
  }
  return parts;
}

/**
 * The folder at `parts`, following symlinks inside the root. Folders that are missing are made for `layer`, or the answer
 * is `undefined` when `layer` is.
 * @throws TarError if a part of it is not a folder, or the symlinks loop.
 */
export function resolveDirectory(
  root: DirectoryInode,
  parts: readonly string[],
  layer: number | undefined,
  entry: string,
): DirectoryInode | undefined {
  let directory = root;
  let hops = 0;
  const pending = parts.toReversed();
  for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
    if (part === '..') {
      directory = directory.parent ?? root;
      continue;
    }
    const child = directory.children.get(part);
    if (child === undefined) {
      if (layer === undefined) return undefined;
      directory = makeDirectory(directory, part, layer, entry);
    } else if (child.kind === 'directory') {
      directory = child;
    } else if (child.kind === 'symlink') {
      hops++;
      if (hops > MAX_SYMLINK_HOPS) throw new TarError('symlinks in its parent path loop', entry);
      if (child.target.startsWith('/')) directory = root;
      const target = child.target.split('/').filter((piece) => piece !== '' && piece !== '.');
      for (const piece of target.reverse()) pending.push(piece);
    } else {
      throw new TarError('a parent of it is not a folder', entry);
    }
  }
  return directory;
}

function makeDirectory(parent: DirectoryInode, name: string, layer: number, entry: string): DirectoryInode {
  checkName(name, entry);
  const made = newDirectory(parent, name);
  if (made.depth > MAX_DEPTH) throw new TarError(`more than ${MAX_DEPTH} folders deep`, entry);
  put(parent, name, made, layer);
  return made;
}

/** Parts of a symlink's target become names here, and were not checked as an entry's path. */
function checkName(name: string, entry: string): void {
  if (name.length > MAX_NAME_BYTES) throw new TarError(`name of more than ${MAX_NAME_BYTES} bytes`, entry);
}

function shorten(path: string): string {
  return `${path.slice(0, 64)}...`;
}
