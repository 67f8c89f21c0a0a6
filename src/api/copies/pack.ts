// Reads what a patch copies: a file or a folder below a base folder, and never anything outside of it. Each name is opened
// relative to the directory that holds it, by descriptor and without following a link, so that nothing that moves meanwhile
// leads elsewhere. Links in a folder are copied as links.
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, readlink, realpath } from 'node:fs/promises';
import { sep } from 'node:path';
import { BulkheadError } from '../errors.ts';
import {
  COPY_BYTES_MAX,
  COPY_DEPTH_MAX,
  COPY_ENTRIES_MAX,
  type CopyEntry,
  digestOfBundle,
  encodeBundle,
} from './bundle.ts';

export interface PackedCopy {
  digest: string;
  bytes: Buffer;
}

export interface PackOptions {
  /** Real path that the base folder must not lead out of. */
  within?: string;
  /** Permission bits of a file that is copied by itself, in place of its own. */
  mode?: number;
}

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** O_NONBLOCK: a named pipe must not be waited for. */
const ANY = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const PERMISSIONS = 0o777;
const LINK_MODE = 0o777;

interface Packing {
  entries: CopyEntry[];
  contents: Buffer[];
  bytes: number;
  mode: number | undefined;
}

/** Throws INVALID, saying which name is wrong and why; TOO_LARGE beyond the limits of bundle.ts. */
export async function packCopy(base: string, from: string, options: PackOptions = {}): Promise<PackedCopy> {
  const parts = from.split('/').filter((part) => part !== '' && part !== '.');
  if (from.startsWith('/') || parts.includes('..')) throw wrong(from, 'it leads out of the folder');
  const packing: Packing = { entries: [], contents: [], bytes: 0, mode: options.mode };
  let directory = await openBase(base, options);
  try {
    const last = parts.pop();
    for (const part of parts) {
      const next = await openBelow(directory, part, from, DIRECTORY);
      await directory.close();
      directory = next;
    }
    if (last === undefined) await addDirectory(packing, directory, '', from, 0);
    else await addNamed(packing, directory, last, '', from, 0);
  } finally {
    await directory.close();
  }
  const bytes = encodeBundle(packing.entries, packing.contents);
  return { digest: digestOfBundle(bytes), bytes };
}

async function openBase(base: string, { within }: PackOptions): Promise<FileHandle> {
  const real = await realpath(base).catch((error: unknown) => {
    throw wrong(base, reasonOf(error));
  });
  const directory = await open(real, DIRECTORY).catch((error: unknown) => {
    throw wrong(base, reasonOf(error));
  });
  // The kernel's own word for what was opened.
  const opened = await readlink(`/proc/self/fd/${directory.fd}`);
  if (opened === real && (within === undefined || real === within || `${real}/`.startsWith(within + sep)))
    return directory;
  await directory.close();
  throw wrong(base, 'it leads out of the folder');
}

async function openBelow(
  directory: FileHandle,
  name: string,
  shown: string,
  flags: number,
): Promise<FileHandle> {
  try {
    return await open(`/proc/self/fd/${directory.fd}/${name}`, flags);
  } catch (error) {
    throw wrong(shown, reasonOf(error));
  }
}

async function addNamed(
  packing: Packing,
  directory: FileHandle,
  name: string,
  path: string,
  shown: string,
  depth: number,
): Promise<void> {
  const file = await openBelow(directory, name, shown, ANY);
  try {
    const stat = await file.stat();
    if (stat.isDirectory()) await addDirectory(packing, file, path, shown, depth);
    else if (stat.isFile()) await addFile(packing, file, path, shown, stat);
    else throw wrong(shown, 'it is neither a file nor a folder');
  } finally {
    await file.close();
  }
}

async function addDirectory(
  packing: Packing,
  directory: FileHandle,
  path: string,
  shown: string,
  depth: number,
): Promise<void> {
  if (depth > COPY_DEPTH_MAX) throw wrong(shown, `it is deeper than ${COPY_DEPTH_MAX} levels`);
  const { mode } = await directory.stat();
  add(packing, { path, kind: 'directory', mode: mode & PERMISSIONS }, shown);
  const found = await readdir(`/proc/self/fd/${directory.fd}`, { withFileTypes: true });
  for (const each of found.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const { name } = each;
    const childPath = path === '' ? name : `${path}/${name}`;
    const childShown = `${shown}/${name}`;
    if (name.includes('\ufffd')) throw wrong(childShown, 'its name is not valid UTF-8');
    if (each.isSymbolicLink()) await addLink(packing, directory, name, childPath, childShown);
    else await addNamed(packing, directory, name, childPath, childShown, depth + 1);
  }
}

async function addLink(
  packing: Packing,
  directory: FileHandle,
  name: string,
  path: string,
  shown: string,
): Promise<void> {
  const target = await readlink(`/proc/self/fd/${directory.fd}/${name}`).catch((error: unknown) => {
    throw wrong(shown, reasonOf(error));
  });
  add(packing, { path, kind: 'symlink', mode: LINK_MODE, target }, shown);
}

async function addFile(
  packing: Packing,
  file: FileHandle,
  path: string,
  shown: string,
  stat: { size: number; mode: number },
): Promise<void> {
  if (packing.bytes + stat.size > COPY_BYTES_MAX) throw tooLarge(shown);
  // One byte more than announced: a file that grows shows as a longer read.
  const buffer = Buffer.alloc(stat.size + 1);
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  if (length !== stat.size) throw wrong(shown, 'it changed while it was read');
  packing.bytes += length;
  const mode = (path === '' ? packing.mode : undefined) ?? stat.mode;
  add(packing, { path, kind: 'file', mode: mode & PERMISSIONS, size: length }, shown);
  packing.contents.push(buffer.subarray(0, length));
}

function add(packing: Packing, entry: CopyEntry, shown: string): void {
  if (packing.entries.length === COPY_ENTRIES_MAX)
    throw new BulkheadError(
      'TOO_LARGE',
      `${shown}: a copy has at most ${COPY_ENTRIES_MAX} files, folders and links; put more into the image`,
    );
  packing.entries.push(entry);
}

function tooLarge(shown: string): BulkheadError {
  return new BulkheadError(
    'TOO_LARGE',
    `${shown}: a copy has at most ${COPY_BYTES_MAX} bytes; put more into the image`,
  );
}

function wrong(shown: string, why: string): BulkheadError {
  return new BulkheadError('INVALID', `${shown}: ${why}`);
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or folder',
  ENOTDIR: 'a part of it is no folder, or a link, and links are not followed',
  ELOOP: 'it is a link, and links are not followed',
  EACCES: 'it cannot be read',
  ENXIO: 'it is neither a file nor a folder',
  ENODEV: 'it is neither a file nor a folder',
};

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return REASONS[code] ?? (error instanceof Error ? error.message : String(error));
}
