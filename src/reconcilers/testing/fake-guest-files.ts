// Files of a fake guest, as far as the reconciler changes them.
import { Readable } from 'node:stream';
import { BulkheadError } from '../../api/errors.ts';
import type { FileContent, GuestFile, GuestFiles, NewFile } from '../../guest/agent.ts';

export interface FakeFile {
  kind: 'file' | 'directory' | 'symlink';
  /** Of a link: where it leads. */
  content: string;
  mode: number;
}

/** An operation as its connection makes it. */
type Call = <T>(name: string, signal: AbortSignal | undefined, work: () => T) => Promise<T>;

export class FakeGuestFiles implements GuestFiles {
  readonly #root: Map<string, FakeFile>;
  readonly #call: Call;

  constructor(root: Map<string, FakeFile>, call: Call) {
    this.#root = root;
    this.#call = call;
  }

  read(path: string, options: { length?: number } = {}, signal?: AbortSignal): Promise<Readable> {
    return this.#call('files.read', signal, () => {
      const bytes = Buffer.from(this.#get(path).content);
      return Readable.from([bytes.subarray(0, options.length ?? bytes.length)]);
    });
  }

  async write(
    path: string,
    content: AsyncIterable<Uint8Array>,
    { mode }: { mode: number },
    signal?: AbortSignal,
  ): Promise<void> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of content) chunks.push(chunk);
    await this.#call('files.write', signal, () => {
      if (this.#root.get(path)?.kind === 'directory')
        throw new BulkheadError('FILE_FAILED', `${path}: Is a directory`);
      this.#root.set(path, { kind: 'file', content: Buffer.concat(chunks).toString(), mode });
    });
  }

  async writeMany(files: Iterable<NewFile>, _options?: unknown, signal?: AbortSignal): Promise<void> {
    for (const file of files) {
      if (file.kind === 'directory') await this.makeDirectory(file.path, file, signal);
      else if (file.kind === 'symlink') await this.symlink(file.path, file.target, signal);
      else await this.write(file.path, Readable.from([file.content]), file, signal);
    }
  }

  readMany(): AsyncIterable<FileContent> {
    throw unknown('read many files');
  }

  stat(path: string, _options?: { follow?: boolean }, signal?: AbortSignal): Promise<GuestFile> {
    return this.#call('files.stat', signal, () => {
      const { kind, content, mode } = this.#get(path);
      const sizeBytes = Buffer.byteLength(content);
      return { name: path, kind, sizeBytes, mode, uid: 0, gid: 0, modifiedMs: 0 };
    });
  }

  list(): AsyncIterable<GuestFile> {
    throw unknown('list');
  }

  makeDirectory(path: string, { mode }: { mode: number }, signal?: AbortSignal): Promise<void> {
    return this.#call('files.makeDirectory', signal, () => {
      if (!this.#root.has(path)) this.#root.set(path, { kind: 'directory', content: '', mode });
    });
  }

  remove(path: string, _what: unknown, signal?: AbortSignal): Promise<void> {
    return this.#call('files.remove', signal, () => {
      this.#get(path);
      for (const each of [...this.#root.keys()])
        if (each === path || each.startsWith(`${path}/`)) this.#root.delete(each);
    });
  }

  async rename(): Promise<void> {
    throw unknown('rename');
  }

  async copy(): Promise<void> {
    throw unknown('copy');
  }

  symlink(path: string, target: string, signal?: AbortSignal): Promise<void> {
    return this.#call('files.symlink', signal, () => {
      this.#root.set(path, { kind: 'symlink', content: target, mode: 0o777 });
    });
  }

  sync(signal?: AbortSignal): Promise<void> {
    return this.#call('files.sync', signal, () => {});
  }

  #get(path: string): FakeFile {
    const file = this.#root.get(path);
    if (file === undefined) throw new BulkheadError('NOT_FOUND', `${path}: No such file or directory`);
    return file;
  }
}

function unknown(what: string): BulkheadError {
  return new BulkheadError('NOT_SUPPORTED', `the fake guest cannot ${what}`);
}
