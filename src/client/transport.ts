// Requests to the daemon or to a cluster. Node's own HTTP client: a command line loads it in no time.
import type { ClientRequest, RequestOptions as HttpOptions, IncomingMessage } from 'node:http';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import { deferred } from './deferred.ts';
import type { Endpoint, Target } from './endpoint.ts';

/** Not imported: that would look at every export, and so load Node's whole fetch, which takes longer than all of the SDK. */
const require = createRequire(import.meta.url);

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
export async function failureOf(
  response: IncomingMessage,
  endpoint: Endpoint,
  path: string,
): Promise<BulkheadError> {
  return endpoint.refusal(response.statusCode ?? 0, await textOf(response), path);
}

/** What Node's client is given, beside what belongs to a single request. */
export function optionsOf({ host, socketPath, path, headers, agent }: Target): HttpOptions {
  const colon = /:\d+$/.exec(host)?.index ?? host.length;
  const port = host.slice(colon + 1);
  return {
    ...(socketPath === undefined
      ? { host: host.slice(0, colon).replace(/^\[|\]$/g, ''), ...(port === '' ? {} : { port }) }
      : { socketPath }),
    ...{ path, agent, headers },
  };
}

function begin(
  target: Target,
  options: HttpOptions,
  onAnswer: (answer: IncomingMessage) => void,
): ClientRequest {
  const module = target.protocol === 'http:' ? 'node:http' : 'node:https';
  const { request } = require(module) as typeof import('node:http');
  const given = optionsOf(target);
  return request({ ...given, ...options, headers: { ...given.headers, ...options.headers } }, onAnswer);
}

export class Transport {
  readonly endpoint: Endpoint;

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
  }

  /** Sends a request and returns the answer once its headers are there. Fails with the server's own error for non-2xx. */
  async open(method: string, path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
    const { query, body, contentType = 'application/json', signal } = options;
    const { promise, resolve, reject } = deferred<IncomingMessage>();
    const text = body === undefined || body instanceof Readable ? '' : JSON.stringify(body);
    const request = begin(
      await this.endpoint.target(`${path}${queryString(query)}`),
      {
        method,
        headers: {
          accept: 'application/json',
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
      if (status < 200 || status > 299) throw await failureOf(response, this.endpoint, path);
      return response;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw this.endpoint.failure(error);
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
      throw this.endpoint.failure(error);
    }
  }

  /** One answer of plain text. */
  async text(method: string, path: string): Promise<string> {
    const response = await this.open(method, path);
    try {
      return await textOf(response);
    } catch (error) {
      throw this.endpoint.failure(error);
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
      throw this.endpoint.failure(error);
    } finally {
      response.destroy();
    }
  }

  close(): void {
    this.endpoint.close();
  }
}
