// Files and trees between this host and a sandbox. The guest's names and links are hostile: what comes out is built in a
// directory that nobody else can reach, each name made once, and put in place by a rename. What goes in is read by descriptor:
// a name that becomes a link meanwhile leads nowhere else.
import { constants, createWriteStream } from 'node:fs';
import {
  type FileHandle,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { BulkheadError } from '../api/errors.ts';
import { type FileInfo, MANY_FILES_BYTES_MAX, MANY_FILES_CONTENT_MAX, MANY_FILES_MAX } from '../api/wire.ts';
import type { FileClient, FileOwner } from './files.ts';
import { FileBatch } from './many-files.ts';

export interface CopyOptions {
  signal?: AbortSignal;
  /** Called with the bytes of content so far. */
  onProgress?: (bytes: number) => void;
  /** Called for each name that is neither file, directory nor link, and is left out. */
  onSkipped?: (path: string) => void;
}

/** Names in one copy: beyond any honest tree, and below what fills a host's inodes. */
const ENTRIES_MAX = 1_000_000;
/** Directories within directories. */
const DEPTH_MAX = 128;

class Copy {
  readonly files: FileClient;
  readonly owner: FileOwner;
  readonly options: CopyOptions;
  #bytes = 0;
  #entries = 0;

  constructor(files: FileClient, owner: FileOwner, options: CopyOptions) {
    this.files = files;
    this.owner = owner;
    this.options = options;
  }

  /** Counts the name in, and gives up on trees without end. */
  enter(path: string, depth: number): void {
    this.options.signal?.throwIfAborted();
    if (++this.#entries > ENTRIES_MAX)
      throw new BulkheadError('TOO_LARGE', `more than ${ENTRIES_MAX} names; the copy stopped at ${path}`);
    if (depth > DEPTH_MAX)
      throw new BulkheadError('TOO_LARGE', `${path}: nested deeper than ${DEPTH_MAX} directories`);
  }

  /** Passes the pieces on, counted. */
  async *counted(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of pieces) {
      this.count(piece.length);
      yield piece;
    }
  }

  count(bytes: number): void {
    this.#bytes += bytes;
    this.options.onProgress?.(this.#bytes);
  }
}

/** The name that a copy gets: within the target where that is a directory, as with cp. */
async function insideDirectory(
  target: string,
  name: string,
  isDirectory: (path: string) => Promise<boolean>,
): Promise<string> {
  return (await isDirectory(target)) ? join(target, name) : target;
}

/** Copies a file or directory of this host into the sandbox. Resolves with the path that it has there. */
export async function copyIn(
  files: FileClient,
  owner: FileOwner,
  hostPath: string,
  guestPath: string,
  options: CopyOptions = {},
): Promise<string> {
  const copy = new Copy(files, owner, options);
  const source = resolve(hostPath);
  const target = await insideDirectory(guestPath, basename(source), async (path) => {
    const info = await statOrNothing(files, owner, path, options.signal);
    return info?.kind === 'directory';
  });
  await sendTree(copy, source, target);
  return target;
}

/** The same, to exactly this path, whatever is there. `mode`: permission bits of a file in place of its own. */
export async function copyInAs(
  files: FileClient,
  owner: FileOwner,
  hostPath: string,
  guestPath: string,
  options: CopyOptions & { mode?: number } = {},
): Promise<void> {
  await sendTree(new Copy(files, owner, options), resolve(hostPath), guestPath, options.mode);
}

/** O_NONBLOCK: a named pipe must not be waited for. */
const OPEN_NAMED = constants.O_RDONLY | constants.O_NONBLOCK;
const OPEN_BELOW = OPEN_NAMED | constants.O_NOFOLLOW;

/** The path that was named is followed where it is a link; what lies below is taken as it is. */
async function sendTree(copy: Copy, from: string, to: string, mode?: number): Promise<void> {
  copy.enter(from, 0);
  const { files, owner, options } = copy;
  const batch = new FileBatch(files, owner, options.signal === undefined ? {} : { signal: options.signal });
  const source = await open(from, OPEN_NAMED);
  try {
    await sendOpened(copy, batch, source, from, to, 0, mode);
  } finally {
    await source.close();
  }
  await batch.flush();
}

async function sendOpened(
  copy: Copy,
  batch: FileBatch,
  source: FileHandle,
  from: string,
  to: string,
  depth: number,
  fileMode?: number,
): Promise<void> {
  const { files, owner, options } = copy;
  const info = await source.stat();
  const mode = info.mode & 0o7777;
  if (info.isFile()) {
    const pieces = source.createReadStream({ autoClose: false });
    if (depth > 0 && info.size <= MANY_FILES_CONTENT_MAX) {
      await batch.add({ kind: 'file', path: to, mode, content: await buffer(copy.counted(pieces)) });
      return;
    }
    await batch.flush();
    const content = Readable.from(copy.counted(pieces), { objectMode: false });
    await files.write(owner, to, content, { mode: fileMode ?? mode }, options.signal);
  } else if (info.isDirectory()) {
    await batch.add({ kind: 'directory', path: to, mode });
    const within = placeOf(source, from);
    for (const entry of await readdir(within, { withFileTypes: true })) {
      const { name } = entry;
      const [shown, target] = [join(from, name), `${to === '/' ? '' : to}/${name}`];
      copy.enter(shown, depth + 1);
      if (entry.isSymbolicLink()) {
        const link = await readlink(join(within, name));
        await batch.add({ kind: 'symlink', path: target, target: link });
      } else if (entry.isFile() || entry.isDirectory()) {
        const below = await open(join(within, name), OPEN_BELOW);
        try {
          await sendOpened(copy, batch, below, shown, target, depth + 1);
        } finally {
          await below.close();
        }
      } else options.onSkipped?.(shown);
    }
  } else options.onSkipped?.(from);
}

/** A directory that is open, whatever has its name by now; where the system cannot say so, by its name. */
function placeOf(directory: FileHandle, path: string): string {
  return process.platform === 'linux' ? `/proc/self/fd/${directory.fd}` : path;
}

async function statOrNothing(
  files: FileClient,
  owner: FileOwner,
  path: string,
  signal?: AbortSignal,
): Promise<FileInfo | undefined> {
  try {
    return await files.stat(owner, path, { follow: true }, signal);
  } catch (error) {
    if (error instanceof BulkheadError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

/**
 * Copies a file or directory of the sandbox to this host. Owners and set-id bits are not taken over. Resolves with the path
 * that it has here; where it fails nothing of it is left.
 */
export async function copyOut(
  files: FileClient,
  owner: FileOwner,
  guestPath: string,
  hostPath: string,
  options: CopyOptions = {},
): Promise<string> {
  const copy = new Copy(files, owner, options);
  const info = await files.stat(owner, guestPath, { follow: true }, options.signal);
  const name = info.name === '' || info.name === '/' ? 'root' : singleName(info.name);
  const target = await insideDirectory(resolve(hostPath), name, isHostDirectory);
  const staging = await mkdtemp(join(dirname(target), '.bulkhead-cp-'));
  try {
    const staged = join(staging, 'copy');
    await receiveTree(copy, guestPath, staged, info, 0);
    // A directory does not replace one that has files, a file no directory: rename refuses both.
    await rename(staged, target);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  return target;
}

async function isHostDirectory(path: string): Promise<boolean> {
  return lstat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}

/** A name that stays where it is put. */
function singleName(name: string): string {
  if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name))
    throw new BulkheadError(
      'FILE_FAILED',
      `the sandbox lists a name that none can be: ${JSON.stringify(name)}`,
    );
  return name;
}

async function receiveTree(
  copy: Copy,
  from: string,
  to: string,
  info: FileInfo,
  depth: number,
): Promise<void> {
  const { files, owner, options } = copy;
  copy.enter(from, depth);
  const mode = info.mode & 0o777;
  if (info.kind === 'file') {
    await receiveFile(copy, from, to, mode);
  } else if (info.kind === 'directory') {
    await mkdir(to, { mode: mode | 0o700 });
    const small = new SmallFiles(copy);
    for await (const entry of files.list(owner, from, options.signal)) {
      const below = `${from === '/' ? '' : from}/${entry.name}`;
      const target = join(to, singleName(entry.name));
      if (small.takes(entry)) {
        copy.enter(below, depth + 1);
        await small.add(below, target, entry);
      } else await receiveTree(copy, below, target, entry, depth + 1);
    }
    await small.flush();
  } else if (info.kind === 'symlink') {
    await symlink(info.target ?? '', to);
  } else {
    options.onSkipped?.(from);
  }
}

/** wx: a guest that lists a name twice, as a link and as a file, must not be written through. */
const NEW = 'wx';

async function receiveFile(copy: Copy, from: string, to: string, mode: number): Promise<void> {
  const { files, owner, options } = copy;
  const content = await files.read(owner, from, {}, options.signal);
  await pipeline(copy.counted(content), createWriteStream(to, { mode, flags: NEW }));
}

/** Files of one directory that are fetched together. */
class SmallFiles {
  readonly #copy: Copy;
  #waiting: { from: string; to: string; mode: number }[] = [];
  /** As the guest says. */
  #bytes = 0;

  constructor(copy: Copy) {
    this.#copy = copy;
  }

  takes({ kind, sizeBytes }: FileInfo): boolean {
    return kind === 'file' && sizeBytes <= MANY_FILES_CONTENT_MAX;
  }

  async add(from: string, to: string, { mode, sizeBytes }: FileInfo): Promise<void> {
    this.#waiting.push({ from, to, mode: mode & 0o777 });
    this.#bytes += sizeBytes;
    if (this.#waiting.length === MANY_FILES_MAX || this.#bytes >= MANY_FILES_BYTES_MAX) await this.flush();
  }

  async flush(): Promise<void> {
    const { files, owner, options } = this.#copy;
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    this.#bytes = 0;
    const paths = waiting.map(({ from }) => from);
    let at = 0;
    for await (const { content } of files.readMany(owner, paths, options.signal)) {
      const { from, to, mode } = waiting[at++] as (typeof waiting)[number];
      // One that has grown meanwhile comes by itself.
      if (content === undefined) await receiveFile(this.#copy, from, to, mode);
      else {
        await writeFile(to, content, { mode, flag: NEW });
        this.#copy.count(content.length);
      }
    }
  }
}
