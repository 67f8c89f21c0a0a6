// Files without a guest: a tree in memory with the rules that the server depends on.
import { dirname } from 'node:path/posix';
import { Readable } from 'node:stream';
import { BulkheadError } from '../../api/errors.ts';
import type { FileContent, FileRemoval, GuestFile, GuestFiles, NewFile } from '../../guest/agent.ts';

interface Entry {
  kind: 'file' | 'directory' | 'symlink';
  /** Of a link: its target. */
  data: Buffer;
  mode: number;
}

export class FakeFiles implements GuestFiles {
  readonly entries = new Map<string, Entry>([
    ['/', { kind: 'directory', data: Buffer.alloc(0), mode: 0o755 }],
  ]);
  /** Paths whose content breaks in the middle of a read. */
  readonly broken = new Set<string>();
  /** Owners of writes, as they were asked for. */
  readonly users: (string | undefined)[] = [];
  /** How many names each session about many files had. */
  readonly together: number[] = [];
  /** Operations under way, and the most there were at once. */
  running = 0;
  mostRunning = 0;
  /** While set, every operation waits for it. */
  gate: Promise<void> | undefined;

  async #enter<T>(work: () => T | Promise<T>): Promise<T> {
    this.running++;
    this.mostRunning = Math.max(this.mostRunning, this.running);
    try {
      await this.gate;
      return await work();
    } finally {
      this.running--;
    }
  }

  #get(path: string): Entry {
    const entry = this.entries.get(path);
    if (entry === undefined) throw new BulkheadError('NOT_FOUND', `${path}: No such file or directory`);
    return entry;
  }

  #describe(path: string): GuestFile {
    const { kind, data, mode } = this.#get(path);
    const name = path.slice(path.lastIndexOf('/') + 1);
    return {
      ...{ name, kind, sizeBytes: data.length, mode, uid: 0, gid: 0, modifiedMs: 1_700_000_000_000 },
      ...(kind === 'symlink' ? { target: data.toString() } : {}),
    };
  }

  read(path: string, options: { offset?: number; length?: number } = {}): Promise<Readable> {
    return this.#enter(() => {
      const { data } = this.#get(path);
      const { offset = 0, length = data.length } = options;
      const broken = this.broken.has(path);
      return Readable.from(
        (async function* () {
          yield data.subarray(offset, offset + length);
          if (broken) throw new BulkheadError('FILE_FAILED', `reading ${path} failed: I/O error`);
        })(),
        { objectMode: false },
      );
    });
  }

  write(
    path: string,
    content: AsyncIterable<Uint8Array>,
    options: { mode: number; user?: string },
  ): Promise<void> {
    return this.#enter(async () => {
      const pieces: Uint8Array[] = [];
      for await (const piece of content) pieces.push(piece);
      this.users.push(options.user);
      this.entries.set(path, { kind: 'file', data: Buffer.concat(pieces), mode: options.mode });
    });
  }

  writeMany(files: Iterable<NewFile>, options: { user?: string } = {}): Promise<void> {
    return this.#enter(() => {
      this.together.push(0);
      for (const file of files) {
        const at = this.together.length - 1;
        this.together[at] = (this.together[at] ?? 0) + 1;
        if (file.kind === 'file') this.users.push(options.user);
        const data =
          file.kind === 'file' ? file.content : file.kind === 'symlink' ? file.target : Buffer.alloc(0);
        if (!this.entries.has(dirname(file.path)) && file.kind !== 'directory')
          throw new BulkheadError('NOT_FOUND', `${file.path}: No such file or directory`);
        const mode = file.kind === 'symlink' ? 0o777 : file.mode;
        this.entries.set(file.path, { kind: file.kind, data: Buffer.from(data), mode });
      }
    });
  }

  async *readMany(
    paths: readonly string[],
    { contentMax }: { contentMax: number },
  ): AsyncGenerator<FileContent> {
    this.together.push(paths.length);
    for (const path of paths) this.#get(path);
    for (const path of paths) {
      const file = this.#describe(path);
      if (this.broken.has(path)) throw new BulkheadError('FILE_FAILED', `${path}: I/O error`);
      yield file.sizeBytes > contentMax ? { file } : { file, content: this.#get(path).data };
    }
  }

  stat(path: string): Promise<GuestFile> {
    return this.#enter(() => this.#describe(path));
  }

  async *list(path: string): AsyncGenerator<GuestFile> {
    if (this.#get(path).kind !== 'directory')
      throw new BulkheadError('NOT_FOUND', `${path}: Not a directory`);
    const prefix = path === '/' ? '/' : `${path}/`;
    for (const each of this.entries.keys()) {
      if (each !== '/' && each.startsWith(prefix) && !each.slice(prefix.length).includes('/'))
        yield this.#describe(each);
    }
    if (this.broken.has(path)) throw new BulkheadError('FILE_FAILED', `listing ${path} failed: I/O error`);
  }

  makeDirectory(path: string, { mode }: { mode: number; parents: boolean }): Promise<void> {
    return this.#enter(() => {
      this.entries.set(path, { kind: 'directory', data: Buffer.alloc(0), mode });
    });
  }

  remove(path: string, what: FileRemoval): Promise<void> {
    return this.#enter(() => {
      this.#get(path);
      for (const each of [...this.entries.keys()])
        if (each === path || (what === 'tree' && each.startsWith(`${path}/`))) this.entries.delete(each);
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#enter(() => {
      this.entries.set(to, this.#get(from));
      this.entries.delete(from);
    });
  }

  copy(from: string, to: string): Promise<void> {
    return this.#enter(() => {
      this.entries.set(to, { ...this.#get(from) });
    });
  }

  symlink(path: string, target: string): Promise<void> {
    return this.#enter(() => {
      this.entries.set(path, { kind: 'symlink', data: Buffer.from(target), mode: 0o777 });
    });
  }

  async sync(): Promise<void> {}
}
