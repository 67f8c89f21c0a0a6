// One consistent reading of the watched folder. Either all of it belongs to one moment, or the pass is told what does not.
import { createHash } from 'node:crypto';
import { join, sep } from 'node:path';
import { isIgnoredName, isManifestName } from './ignore.ts';
import { errorCode, type FileType, MovedError, OversizeError, type SnapshotFs } from './snapshot-fs.ts';

export interface SnapshotLimits {
  /** Bytes of one file. */
  maxFileBytes: number;
  /** Bytes of all files: what one pass holds in memory. */
  maxTotalBytes: number;
  /** Manifest files. */
  maxFiles: number;
  /** Directory entries looked at, manifests or not: bounds the walk itself. */
  maxEntries: number;
  /** Directories below the root. */
  maxDepth: number;
}

/** Generous for a folder that people keep by hand or by git, far from what hurts the daemon. */
export const SNAPSHOT_LIMITS: SnapshotLimits = {
  maxFileBytes: 4 << 20,
  maxTotalBytes: 128 << 20,
  maxFiles: 20_000,
  maxEntries: 100_000,
  maxDepth: 16,
};

/** A folder that never stays still is read this often before the pass goes on without pruning. */
const MAX_ATTEMPTS = 5;

/** Files open at once; more only queue up in libuv's four threads. */
const READ_CONCURRENCY = 8;

export interface SnapshotFile {
  /** Relative to the root, with `/`. */
  path: string;
  bytes: Buffer;
  /** sha256 of the bytes, hex. */
  digest: string;
}

export interface SnapshotFailure {
  /** Relative to the root; the root itself is ''. Covers everything below it when it is a directory. */
  path: string;
  /**
   * `unreadable`: we do not know what is there, so nothing may be taken for deleted.
   * `refused`: we know and will not have it; only objects from this very file are affected.
   */
  kind: 'unreadable' | 'refused';
  message: string;
}

export interface Snapshot {
  realRoot: string;
  /** `st_dev` of the real root. */
  device: string;
  /** Sorted by path. */
  files: SnapshotFile[];
  failures: SnapshotFailure[];
  /** sha256 over every path and content, hex. */
  digest: string;
}

/** `unavailable`: the folder as a whole could not be read; nothing can be said about what it declares. */
export type SnapshotResult = { type: 'read'; snapshot: Snapshot } | { type: 'unavailable'; message: string };

export interface SnapshotOptions {
  fs: SnapshotFs;
  limits: SnapshotLimits;
  recursive: boolean;
}

class LimitError extends Error {}

/** What one attempt saw; checked again at its end. */
interface Walk {
  realRoot: string;
  options: SnapshotOptions;
  /** Real directories with the manifest-relevant names found in them. */
  listings: Map<string, string>;
  /** Links followed, with where they led. */
  links: Map<string, string>;
  /** Manifests found: path in the tree to the real path. */
  found: Map<string, string>;
  failures: SnapshotFailure[];
  entries: number;
  /** The last attempt takes what holds still and freezes the rest, instead of starting again. */
  last: boolean;
}

/** Reads the folder. Never throws for what the folder holds or lacks. */
export async function takeSnapshot(root: string, options: SnapshotOptions): Promise<SnapshotResult> {
  for (let attempt = 1; ; attempt++) {
    try {
      const result = await attemptSnapshot(root, options, attempt === MAX_ATTEMPTS);
      return { type: 'read', snapshot: result };
    } catch (error) {
      if (error instanceof MovedError && attempt < MAX_ATTEMPTS) continue;
      return { type: 'unavailable', message: describeRootError(root, error) };
    }
  }
}

function describeRootError(root: string, error: unknown): string {
  if (error instanceof LimitError || error instanceof MovedError) return `${root}: ${error.message}`;
  const code = errorCode(error);
  if (code === 'ENOENT') return `${root} does not exist`;
  if (code === 'ENOTDIR') return `${root} is not a directory`;
  return `${root} cannot be read: ${messageOf(error)}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function attemptSnapshot(root: string, options: SnapshotOptions, last: boolean): Promise<Snapshot> {
  const { fs } = options;
  const realRoot = await fs.realpath(root);
  const { type, device } = await fs.entry(realRoot);
  if (type !== 'directory') throw Object.assign(new Error('not a directory'), { code: 'ENOTDIR' });

  const walk: Walk = {
    realRoot,
    options,
    listings: new Map(),
    links: new Map(),
    found: new Map(),
    failures: [],
    entries: 0,
    last,
  };
  await walkDirectory(walk, realRoot, '', [realRoot]);
  const files = await readFiles(walk);

  if ((await fs.realpath(root)) !== realRoot) throw new MovedError(root);
  await checkLinks(walk);
  const changed = await changedDirectories(walk);
  if (changed.length > 0 && !last) throw new MovedError(changed[0] ?? root);
  for (const directory of changed) {
    unreadable(walk, relativeTo(realRoot, directory), 'it changes faster than it can be read');
  }
  return { realRoot, device, files, failures: sorted(walk.failures), digest: digestOf(files) };
}

async function walkDirectory(walk: Walk, real: string, path: string, chain: string[]): Promise<void> {
  const { fs, limits, recursive } = walk.options;
  const names = await list(fs, real).catch((error: unknown) => {
    // The root's own failure is the whole pass's; a deeper one freezes what we know from there.
    if (path === '') throw error;
    unreadable(walk, path, messageOf(error));
    return undefined;
  });
  if (names === undefined) return;
  walk.listings.set(real, names.join('\0'));
  walk.entries += names.length;
  if (walk.entries > limits.maxEntries) throw new LimitError(`more than ${limits.maxEntries} entries`);

  for (const name of names) {
    const child = path === '' ? name : `${path}/${name}`;
    const target = await resolve(walk, join(real, name), child);
    if (target === undefined) continue;
    if (target.type === 'directory') {
      if (!recursive) continue;
      if (chain.includes(target.real)) refused(walk, child, 'the link leads back to a directory above it');
      else if (chain.length > limits.maxDepth)
        unreadable(walk, child, `deeper than ${limits.maxDepth} levels`);
      else await walkDirectory(walk, target.real, child, [...chain, target.real]);
    } else if (isManifestName(name)) {
      if (target.type === 'file') walk.found.set(child, target.real);
      else refused(walk, child, 'not a regular file');
      if (walk.found.size > limits.maxFiles)
        throw new LimitError(`more than ${limits.maxFiles} manifest files`);
    }
  }
}

async function list(fs: SnapshotFs, directory: string): Promise<string[]> {
  const names = await fs.names(directory);
  return names.filter((name) => !isIgnoredName(name)).sort();
}

/** What a name leads to; undefined (with a failure noted) for what the pass does not follow. */
async function resolve(
  walk: Walk,
  location: string,
  path: string,
): Promise<{ type: FileType; real: string } | undefined> {
  const { fs } = walk.options;
  if (path.includes('\ufffd')) {
    refused(walk, path, 'the name is not valid UTF-8');
    return undefined;
  }
  const entry = await fs.entry(location).catch((error: unknown) => noteEntryError(walk, path, error));
  if (entry === undefined) return undefined;
  if (entry.type !== 'symlink') return { type: entry.type, real: location };

  let real: string;
  try {
    real = await fs.realpath(location);
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ELOOP') {
      // Remembered, so that a target that appears meanwhile restarts the pass.
      walk.links.set(location, '');
      if (isManifestName(path)) refused(walk, path, 'the link leads nowhere');
    } else unreadable(walk, path, messageOf(error));
    return undefined;
  }
  walk.links.set(location, real);
  if (real !== walk.realRoot && !real.startsWith(walk.realRoot + sep)) {
    refused(walk, path, 'the link leads out of the folder');
    return undefined;
  }
  const target = await fs.entry(real).catch((error: unknown) => noteEntryError(walk, path, error));
  return target && { type: target.type, real };
}

function noteEntryError(walk: Walk, path: string, error: unknown): undefined {
  if (errorCode(error) === 'ENOENT' && !walk.last) throw new MovedError(path);
  unreadable(walk, path, messageOf(error));
  return undefined;
}

async function readFiles(walk: Walk): Promise<SnapshotFile[]> {
  const { fs, limits } = walk.options;
  // Shared by the workers: each takes the next file, and the first failure of the whole pass ends them all.
  const queue = walk.found.entries();
  const files: SnapshotFile[] = [];
  let total = 0;
  let stopped = false;
  const worker = async (): Promise<void> => {
    for (const [path, real] of queue) {
      if (stopped) return;
      try {
        const bytes = await fs.read(real, limits.maxFileBytes);
        total += bytes.length;
        if (total > limits.maxTotalBytes)
          throw new LimitError(`more than ${limits.maxTotalBytes} bytes in all`);
        files.push({ path, bytes, digest: createHash('sha256').update(bytes).digest('hex') });
      } catch (error) {
        try {
          noteReadError(walk, path, error);
        } catch (fatal) {
          stopped = true;
          throw fatal;
        }
      }
    }
  };
  await Promise.all(Array.from({ length: READ_CONCURRENCY }, worker));
  return sorted(files);
}

function noteReadError(walk: Walk, path: string, error: unknown): void {
  if (error instanceof LimitError) throw error;
  if (error instanceof OversizeError) {
    refused(walk, path, error.message);
    return;
  }
  const code = errorCode(error);
  const moved = error instanceof MovedError || code === 'ENOENT' || code === 'ELOOP';
  if (moved && !walk.last) throw new MovedError(path);
  unreadable(walk, path, messageOf(error));
}

async function checkLinks(walk: Walk): Promise<void> {
  for (const [link, target] of walk.links) {
    const now = await walk.options.fs.realpath(link).catch(() => '');
    if (now !== target) throw new MovedError(link);
  }
}

/** A file moved from a directory not yet listed into one already listed would be missing from both: list again. */
async function changedDirectories(walk: Walk): Promise<string[]> {
  const changed: string[] = [];
  for (const [directory, names] of walk.listings) {
    const now = await list(walk.options.fs, directory).catch(() => undefined);
    if (now?.join('\0') !== names) changed.push(directory);
  }
  return changed;
}

function digestOf(files: SnapshotFile[]): string {
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${file.path}\0${file.bytes.length}\0`).update(file.bytes);
  return hash.digest('hex');
}

function relativeTo(root: string, path: string): string {
  return path === root ? '' : path.slice(root.length + 1);
}

function sorted<T extends { path: string }>(items: T[]): T[] {
  return items.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

function unreadable(walk: Walk, path: string, message: string): void {
  walk.failures.push({ path, kind: 'unreadable', message });
}

function refused(walk: Walk, path: string, message: string): void {
  walk.failures.push({ path, kind: 'refused', message });
}
