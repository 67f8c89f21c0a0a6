// Files of a running sandbox. Paths are absolute, beneath the sandbox's root.
import type { Readable } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import { isStatus } from '../api/status.ts';
import type { FileInfo, FileListLine, FileRequests, ReadManyLine, WriteManyRequest } from '../api/wire.ts';
import { type Endpoint, errorOf } from './endpoint.ts';
import type { QueryValue, Transport } from './transport.ts';

/** Where the file is. */
export interface FileOwner {
  namespace: string;
  /** Of the sandbox. */
  name: string;
}

function base({ namespace, name }: FileOwner): string {
  return `/apis/${GROUP_VERSION}/namespaces/${encodeURIComponent(namespace)}/sandboxes/${encodeURIComponent(name)}/files`;
}

export class FileClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The content from `offset`, at most `length` bytes. A failure of the reader's says that it is not whole. */
  async read(
    owner: FileOwner,
    path: string,
    options: { offset?: number; length?: number } = {},
    signal?: AbortSignal,
  ): Promise<AsyncIterableIterator<Buffer>> {
    const response = await this.#transport.open('GET', `${base(owner)}/content`, {
      query: { path, ...options },
      ...(signal === undefined ? {} : { signal }),
    });
    return piecesOf(response, this.#transport.endpoint, signal);
  }

  /** Resolves when the whole content is in place under its name; before that the old file, if any, stays. */
  async write(
    owner: FileOwner,
    path: string,
    content: Readable,
    options: { mode?: number; user?: string } = {},
    signal?: AbortSignal,
  ): Promise<void> {
    const { mode, user } = options;
    const query: Record<string, QueryValue> = { path, user, mode: mode?.toString(8) };
    await this.#transport.request('PUT', `${base(owner)}/content`, {
      query,
      body: content,
      contentType: 'application/octet-stream',
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** Of a symbolic link itself unless `follow`. */
  async stat(
    owner: FileOwner,
    path: string,
    options: { follow?: boolean } = {},
    signal?: AbortSignal,
  ): Promise<FileInfo> {
    const request = { query: { path, ...options }, ...(signal === undefined ? {} : { signal }) };
    return (await this.#transport.request<FileInfo>('GET', `${base(owner)}/stat`, request)).body;
  }

  /** Every name in a directory, in no order. */
  async *list(owner: FileOwner, path: string, signal?: AbortSignal): AsyncGenerator<FileInfo> {
    const lines = this.#transport.lines<FileListLine>('GET', `${base(owner)}/list`, {
      query: { path },
      ...(signal === undefined ? {} : { signal }),
    });
    for await (const line of lines) {
      if ('entry' in line) yield line.entry;
      else
        throw isStatus(line.error)
          ? errorOf(line.error)
          : new BulkheadError('INTERNAL', 'the list broke off');
    }
    signal?.throwIfAborted();
  }

  /** Makes all in this order, each whole or not at all; see `WriteManyRequest`. */
  async writeMany(owner: FileOwner, body: WriteManyRequest, signal?: AbortSignal): Promise<void> {
    const request = { body, ...(signal === undefined ? {} : { signal }) };
    await this.#transport.request('POST', `${base(owner)}/write-many`, request);
  }

  /** Regular files in the order of their paths; `content` is absent of one that is too large to come with others. */
  async *readMany(
    owner: FileOwner,
    paths: readonly string[],
    signal?: AbortSignal,
  ): AsyncGenerator<{ file: FileInfo; content?: Buffer }> {
    const lines = this.#transport.lines<ReadManyLine>('POST', `${base(owner)}/read-many`, {
      body: { paths },
      ...(signal === undefined ? {} : { signal }),
    });
    let count = 0;
    for await (const line of lines) {
      if ('error' in line)
        throw isStatus(line.error)
          ? errorOf(line.error)
          : new BulkheadError('INTERNAL', 'reading the files broke off');
      const { file, content } = line;
      count++;
      yield content === undefined ? { file } : { file, content: Buffer.from(content, 'base64') };
    }
    signal?.throwIfAborted();
    if (count !== paths.length) throw new BulkheadError('INTERNAL', 'reading the files broke off');
  }

  async change<Verb extends keyof FileRequests>(
    owner: FileOwner,
    verb: Verb,
    body: FileRequests[Verb],
    signal?: AbortSignal,
  ): Promise<void> {
    const request = { body, ...(signal === undefined ? {} : { signal }) };
    await this.#transport.request('POST', `${base(owner)}/${verb}`, request);
  }
}

/** The pieces of an answer; a connection that breaks says so as any other failure does. */
function piecesOf(
  response: Readable,
  endpoint: Endpoint,
  signal: AbortSignal | undefined,
): AsyncIterableIterator<Buffer> {
  const pieces = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  return {
    async next() {
      try {
        return await pieces.next();
      } catch (error) {
        throw signal?.aborted ? signal.reason : endpoint.failure(error);
      }
    },
    // Also before the first piece was asked for, when the iterator of the answer would leave it open.
    async return() {
      response.destroy();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
