// HTTP/2 between a guest and a server whose TLS the gateway opened: each request is decided by its own authority, as clients
// put requests for several hosts into one connection, and goes on with its own stream, flow control and trailers.
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  sensitiveHeaders,
} from 'node:http2';
import type { Duplex, Transform } from 'node:stream';
import { HELD_BODY_MAX } from '../inspect/request-watch.ts';
import { HEADER_LIST_MAX, HEADERS_MAX, STREAMS_MAX } from './limits.ts';

const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR, NGHTTP2_FLAG_END_STREAM } = constants;
/** RFC 9110: asks the client to try again over another connection, as for a host that this one is not for. */
const MISDIRECTED = 421;

/** What goes on of a request. */
export interface Http2Passage {
  readonly headers: OutgoingHttpHeaders;
  /** Gives what goes on in place of its body; absent where that goes on as it comes. */
  readonly body?: (body: Buffer) => Buffer;
  /** Of the body's bytes as they go on: throttled, looked through. In this order. */
  readonly through: readonly Transform[];
}

export interface Http2ProxyOptions {
  readonly guest: Duplex;
  readonly server: Duplex;
  /** Undefined where the request is refused. `host` is its authority without port. */
  readonly judge: (host: string | null, headers: IncomingHttpHeaders) => Http2Passage | undefined;
  readonly closed: () => void;
}

export class Http2Proxy {
  readonly #options: Http2ProxyOptions;
  readonly #guest: ServerHttp2Session;
  readonly #server: ClientHttp2Session;
  #ended = false;

  constructor(options: Http2ProxyOptions) {
    this.#options = options;
    const bounds = { maxHeaderListPairs: HEADERS_MAX, maxSendHeaderBlockLength: HEADER_LIST_MAX };
    const settings = { maxHeaderListSize: HEADER_LIST_MAX };
    this.#server = connect('https://server', {
      ...bounds,
      settings: { ...settings, enablePush: false },
      createConnection: () => options.server,
    });
    this.#guest = performServerHandshake(options.guest, {
      ...bounds,
      settings: { ...settings, maxConcurrentStreams: STREAMS_MAX },
    });
    for (const session of [this.#server, this.#guest]) {
      session.on('error', () => this.end());
      session.on('close', () => this.end());
    }
    // A server that goes away finishes what it has; new requests go over another connection.
    this.#server.on('goaway', () => this.#guest.close());
    this.#guest.on('stream', (stream, headers) => attempt(stream, () => this.#request(stream, headers)));
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#guest.destroy();
    this.#server.destroy();
    this.#options.closed();
  }

  #request(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    stream.on('error', () => {});
    // Reset by the frame that came behind its headers.
    if (stream.destroyed) return;
    const host = hostOf(headers);
    const passage = host === undefined ? undefined : this.#options.judge(host, headers);
    if (passage === undefined) {
      stream.respond({ ':status': MISDIRECTED }, { endStream: true });
      stream.close(NGHTTP2_NO_ERROR);
      return;
    }
    if (this.#ended || this.#server.closed) {
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    if (stream.readableEnded || stream.endAfterHeaders) this.#forward(stream, passage.headers, undefined);
    else if (passage.body === undefined) {
      const out = this.#forward(stream, passage.headers, passage.through);
      chain(stream, passage.through, out);
    } else this.#withBody(stream, passage, passage.body);
  }

  /** Holds the body to change it, up to a bound; a longer one goes on as it came. */
  #withBody(
    stream: ServerHttp2Stream,
    { headers, through }: Http2Passage,
    change: (body: Buffer) => Buffer,
  ): void {
    const held: Buffer[] = [];
    let bytes = 0;
    const take = (chunk: Buffer): void => {
      held.push(chunk);
      bytes += chunk.length;
      if (bytes > HELD_BODY_MAX) attempt(stream, () => go(false));
    };
    const whole = (): void => attempt(stream, () => go(true));
    const go = (ended: boolean): void => {
      stream.off('data', take).off('end', whole);
      stream.pause();
      if (this.#ended || stream.destroyed) return;
      const body = Buffer.concat(held);
      const changed = ended ? change(body) : body;
      const length = changed === body ? {} : { 'content-length': changed.length };
      const out = this.#forward(stream, { ...headers, ...length }, through);
      const [first = out] = through;
      first.write(changed);
      if (ended) {
        chainRest(through, out);
        first.end();
      } else chain(stream, through, out);
    };
    stream.on('data', take).on('end', whole);
  }

  #forward(
    stream: ServerHttp2Stream,
    headers: OutgoingHttpHeaders,
    through: readonly Transform[] | undefined,
  ): ClientHttp2Stream {
    const request = this.#server.request(headers, {
      endStream: through === undefined,
      waitForTrailers: through !== undefined,
    });
    let trailers: OutgoingHttpHeaders | undefined;
    stream.on('trailers', (received) => {
      trailers = received;
    });
    request.on('wantTrailers', () => attempt(stream, () => request.sendTrailers(trailers ?? {})));
    stream.on('close', () => {
      if (!request.closed)
        request.close(stream.rstCode === NGHTTP2_NO_ERROR ? NGHTTP2_CANCEL : stream.rstCode);
      for (const each of through ?? []) each.destroy();
    });
    answer(request, stream);
    return request;
  }
}

/** What one side sends may be nothing that can be sent on: that ends the request, and nothing else. */
function attempt(stream: ServerHttp2Stream, action: () => void): void {
  try {
    action();
  } catch {
    if (!stream.destroyed) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }
}

function answer(request: ClientHttp2Stream, stream: ServerHttp2Stream): void {
  let trailers: OutgoingHttpHeaders = {};
  request.on('error', () => {});
  request.on('headers', (informational) => {
    if (!stream.headersSent && !stream.destroyed)
      attempt(stream, () => stream.additionalHeaders(outgoing(informational)));
  });
  request.on('trailers', (received) => {
    trailers = outgoing(received);
  });
  request.on('response', (headers, flags) => {
    if (stream.destroyed) return;
    const endStream = (flags & NGHTTP2_FLAG_END_STREAM) !== 0;
    attempt(stream, () => {
      stream.respond(outgoing(headers), endStream ? { endStream } : { waitForTrailers: true });
      if (endStream) return;
      stream.on('wantTrailers', () => attempt(stream, () => stream.sendTrailers(trailers)));
      request.pipe(stream);
    });
  });
  request.on('close', () => {
    if (stream.destroyed) return;
    // An orderly end is the pipe's.
    if (request.rstCode !== NGHTTP2_NO_ERROR) stream.close(request.rstCode);
    else if (!stream.headersSent) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  });
}

/** Headers as they came, never kept in a compression table. */
function outgoing(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  return { ...headers, [sensitiveHeaders]: ['authorization', 'cookie', 'set-cookie'] };
}

function chain(from: Duplex, through: readonly Transform[], to: Duplex): void {
  const [first = to] = through;
  chainRest(through, to);
  from.pipe(first);
}

function chainRest(through: readonly Transform[], to: Duplex): void {
  for (const [index, each] of through.entries()) each.pipe(through[index + 1] ?? to);
}

/** Without port and brackets; null where none is named. Undefined where two servers could read it in two ways. */
function hostOf(headers: IncomingHttpHeaders): string | null | undefined {
  const { ':authority': authority, host } = headers;
  const named = authority ?? host;
  if (named === undefined) return null;
  if (host !== undefined && host.toLowerCase() !== named.toLowerCase()) return undefined;
  const plain = /^(\[[0-9a-f:.]+\]|[^:/?#@[\]\s,]+)(?::\d{1,5})?$/i.exec(named)?.[1];
  return plain?.replace(/^\[|\]$/g, '').toLowerCase();
}
