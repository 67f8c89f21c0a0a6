// Stands between a part and the API server: counts what is asked, and answers, cuts or refuses as a test wants. Plain HTTP on loopback
// towards the part, so that it needs no certificate of its own.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { Agent, request } from 'undici';
import type { ApiServer } from './api-server.ts';

/** What the proxy says in the API server's place. */
export interface Refusal {
  status: 409 | 429 | 500;
}

const REASONS = { 409: 'Conflict', 429: 'TooManyRequests', 500: 'InternalError' } as const;

interface Asked {
  /** Monotonic milliseconds. */
  at: number;
  /** `METHOD resource[/subresource]`, or `WATCH resource`. */
  what: string;
}

/** Of one part, by which its requests are told from those of others. */
export class InjectingProxy implements AsyncDisposable {
  readonly url: string;
  readonly asked: Asked[] = [];
  /** Asked before each request; undefined lets it pass. */
  refuse: (what: string) => Refusal | undefined = () => undefined;
  refused = 0;
  readonly #server: Server;
  readonly #upstream: ApiServer;
  readonly #watches = new Set<ServerResponse>();
  #agent: Agent | undefined;

  private constructor(server: Server, upstream: ApiServer) {
    this.#server = server;
    this.#upstream = upstream;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(upstream: ApiServer): Promise<InjectingProxy> {
    const server = createServer((asked, response) => void proxy.#serve(asked, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const proxy = new InjectingProxy(server, upstream);
    return proxy;
  }

  /** Ends every watch that is under way, in the middle of it. */
  cutWatches(): number {
    const count = this.#watches.size;
    for (const response of this.#watches) response.destroy();
    return count;
  }

  /** The most requests of any second since `from`, monotonic milliseconds. */
  peakPerSecond(from = 0): number {
    const times = this.asked.map(({ at }) => at).filter((at) => at >= from);
    let peak = 0;
    let first = 0;
    for (const [index, at] of times.entries()) {
      while ((times[first] ?? at) < at - 1_000) first += 1;
      peak = Math.max(peak, index - first + 1);
    }
    return peak;
  }

  /** How many of each since `from`. */
  counts(from = 0): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { at, what } of this.asked) if (at >= from) counts.set(what, (counts.get(what) ?? 0) + 1);
    return counts;
  }

  async #serve(asked: IncomingMessage, response: ServerResponse): Promise<void> {
    const what = describe(asked);
    this.asked.push({ at: performance.now(), what });
    const refusal = this.refuse(what);
    if (refusal !== undefined) {
      this.refused += 1;
      asked.resume();
      const { status } = refusal;
      response
        .writeHead(status, {
          'content-type': 'application/json',
          ...(status === 429 ? { 'retry-after': '1' } : {}),
        })
        .end(
          JSON.stringify({
            kind: 'Status',
            status: 'Failure',
            reason: REASONS[status],
            code: status,
            message: 'injected',
          }),
        );
      return;
    }
    const isWatch = what.startsWith('WATCH');
    if (isWatch) this.#watches.add(response);
    const gone = new AbortController();
    response.once('close', () => {
      this.#watches.delete(response);
      gone.abort();
    });
    try {
      this.#agent ??= new Agent({
        connect: { ca: await this.#upstream.certificateAuthority() },
        bodyTimeout: 0,
      });
      const { host: _host, connection: _connection, ...headers } = asked.headers;
      const answer = await request(new URL(asked.url ?? '/', this.#upstream.url), {
        ...{ dispatcher: this.#agent, signal: gone.signal, headers: headers as Record<string, string> },
        method: asked.method as 'GET',
        body: asked.method === 'GET' ? null : asked,
      });
      const type = answer.headers['content-type'];
      response.writeHead(answer.statusCode, type === undefined ? {} : { 'content-type': String(type) });
      response.flushHeaders();
      await pipeline(answer.body, response);
    } catch {
      // The API server is away, or the part is: either sees a connection that broke.
      response.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await this.#agent?.destroy();
  }
}

function describe({ method = 'GET', url = '/' }: IncomingMessage): string {
  const { pathname, searchParams } = new URL(url, 'http://api');
  // /api/v1/... or /apis/GROUP/VERSION/..., then perhaps namespaces/NAMESPACE.
  const parts = pathname.split('/').slice(pathname.startsWith('/apis/') ? 4 : 3);
  const [resource = '', name, subresource] =
    parts[0] === 'namespaces' && parts.length > 2 ? parts.slice(2) : parts;
  const isList = method === 'GET' && name === undefined;
  const verb = searchParams.get('watch') !== null ? 'WATCH' : isList ? 'LIST' : method;
  return `${verb} ${resource}${subresource === undefined ? '' : `/${subresource}`}`;
}
