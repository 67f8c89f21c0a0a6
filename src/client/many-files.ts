// Many files of a sandbox in few round trips: what is small goes together, what is large by itself.
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import {
  MANY_FILES_BYTES_MAX,
  MANY_FILES_CONTENT_MAX,
  MANY_FILES_MAX,
  type NewFileBody,
} from '../api/wire.ts';
import type { FileClient, FileOwner } from './files.ts';

/** Something to be made; a file's content as bytes. */
export type NewFile =
  | { kind: 'file'; path: string; mode?: number; content: Uint8Array }
  | Exclude<NewFileBody, { content: string }>;

export interface ManyFilesOptions {
  /** Owner of the files. */
  user?: string;
  signal?: AbortSignal;
}

/** Makes what it is given, in that order: at the latest at `flush`. */
export class FileBatch {
  readonly #files: FileClient;
  readonly #owner: FileOwner;
  readonly #options: ManyFilesOptions;
  #waiting: NewFileBody[] = [];
  #bytes = 0;

  constructor(files: FileClient, owner: FileOwner, options: ManyFilesOptions = {}) {
    this.#files = files;
    this.#owner = owner;
    this.#options = options;
  }

  async add(file: NewFile): Promise<void> {
    if (file.kind !== 'file') {
      await this.#wait(file, 0);
    } else if (file.content.length <= MANY_FILES_CONTENT_MAX) {
      const { byteOffset, length, buffer: memory } = file.content;
      const content = Buffer.from(memory, byteOffset, length).toString('base64');
      await this.#wait({ ...file, content }, length);
    } else {
      await this.flush();
      const { path, content, mode } = file;
      const { user, signal } = this.#options;
      const how = { ...(mode === undefined ? {} : { mode }), ...(user === undefined ? {} : { user }) };
      await this.#files.write(
        this.#owner,
        path,
        Readable.from([content], { objectMode: false }),
        how,
        signal,
      );
    }
  }

  async #wait(file: NewFileBody, bytes: number): Promise<void> {
    if (this.#waiting.length === MANY_FILES_MAX || this.#bytes + bytes > MANY_FILES_BYTES_MAX)
      await this.flush();
    this.#waiting.push(file);
    this.#bytes += bytes;
  }

  async flush(): Promise<void> {
    if (this.#waiting.length === 0) return;
    const { user, signal } = this.#options;
    const files = this.#waiting;
    this.#waiting = [];
    this.#bytes = 0;
    await this.#files.writeMany(this.#owner, { files, ...(user === undefined ? {} : { user }) }, signal);
  }
}

/** Contents of regular files, in the order of their paths. */
export async function* contentsOf(
  files: FileClient,
  owner: FileOwner,
  paths: readonly string[],
  signal?: AbortSignal,
): AsyncGenerator<{ path: string; content: Buffer }> {
  for (let from = 0; from < paths.length; from += MANY_FILES_MAX) {
    const some = paths.slice(from, from + MANY_FILES_MAX);
    let at = 0;
    for await (const { content } of files.readMany(owner, some, signal)) {
      const path = some[at++] ?? '';
      if (content !== undefined) yield { path, content };
      else yield { path, content: await buffer(await files.read(owner, path, {}, signal)) };
    }
  }
}
