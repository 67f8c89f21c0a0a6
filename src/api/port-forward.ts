// A connection to a port of a guest over a WebSocket. Binary messages carry its bytes; the text message `end` says that this
// side sends no more, while it still reads. When both have said so the WebSocket closes with code 1000; one that closes in any
// other way is a connection that was reset.
import { Duplex } from 'node:stream';

/** WebSocket subprotocol. */
export const PORT_FORWARD_PROTOCOL = 'v1.portforward.bulkhead.dev';
const END = 'end';
/** One message; servers take at most 1 MiB. */
const MESSAGE_BYTES = 64 * 1024;
/** Unsent bytes above which the writer waits. */
const BUFFER_BYTES = 512 * 1024;
/** How long the other side may take to answer the close. */
const CLOSE_TIMEOUT_MS = 2_000;
const NORMAL = 1000;
const GOING_AWAY = 1001;
const PROTOCOL_ERROR = 1002;

/** Of `ws`, what is used here. */
interface WebSocketLike {
  readonly bufferedAmount: number;
  readonly readyState: number;
  readonly OPEN: number;
  send(data: string | Uint8Array, done: (error?: Error) => void): void;
  pause(): void;
  resume(): void;
  close(code: number): void;
  terminate(): void;
  on(event: 'message', listener: (data: unknown, isBinary: boolean) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  once(event: 'close', listener: (code: number) => void): unknown;
}

/** Its bytes. A side that ends goes on reading; destroying it before both have ended resets the connection. */
export class PortForwardStream extends Duplex {
  readonly #socket: WebSocketLike;
  /** Each side has said that it sends no more. What came before that may not be read yet. */
  #otherEnded = false;
  #ownEnded = false;

  constructor(socket: WebSocketLike) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    // An error is always followed by close.
    socket.on('error', () => {});
    socket.once('close', () => {
      if (!this.#otherEnded || !this.#ownEnded) this.destroy(new Error('the connection was reset'));
    });
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#socket.readyState !== this.#socket.OPEN) {
      done(new Error('the connection is closed'));
      return;
    }
    let last = 0;
    for (; last + MESSAGE_BYTES < chunk.length; last += MESSAGE_BYTES)
      this.#socket.send(chunk.subarray(last, last + MESSAGE_BYTES), () => {});
    const wait = this.#socket.bufferedAmount >= BUFFER_BYTES;
    this.#socket.send(chunk.subarray(last), (error) => {
      if (wait) done(error ?? null);
    });
    if (!wait) done();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#socket.readyState !== this.#socket.OPEN) {
      done();
      return;
    }
    this.#ownEnded = true;
    this.#socket.send(END, (error) => done(error ?? null));
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.resume();
    this.#close(this.#otherEnded && this.#ownEnded ? NORMAL : GOING_AWAY);
    done(error);
  }

  #receive(data: unknown, isBinary: boolean): void {
    if (this.destroyed) return;
    if (isBinary && !this.#otherEnded && data instanceof Uint8Array) {
      // Frames that are parsed already still arrive after pause; they are bounded by what the socket had read.
      if (!this.push(data)) this.#socket.pause();
      return;
    }
    if (!isBinary && !this.#otherEnded && String(data) === END) {
      this.#otherEnded = true;
      this.push(null);
    } else {
      this.#close(PROTOCOL_ERROR);
      this.destroy(new Error('a message that is none of the protocol'));
    }
  }

  #close(code: number): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.close(code);
    setTimeout(() => this.#socket.terminate(), CLOSE_TIMEOUT_MS).unref();
  }
}

/** Carries bytes both ways until both sides have ended; what breaks one side resets the other. Calls back once, at the end. */
export function join(a: Duplex, b: Duplex, ended: () => void): void {
  let open = 2;
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    one.on('error', () => reset(other));
    one.on('close', () => {
      if (!one.readableEnded || !one.writableFinished) reset(other);
      open -= 1;
      if (open === 0) ended();
    });
    one.pipe(other);
  }
}

/** A TCP connection is told that it broke, which an end would not. */
function reset(stream: Duplex): void {
  if ('resetAndDestroy' in stream && typeof stream.resetAndDestroy === 'function') stream.resetAndDestroy();
  else stream.destroy();
}
