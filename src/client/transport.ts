// Requests to the daemon over its unix socket. Node's own HTTP client: a command line loads it in no time.
import type { IncomingMessage } from 'node:http';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import { codeOfReason, isStatus, type Status } from '../api/status.ts';
import { deferred } from './deferred.ts';

/** Not imported: that would look at every export, and so load Node's whole fetch, which takes longer than all of the SDK. */
const { Agent, request: httpRequest } = createRequire(import.meta.url)(
  'node:http',
) as typeof import('node:http');

export type QueryValue = string | number | boolean | readonly string[] | undefined;

export interface RequestOptions {
  query?: Record<string, QueryValue>;
  /** Sent as JSON, or as it is where it is a stream. */
  body?: unknown;
  contentType?: string;
  signal?: AbortSignal;
}

export interface Response<T> {
  status: number;
  body: T;
}

/** Answers that are no stream are small; more than this is no answer of ours. Lists come in pages. */
const ANSWER_BYTES_MAX = 512 * 1024 * 1024;

/** `?a=1&b=x&b=y`, or nothing. */
export function queryString(query: Record<string, QueryValue> | undefined): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === undefined) continue;
    for (const each of Array.isArray(value) ? value : [value]) params.append(name, String(each));
  }
  const text = params.toString();
  return text === '' ? '' : `?${text}`;
}

/** The failure that a `Status` describes, with its causes. */
export function errorOf(status: Status): BulkheadError {
  const causes = (status.details?.causes ?? []).map(({ reason = '', field = '', message }) => ({
    reason,
    field,
    message,
  }));
  return new BulkheadError(codeOfReason(status.reason), status.message, { causes });
}

/** Why nothing could be sent or received. */
export function connectionError(error: unknown, socketPath: string): BulkheadError {
  if (error instanceof BulkheadError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    ENOENT: `no daemon runs: there is no socket ${socketPath}`,
    ECONNREFUSED: `no daemon runs: nothing answers at ${socketPath}`,
    EACCES: `no permission to open ${socketPath}: run this as the user that the daemon runs as`,
    ECONNRESET: 'the daemon closed the connection',
    EPIPE: 'the daemon closed the connection',
  };
  const text = reasons[code ?? ''] ?? `the daemon at ${socketPath} cannot be reached: ${message}`;
  return new BulkheadError('DAEMON_UNAVAILABLE', text, { cause: error });
}

/** Reads an answer to its end. */
async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) {
      throw new BulkheadError('TOO_LARGE', `the answer has more than ${ANSWER_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function parseJson(text: string, status: number): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const start = text.slice(0, 200);
    throw new BulkheadError('INTERNAL', `the server answered ${status} with what is no JSON: ${start}`, {
      cause: error,
    });
  }
}

/** The failure in the body of an answer that is none of 2xx. */
export async function failureOf(response: IncomingMessage): Promise<BulkheadError> {
  const status = response.statusCode ?? 0;
  const body = parseJson(await textOf(response), status);
  return isStatus(body) ? errorOf(body) : new BulkheadError('INTERNAL', `the server answered ${status}`);
}

export class Transport {
  readonly socketPath: string;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  /** Sends a request and returns the answer once its headers are there. Fails with the server's own error for non-2xx. */
  async open(method: string, path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
    const { query, body, contentType = 'application/json', signal } = options;
    const { promise, resolve, reject } = deferred<IncomingMessage>();
    const text = body === undefined || body instanceof Readable ? '' : JSON.stringify(body);
    const request = httpRequest(
      {
        socketPath: this.socketPath,
        agent: this.#agent,
        method,
        path: `${path}${queryString(query)}`,
        headers: {
          accept: 'application/json',
          host: 'localhost',
          ...(body === undefined ? {} : { 'content-type': contentType }),
          // Node sends a DELETE's body without its length unless told.
          ...(text === '' ? {} : { 'content-length': Buffer.byteLength(text) }),
        },
        ...(signal === undefined ? {} : { signal }),
      },
      resolve,
    );
    request.on('error', reject);
    if (body instanceof Readable) {
      body.on('error', (error) => request.destroy(error));
      body.pipe(request);
    } else {
      request.end(text);
    }
    try {
      const response = await promise;
      // What breaks later shows where the answer is read.
      request.on('error', () => {});
      const status = response.statusCode ?? 0;
      if (status < 200 || status > 299) throw await failureOf(response);
      return response;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw connectionError(error, this.socketPath);
    }
  }

  /** One JSON answer. */
  async request<T>(method: string, path: string, options: RequestOptions = {}): Promise<Response<T>> {
    const response = await this.open(method, path, options);
    try {
      const text = await textOf(response);
      const status = response.statusCode ?? 0;
      return { status, body: (text === '' ? undefined : parseJson(text, status)) as T };
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      throw connectionError(error, this.socketPath);
    }
  }

  /** One answer of plain text. */
  async text(method: string, path: string): Promise<string> {
    const response = await this.open(method, path);
    try {
      return await textOf(response);
    } catch (error) {
      throw connectionError(error, this.socketPath);
    }
  }

  /** An answer of one JSON value per line, as it arrives. */
  async *lines<T>(method: string, path: string, options: RequestOptions = {}): AsyncGenerator<T> {
    const response = await this.open(method, path, options);
    let rest = '';
    try {
      response.setEncoding('utf8');
      for await (const chunk of response as AsyncIterable<string>) {
        const parts = (rest + chunk).split('\n');
        rest = parts.pop() ?? '';
        for (const line of parts) if (line !== '') yield parseJson(line, 200) as T;
      }
    } catch (error) {
      if (options.signal?.aborted) return;
      throw connectionError(error, this.socketPath);
    } finally {
      response.destroy();
    }
  }

  close(): void {
    this.#agent.destroy();
  }
}
