// Requests to a Kubernetes API server, bounded in size and time, with its refusals as errors of ours.
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { type Dispatcher, request } from 'undici';
import { BulkheadError } from '../../api/errors.ts';
import { apiFailure } from './failures.ts';
import type { ApiServer } from './kube-config.ts';

/** A request that is no watch: the API server's own limit for one is a minute. */
const REQUEST_TIMEOUT_MS = 60_000;
/** One answer. A page of a list holds at most 500 objects, of which few are near their limit of 1 MiB. */
const MAX_ANSWER_BYTES = 128 * 1024 * 1024;
/** One line of a watch: two objects at their limit fit, as JSON. */
const MAX_LINE_BYTES = 8 * 1024 * 1024;
/** A watch without a line for so long has lost its connection: bookmarks come each minute. */
const WATCH_SILENCE_MS = 150_000;

/** A server without room is asked so often in all; it says itself when, but is not waited for longer than so. */
const MAX_ATTEMPTS = 4;
const MAX_RETRY_AFTER_MS = 5_000;
/** Longer by up to this part, so that those who were refused together do not come back together. */
const RETRY_JITTER = 0.5;

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export type PatchType =
  | 'application/merge-patch+json'
  | 'application/apply-patch+yaml'
  | 'application/json-patch+json';

export interface ApiRequest {
  method: Method;
  /** From the root, e.g. `/api/v1/namespaces/default/secrets`. */
  path: string;
  query?: Readonly<Record<string, string | undefined>>;
  body?: unknown;
  /** Of the body; `application/json` where absent. */
  contentType?: PatchType;
  signal?: AbortSignal;
}

/** What is told of each request, for the metrics: `code` is the status, or `<error>` where none came. */
export type RequestObserver = (told: { method: Method; host: string; code: string }) => void;

export class ApiClient {
  readonly #server: ApiServer;
  readonly #observe: RequestObserver;
  readonly #host: string;

  constructor(server: ApiServer, observe: RequestObserver = () => undefined) {
    this.#server = server;
    this.#observe = observe;
    this.#host = new URL(server.url).host;
  }

  /**
   * The parsed answer. A server that has no room now (429) says when it may be asked again, and has done nothing: it is asked
   * again by then, a few times. Fails with what the API server says, or API_SERVER_UNAVAILABLE where it does not answer.
   */
  async send(asked: ApiRequest): Promise<unknown> {
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const signal = asked.signal === undefined ? timeout : AbortSignal.any([asked.signal, timeout]);
    for (let left = MAX_ATTEMPTS; ; left -= 1) {
      const response = await this.#request(asked, signal);
      const waitMs = left > 1 ? retryAfterMs(response) : undefined;
      if (waitMs === undefined) return this.#answer(response);
      await readBounded(response.body, MAX_ANSWER_BYTES).catch(() => undefined);
      await delay(waitMs * (1 + RETRY_JITTER * Math.random()), undefined, { signal }).catch(
        (error: unknown) => {
          throw unavailable(this.#host, error);
        },
      );
    }
  }

  async #answer(response: Dispatcher.ResponseData): Promise<unknown> {
    const text = await readBounded(response.body, MAX_ANSWER_BYTES).catch((error: unknown) => {
      throw unavailable(this.#host, error);
    });
    const answer = parse(text);
    if (response.statusCode >= 400) throw apiFailure(response.statusCode, answer, text);
    return answer;
  }

  /** The lines of a streamed answer, as they come, until the server or `signal` ends it. */
  async *lines(path: string, query: ApiRequest['query'], signal: AbortSignal): AsyncGenerator<unknown> {
    const asked: ApiRequest = { method: 'GET', path, ...(query === undefined ? {} : { query }) };
    const response = await this.#request(asked, signal, WATCH_SILENCE_MS);
    if (response.statusCode >= 400) {
      const text = await readBounded(response.body, MAX_ANSWER_BYTES);
      throw apiFailure(response.statusCode, parse(text), text);
    }
    try {
      yield* splitLines(response.body);
    } catch (error) {
      if (error instanceof BulkheadError) throw error;
      throw unavailable(this.#host, error);
    } finally {
      response.body.destroy();
    }
  }

  async #request(
    asked: ApiRequest,
    signal: AbortSignal,
    silenceMs = REQUEST_TIMEOUT_MS,
  ): Promise<Dispatcher.ResponseData> {
    const url = new URL(this.#server.url + asked.path);
    for (const [name, value] of Object.entries(asked.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    const { method } = asked;
    try {
      const { headers, dispatcher } = await this.#server.credentials();
      const response = await request(url, {
        method,
        headers: {
          ...headers,
          accept: 'application/json',
          ...(asked.body === undefined ? {} : { 'content-type': asked.contentType ?? 'application/json' }),
        },
        ...(asked.body === undefined ? {} : { body: JSON.stringify(asked.body) }),
        ...(dispatcher === undefined ? {} : { dispatcher }),
        signal,
        headersTimeout: REQUEST_TIMEOUT_MS,
        bodyTimeout: silenceMs,
      });
      this.#observe({ method, host: this.#host, code: String(response.statusCode) });
      if (response.statusCode === 401) this.#server.refused?.();
      return response;
    } catch (error) {
      if (error instanceof BulkheadError) throw error;
      this.#observe({ method, host: this.#host, code: '<error>' });
      throw unavailable(this.#host, error);
    }
  }
}

function unavailable(host: string, error: unknown): BulkheadError {
  const { message, code } = error as NodeJS.ErrnoException;
  const why = message === '' || message === undefined ? (code ?? 'no answer') : message;
  return new BulkheadError('API_SERVER_UNAVAILABLE', `The API server ${host} does not answer: ${why}.`, {
    cause: error,
  });
}

/** Of a refusal for want of room: how long to wait; undefined for what is none, or says nothing of when. */
function retryAfterMs({ statusCode, headers }: Dispatcher.ResponseData): number | undefined {
  if (statusCode !== 429) return undefined;
  const seconds = Number(headers['retry-after'] ?? Number.NaN);
  return seconds >= 0 ? Math.min(seconds * 1_000, MAX_RETRY_AFTER_MS) : undefined;
}

async function readBounded(body: Readable, limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > limit) throw new Error(`its answer is longer than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** What is no JSON becomes undefined: a proxy in front of the API server may answer with a page. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function* splitLines(body: Readable): AsyncGenerator<unknown> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, end));
      const line = Buffer.concat(parts).toString('utf8');
      parts = [];
      bytes = 0;
      from = end + 1;
      if (line !== '') yield JSON.parse(line);
    }
    if (from < chunk.length) {
      parts.push(chunk.subarray(from));
      bytes += chunk.length - from;
      if (bytes > MAX_LINE_BYTES) throw new Error(`a line of a watch is longer than ${MAX_LINE_BYTES} bytes`);
    }
  }
}
