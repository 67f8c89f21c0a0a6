// Files of a sandbox, from programs. Paths are absolute and the sandbox's own, except where a parameter says host.
import { posix } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { BulkheadError } from '../api/errors.ts';
import type { FileInfo } from '../api/wire.ts';
import type { CopyOptions } from '../client/copy.ts';
import type { FileClient, FileOwner } from '../client/files.ts';
import type { FsEntryKind } from './enums.ts';
import { typed, withTypedErrors } from './errors.ts';
import { webReadable, webWritable } from './web.ts';

export interface FsEntry {
  /** Absolute. */
  path: string;
  kind: FsEntryKind;
  size: number;
  /** Permission bits. */
  mode: number;
  modified: Date;
}

export interface FsMetadata {
  kind: FsEntryKind;
  size: number;
  mode: number;
  /** Nobody may write to it. */
  readonly: boolean;
  modified: Date;
  /** `null` where the file system does not record it. */
  created: Date | null;
}

/** One of many files to be written. */
export interface FsNewFile {
  path: string;
  data: Uint8Array | string;
  /** Permission bits, 0o644 when absent. */
  mode?: number;
}

export interface FsOptions {
  signal?: AbortSignal;
}

/** The content of a file, piece by piece. */
export class FsReadStream implements AsyncIterable<Buffer> {
  readonly #pieces: AsyncIterator<Buffer>;

  constructor(pieces: AsyncIterator<Buffer>) {
    this.#pieces = pieces;
  }

  /** The next piece; `null` after the last one. */
  async recv(): Promise<Buffer | null> {
    const next = await withTypedErrors(() => this.#pieces.next());
    return next.done ? null : next.value;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void> {
    try {
      for (let piece = await this.recv(); piece !== null; piece = await this.recv()) yield piece;
    } finally {
      await this.close();
    }
  }

  /** As a web stream. */
  toWeb(): ReadableStream<Uint8Array> {
    return webReadable<Uint8Array>(this);
  }

  /** Ends the transfer early. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A file that is being written. It is in place, whole, when `close` resolves; before that the old one stays. */
export class FsWriteSink {
  readonly #content: Readable;
  readonly #done: Promise<void>;
  /** Writes that wait for room. */
  readonly #waiting = new Set<() => void>();

  constructor(start: (content: Readable) => Promise<void>) {
    this.#content = new Readable({ read: () => this.#drained() });
    this.#done = start(this.#content);
    // Told by write and close.
    this.#done.catch(() => this.#drained());
  }

  /** Resolves when there is room for more. */
  async write(data: Uint8Array | string): Promise<void> {
    if (this.#content.destroyed) await this.#done;
    let resolve = (): void => {};
    const drained = new Promise<void>((each) => {
      resolve = each;
    });
    this.#waiting.add(resolve);
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    if (this.#content.push(bytes)) this.#waiting.delete(resolve);
    else await Promise.race([drained, this.#done]);
  }

  #drained(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  async close(): Promise<void> {
    this.#content.push(null);
    await this.#done;
  }

  /** Gives up: the old file, if any, stays. */
  async abort(): Promise<void> {
    this.#content.destroy(new BulkheadError('FILE_FAILED', 'the writing was given up'));
    await this.#done.catch(() => {});
  }

  /** As a web stream. */
  toWeb(): WritableStream<Uint8Array> {
    return webWritable(this);
  }
}

export class SandboxFs {
  readonly #files: FileClient;
  readonly #owner: FileOwner;

  constructor(files: FileClient, owner: FileOwner) {
    this.#files = files;
    this.#owner = owner;
  }

  async read(path: string, options: FsOptions & { offset?: number; length?: number } = {}): Promise<Buffer> {
    const { signal, ...part } = options;
    return withTypedErrors(async () => buffer(await this.#files.read(this.#owner, path, part, signal)));
  }

  /** As UTF-8. */
  async readString(path: string, options: FsOptions = {}): Promise<string> {
    return (await this.read(path, options)).toString();
  }

  async readStream(
    path: string,
    options: FsOptions & { offset?: number; length?: number } = {},
  ): Promise<FsReadStream> {
    const { signal, ...part } = options;
    return withTypedErrors(
      async () => new FsReadStream(await this.#files.read(this.#owner, path, part, signal)),
    );
  }

  /** In place, whole, when it resolves. `mode`: permission bits, 0o644 when absent. */
  async write(
    path: string,
    data: Uint8Array | string | AsyncIterable<Uint8Array>,
    options: FsOptions & { mode?: number; user?: string } = {},
  ): Promise<void> {
    const { signal, ...how } = options;
    const pieces = typeof data === 'string' ? [Buffer.from(data)] : isIterable(data) ? data : [data];
    const content = Readable.from(pieces, { objectMode: false });
    await withTypedErrors(() => this.#files.write(this.#owner, path, content, how, signal));
  }

  writeStream(path: string, options: FsOptions & { mode?: number; user?: string } = {}): FsWriteSink {
    const { signal, ...how } = options;
    return new FsWriteSink((content) =>
      withTypedErrors(() => this.#files.write(this.#owner, path, content, how, signal)),
    );
  }

  /**
   * Makes many files in few round trips: in this order, each whole or not at all, and all on their disk when it resolves. The first
   * that cannot be made ends it, and those before it stay. `parents`: directories that are missing above them are made. `user` owns
   * the files.
   */
  async writeMany(
    files: Iterable<FsNewFile>,
    options: FsOptions & { user?: string; parents?: boolean } = {},
  ): Promise<void> {
    const { parents = false, ...rest } = options;
    await withTypedErrors(async () => {
      const { FileBatch } = await import('../client/many-files.ts');
      const batch = new FileBatch(this.#files, this.#owner, rest);
      const made = new Set(['', '.', '/']);
      for (const { path, data, mode } of files) {
        const parent = posix.dirname(path);
        if (parents && !made.has(parent)) await batch.add({ kind: 'directory', path: parent });
        made.add(parent);
        const content = typeof data === 'string' ? Buffer.from(data) : data;
        await batch.add({ kind: 'file', path, content, ...(mode === undefined ? {} : { mode }) });
      }
      await batch.flush();
    });
  }

  /** Contents of many files in few round trips, in the order of their paths. Fails as a whole where one of them cannot be read. */
  async readMany(paths: readonly string[], options: FsOptions = {}): Promise<Buffer[]> {
    return withTypedErrors(async () => {
      const { contentsOf } = await import('../client/many-files.ts');
      const contents: Buffer[] = [];
      for await (const { content } of contentsOf(this.#files, this.#owner, paths, options.signal))
        contents.push(content);
      return contents;
    });
  }

  /** By name. */
  async list(path: string, options: FsOptions = {}): Promise<FsEntry[]> {
    return withTypedErrors(async () => {
      const entries: FsEntry[] = [];
      for await (const info of this.#files.list(this.#owner, path, options.signal))
        entries.push(toEntry(`${path.replace(/\/+$/, '')}/${info.name}`, info));
      return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
    });
  }

  /** With all above it; nothing is wrong when it is there. */
  async mkdir(path: string, options: FsOptions & { mode?: number } = {}): Promise<void> {
    const { signal, mode } = options;
    const body = { path, parents: true, ...(mode === undefined ? {} : { mode }) };
    await withTypedErrors(() => this.#files.change(this.#owner, 'mkdir', body, signal));
  }

  /** A file or link. */
  async remove(path: string, options: FsOptions = {}): Promise<void> {
    const body = { path, what: 'file' } as const;
    await withTypedErrors(() => this.#files.change(this.#owner, 'remove', body, options.signal));
  }

  /** A directory with all below it. */
  async removeDir(path: string, options: FsOptions = {}): Promise<void> {
    const body = { path, what: 'tree' } as const;
    await withTypedErrors(() => this.#files.change(this.#owner, 'remove', body, options.signal));
  }

  /** Content, mode and owner of a file. */
  async copy(from: string, to: string, options: FsOptions = {}): Promise<void> {
    const body = { path: from, to };
    await withTypedErrors(() => this.#files.change(this.#owner, 'copy', body, options.signal));
  }

  /** Replaces what has the name already. */
  async rename(from: string, to: string, options: FsOptions = {}): Promise<void> {
    const body = { path: from, to };
    await withTypedErrors(() => this.#files.change(this.#owner, 'rename', body, options.signal));
  }

  /** A symbolic link at `path`, in place of a file or link that has the name already. `target` is taken as it is. */
  async symlink(target: string, path: string, options: FsOptions = {}): Promise<void> {
    const body = { path, target };
    await withTypedErrors(() => this.#files.change(this.#owner, 'symlink', body, options.signal));
  }

  /** Of what a link leads to. */
  async stat(path: string, options: FsOptions = {}): Promise<FsMetadata> {
    const info = await withTypedErrors(() =>
      this.#files.stat(this.#owner, path, { follow: true }, options.signal),
    );
    return {
      kind: info.kind,
      size: info.sizeBytes,
      mode: info.mode,
      readonly: (info.mode & 0o222) === 0,
      modified: new Date(info.modifiedMs),
      created: info.createdMs === undefined ? null : new Date(info.createdMs),
    };
  }

  async exists(path: string, options: FsOptions = {}): Promise<boolean> {
    try {
      await this.#files.stat(this.#owner, path, { follow: true }, options.signal);
      return true;
    } catch (error) {
      if (error instanceof BulkheadError && error.code === 'NOT_FOUND') return false;
      throw typed(error);
    }
  }

  /** A file or directory of this host; within `guestPath` where that is a directory. Resolves with where it is. */
  async copyFromHost(hostPath: string, guestPath: string, options: CopyOptions = {}): Promise<string> {
    const { copyIn } = await import('../client/copy.ts');
    return withTypedErrors(() => copyIn(this.#files, this.#owner, hostPath, guestPath, options));
  }

  /** A file or directory of the sandbox; within `hostPath` where that is a directory. Resolves with where it is. */
  async copyToHost(guestPath: string, hostPath: string, options: CopyOptions = {}): Promise<string> {
    const { copyOut } = await import('../client/copy.ts');
    return withTypedErrors(() => copyOut(this.#files, this.#owner, guestPath, hostPath, options));
  }
}

function isIterable(data: Uint8Array | AsyncIterable<Uint8Array>): data is AsyncIterable<Uint8Array> {
  return Symbol.asyncIterator in data;
}

function toEntry(path: string, info: FileInfo): FsEntry {
  return {
    path,
    kind: info.kind,
    size: info.sizeBytes,
    mode: info.mode,
    modified: new Date(info.modifiedMs),
  };
}
