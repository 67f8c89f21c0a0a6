// Follows the requests of an HTTP/1 connection (RFC 9112): each one names a host, and only the first was looked at when the
// connection was opened. Where a body ends has to be beyond doubt, or a request could hide in it.
import { HTTP_HEAD_MAX, readHttpHead } from './http-head.ts';

/** A chunk's size with its extensions; servers take from 1 KiB to 16 KiB. */
const SIZE_LINE_MAX = 1_024;
const TRAILERS_MAX = 8_192;
/** 2^48: far more than anyone sends in one chunk, and exact in a number. */
const SIZE_DIGITS_MAX = 12;
const SIZE_LINE = /^([0-9A-Fa-f]+)[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/;

type State =
  | { readonly at: 'head' | 'size' | 'chunk-end' | 'trailers' }
  | { readonly at: 'body' | 'chunk'; left: number }
  /** Another protocol from here on. */
  | { readonly at: 'switched' };

export class RequestWatch {
  readonly #allows: (host: string | null) => boolean;
  #state: State = { at: 'head' };
  /** Of what is not yet whole. */
  #held: Buffer = Buffer.alloc(0);
  #requests = 0;
  #asksToSwitch = false;

  /** `allows` is asked for each request; null for one of HTTP/1.0 that names no host. */
  constructor(allows: (host: string | null) => boolean) {
    this.#allows = allows;
  }

  /**
   * The client waits for the server to agree to another protocol (WebSocket). Only of a first request: then the next words
   * of the server are its answer.
   */
  get asksToSwitch(): boolean {
    return this.#asksToSwitch;
  }

  /** What the server answered: whatever the client says from now on is not HTTP, or still is. */
  answerSwitch(agreed: boolean): void {
    this.#asksToSwitch = false;
    if (agreed) this.#state = { at: 'switched' };
  }

  /** Bytes that may go on, as far as they are known to be good; undefined where the connection is to be cut. */
  push(chunk: Buffer): Buffer | undefined {
    let rest = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = Buffer.alloc(0);
    const good: Buffer[] = [];
    while (rest.length > 0) {
      // What comes before the answer is of one protocol or of the other.
      if (this.#asksToSwitch) return undefined;
      const length = this.#take(rest);
      if (length === undefined) return undefined;
      if (length === 0) {
        this.#held = rest;
        break;
      }
      good.push(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
    return Buffer.concat(good);
  }

  /** How many bytes are good; 0 where more are needed, undefined where they are bad. */
  #take(bytes: Buffer): number | undefined {
    const state = this.#state;
    switch (state.at) {
      case 'head':
        return this.#takeHead(bytes);
      case 'body':
      case 'chunk': {
        const length = Math.min(state.left, bytes.length);
        state.left -= length;
        if (state.left === 0) this.#state = { at: state.at === 'body' ? 'head' : 'chunk-end' };
        return length;
      }
      case 'size':
        return this.#takeSize(bytes);
      case 'chunk-end':
        if (bytes.length < 2) return bytes[0] === 13 ? 0 : undefined;
        if (bytes.readUInt16BE(0) !== 0x0d0a) return undefined;
        this.#state = { at: 'size' };
        return 2;
      case 'trailers':
        return this.#takeTrailers(bytes);
      case 'switched':
        return bytes.length;
    }
  }

  #takeHead(bytes: Buffer): number | undefined {
    const head = readHttpHead(bytes);
    if (head.state === 'incomplete') return bytes.length < HTTP_HEAD_MAX ? 0 : undefined;
    if (head.state !== 'head' || !this.#allows(head.host)) return undefined;
    this.#requests += 1;
    const { body } = head;
    if (head.method === 'CONNECT') this.#state = { at: 'switched' };
    else if (body === 'chunked') this.#state = { at: 'size' };
    else if (body > 0) this.#state = { at: 'body', left: body };
    else this.#asksToSwitch = head.upgrade && this.#requests === 1;
    return head.length;
  }

  #takeSize(bytes: Buffer): number | undefined {
    const end = bytes.indexOf('\r\n');
    if (end === -1) return bytes.length < SIZE_LINE_MAX ? 0 : undefined;
    const digits = SIZE_LINE.exec(bytes.toString('latin1', 0, end))?.[1];
    if (end > SIZE_LINE_MAX || digits === undefined || digits.length > SIZE_DIGITS_MAX) return undefined;
    const size = Number.parseInt(digits, 16);
    this.#state = size === 0 ? { at: 'trailers' } : { at: 'chunk', left: size };
    return end + 2;
  }

  #takeTrailers(bytes: Buffer): number | undefined {
    if (bytes.length >= 2 && bytes.readUInt16BE(0) === 0x0d0a) {
      this.#state = { at: 'head' };
      return 2;
    }
    const end = bytes.indexOf('\r\n\r\n');
    if (end === -1) return bytes.length < TRAILERS_MAX ? 0 : undefined;
    const lines = bytes.toString('latin1', 0, end).split('\r\n');
    if (end > TRAILERS_MAX || lines.some((line) => /[\r\n\0]/.test(line))) return undefined;
    this.#state = { at: 'head' };
    return end + 4;
  }
}
