// What a patch of the kind `copy` puts into a sandbox, as one run of bytes that its digest names: a line with magic and the
// length of the list, the list as JSON, then the content of the files one after another. The same tree is the same bytes.
import { createHash } from 'node:crypto';
import { BulkheadError } from '../errors.ts';

/** A copy travels through the agent's channel at each first start and is held in memory meanwhile; more belongs into the image. */
export const COPY_BYTES_MAX = 32 * 1024 * 1024;
/** Each is an operation of the agent, a few milliseconds without KVM: all of them fit well into the time that a boot may take. */
export const COPY_ENTRIES_MAX = 2_000;
/** Levels below the folder that is copied. */
export const COPY_DEPTH_MAX = 32;
/** Of one name in the tree, as the kernel bounds it. */
const NAME_BYTES_MAX = 255;
/** Of the path of an entry and of what a link says. */
const PATH_BYTES_MAX = 4_096;
/** The list of COPY_ENTRIES_MAX paths of usual length, with much to spare. */
const LIST_BYTES_MAX = 2 * 1024 * 1024;
/** Largest bundle that there can be. */
export const BUNDLE_BYTES_MAX = COPY_BYTES_MAX + LIST_BYTES_MAX + 64;

const MAGIC = 'bulkhead-copy/1';
const HEAD = /^bulkhead-copy\/1 (\d{1,8})\n/;
/** Of a mode only who may read, write and run: nothing that is copied gets more rights than that. */
const MODE_BITS = 0o777;

/** One name of what is copied. */
export interface CopyEntry {
  /** Relative to what is copied; empty for itself. */
  path: string;
  kind: 'file' | 'directory' | 'symlink';
  /** Permission bits. */
  mode: number;
  /** Of a file, in bytes. */
  size?: number;
  /** What a link says. */
  target?: string;
}

export interface CopyBundle {
  /** The first is what is copied itself, a file or a directory; each directory comes before what is in it. */
  entries: readonly CopyEntry[];
  /** Content of a file of this bundle. */
  contentOf(path: string): Uint8Array;
}

/** `sha256:...` of the bytes of a bundle. */
export function digestOfBundle(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** `contents` in the order of the files among the entries. Throws TOO_LARGE. */
export function encodeBundle(entries: readonly CopyEntry[], contents: readonly Uint8Array[]): Buffer {
  const list = Buffer.from(JSON.stringify(entries));
  if (list.length > LIST_BYTES_MAX) throw new BulkheadError('TOO_LARGE', 'its names are too long in all');
  return Buffer.concat([Buffer.from(`${MAGIC} ${list.length}\n`), list, ...contents]);
}

/** Throws INVALID for what `encodeBundle` does not make: bundles come from clients. */
export function decodeBundle(bytes: Buffer): CopyBundle {
  const head = HEAD.exec(bytes.toString('latin1', 0, MAGIC.length + 10));
  const listAt = head?.[0].length ?? 0;
  const listBytes = Number(head?.[1] ?? 0);
  if (head === null || listBytes > LIST_BYTES_MAX || listAt + listBytes > bytes.length)
    throw invalid('it does not begin as one');
  const entries = entriesOf(parse(bytes.toString('utf8', listAt, listAt + listBytes)));
  let at = listAt + listBytes;
  const contents = new Map<string, Buffer>();
  for (const { path, kind, size = 0 } of entries) {
    if (kind !== 'file') continue;
    contents.set(path, bytes.subarray(at, at + size));
    at += size;
  }
  if (at !== bytes.length) throw invalid('its content is not as long as its list says');
  return { entries, contentOf: (path) => contents.get(path) ?? Buffer.alloc(0) };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid('its list is no JSON');
  }
}

function entriesOf(value: unknown): CopyEntry[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > COPY_ENTRIES_MAX)
    throw invalid(`its list must have 1 to ${COPY_ENTRIES_MAX} entries`);
  const directories = new Set<string>();
  const seen = new Set<string>();
  let total = 0;
  const entries = value.map((each: unknown, index) => {
    const entry = entryOf(each);
    const { path, kind } = entry;
    if ((index === 0) !== (path === '') || (index === 0 && kind === 'symlink'))
      throw invalid('its first entry must be what is copied, and no other');
    if (seen.has(path) || (index > 0 && !directories.has(parentOf(path))))
      throw invalid(`"${path}" is there twice, or in no directory`);
    seen.add(path);
    if (kind === 'directory') directories.add(path);
    total += entry.size ?? 0;
    return entry;
  });
  if (total > COPY_BYTES_MAX) throw invalid(`it has more than ${COPY_BYTES_MAX} bytes`);
  return entries;
}

function entryOf(value: unknown): CopyEntry {
  const { path, kind, mode, size, target } = (value ?? {}) as Partial<Record<keyof CopyEntry, unknown>>;
  if (typeof path !== 'string' || !isPath(path)) throw invalid('a path of it leads elsewhere');
  if (typeof mode !== 'number' || !Number.isInteger(mode) || (mode & MODE_BITS) !== mode)
    throw invalid(`the mode of "${path}" is none`);
  switch (kind) {
    case 'directory':
      return { path, kind, mode };
    case 'file':
      if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
        throw invalid(`the size of "${path}" is none`);
      return { path, kind, mode, size };
    case 'symlink':
      if (typeof target !== 'string' || !isTarget(target)) throw invalid(`the link "${path}" says nothing`);
      return { path, kind, mode, target };
    default:
      throw invalid(`"${path}" is neither file, directory nor link`);
  }
}

function isPath(path: string): boolean {
  if (path === '') return true;
  const parts = path.split('/');
  return (
    parts.length <= COPY_DEPTH_MAX &&
    Buffer.byteLength(path) <= PATH_BYTES_MAX &&
    !path.includes('\0') &&
    parts.every(
      (part) => part !== '' && part !== '.' && part !== '..' && Buffer.byteLength(part) <= NAME_BYTES_MAX,
    )
  );
}

function isTarget(target: string): boolean {
  return target !== '' && !target.includes('\0') && Buffer.byteLength(target) < PATH_BYTES_MAX;
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

function invalid(why: string): BulkheadError {
  return new BulkheadError('INVALID', `This is no content of a copy: ${why}.`);
}
