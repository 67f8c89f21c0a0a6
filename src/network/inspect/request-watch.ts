// Follows the requests of an HTTP/1 connection (RFC 9112): each one names a host, and only the first was looked at when the
// connection was opened. Where a body ends has to be beyond doubt, or a request could hide in it.
import { HTTP_HEAD_MAX, type HttpHead, readHttpHead } from './http-head.ts';

/** A chunk's size with its extensions; servers take from 1 KiB to 16 KiB. */
const SIZE_LINE_MAX = 1_024;
const TRAILERS_MAX = 8_192;
/** 2^48: far more than anyone sends in one chunk, and exact in a number. */
const SIZE_DIGITS_MAX = 12;
const SIZE_LINE = /^([0-9A-Fa-f]+)[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/;

/** Bodies that are held to be changed; longer ones go on as they are. */
export const HELD_BODY_MAX = 1_048_576;
const LENGTH_FIELDS = /^(?:content-length|transfer-encoding|trailer):/i;

export type RequestHead = Extract<HttpHead, { state: 'head' }>;

/** What goes on of a request. */
export interface Passage {
  /** In place of its head; of the same framing. */
  readonly head: Buffer;
  /** Gives what goes on in place of its body; absent where that goes on as it comes. */
  readonly body?: (body: Buffer) => Buffer;
}

/** A request whose body is held. */
interface Holding {
  readonly passage: Required<Passage>;
  /** As it came, with its framing. */
  readonly raw: Buffer[];
  readonly body: Buffer[];
  bytes: number;
}

type State =
  | { readonly at: 'head' | 'size' | 'chunk-end' | 'trailers' }
  | { readonly at: 'body' | 'chunk'; left: number }
  /** Another protocol from here on. */
  | { readonly at: 'switched' };

export class RequestWatch {
  readonly #judge: (head: RequestHead, bytes: Buffer) => Passage | undefined;
  #state: State = { at: 'head' };
  /** Of what was pushed last. */
  #good: Buffer[] = [];
  #holding: Holding | undefined;
  /** Of what is not yet whole. */
  #held: Buffer = Buffer.alloc(0);
  #requests = 0;
  #asksToSwitch = false;

  /** `judge` is asked for each request, and says what goes on of it; undefined where it is to be cut. */
  constructor(judge: (head: RequestHead, bytes: Buffer) => Passage | undefined) {
    this.#judge = judge;
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
    this.#good = [];
    while (rest.length > 0) {
      // What comes before the answer is of one protocol or of the other.
      if (this.#asksToSwitch) return undefined;
      const length = this.#take(rest);
      if (length === undefined) return undefined;
      if (length === 0) {
        this.#held = rest;
        break;
      }
      rest = rest.subarray(length);
    }
    return Buffer.concat(this.#good);
  }

  /** How many bytes were taken; 0 where more are needed, undefined where they are bad. */
  #take(bytes: Buffer): number | undefined {
    const state = this.#state;
    switch (state.at) {
      case 'head':
        return this.#takeHead(bytes);
      case 'body':
      case 'chunk': {
        const length = Math.min(state.left, bytes.length);
        state.left -= length;
        this.#pass(bytes.subarray(0, length), 'body');
        if (state.left > 0) return length;
        if (state.at === 'body') this.#endRequest();
        else this.#state = { at: 'chunk-end' };
        return length;
      }
      case 'size':
        return this.#takeSize(bytes);
      case 'chunk-end':
        if (bytes.length < 2) return bytes[0] === 13 ? 0 : undefined;
        if (bytes.readUInt16BE(0) !== 0x0d0a) return undefined;
        this.#pass(bytes.subarray(0, 2), 'framing');
        this.#state = { at: 'size' };
        return 2;
      case 'trailers':
        return this.#takeTrailers(bytes);
      case 'switched':
        this.#pass(bytes, 'framing');
        return bytes.length;
    }
  }

  #pass(bytes: Buffer, kind: 'body' | 'framing'): void {
    const holding = this.#holding;
    if (holding === undefined) {
      this.#good.push(bytes);
      return;
    }
    holding.raw.push(bytes);
    if (kind === 'body') holding.body.push(bytes);
    holding.bytes += bytes.length;
    if (holding.bytes > HELD_BODY_MAX) this.#letGo(holding);
  }

  /** As it came. */
  #letGo({ passage, raw }: Holding): void {
    this.#good.push(passage.head, ...raw);
    this.#holding = undefined;
  }

  #endRequest(): void {
    this.#state = { at: 'head' };
    const holding = this.#holding;
    if (holding === undefined) return;
    const body = Buffer.concat(holding.body);
    const changed = holding.passage.body(body);
    if (changed === body) this.#letGo(holding);
    else this.#good.push(withLength(holding.passage.head, changed.length), changed);
    this.#holding = undefined;
  }

  #takeHead(bytes: Buffer): number | undefined {
    const head = readHttpHead(bytes);
    if (head.state === 'incomplete') return bytes.length < HTTP_HEAD_MAX ? 0 : undefined;
    if (head.state !== 'head') return undefined;
    const passage = this.#judge(head, bytes.subarray(0, head.length));
    if (passage === undefined) return undefined;
    this.#requests += 1;
    const { body } = head;
    const hasBody = head.method !== 'CONNECT' && body !== 0;
    if (hasBody && passage.body !== undefined)
      this.#holding = { passage: { head: passage.head, body: passage.body }, raw: [], body: [], bytes: 0 };
    else this.#good.push(passage.head);
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
    this.#pass(bytes.subarray(0, end + 2), 'framing');
    const size = Number.parseInt(digits, 16);
    this.#state = size === 0 ? { at: 'trailers' } : { at: 'chunk', left: size };
    return end + 2;
  }

  #takeTrailers(bytes: Buffer): number | undefined {
    if (bytes.length >= 2 && bytes.readUInt16BE(0) === 0x0d0a) {
      this.#pass(bytes.subarray(0, 2), 'framing');
      this.#endRequest();
      return 2;
    }
    const end = bytes.indexOf('\r\n\r\n');
    if (end === -1) return bytes.length < TRAILERS_MAX ? 0 : undefined;
    const lines = bytes.toString('latin1', 0, end).split('\r\n');
    if (end > TRAILERS_MAX || lines.some((line) => /[\r\n\0]/.test(line))) return undefined;
    this.#pass(bytes.subarray(0, end + 4), 'framing');
    this.#endRequest();
    return end + 4;
  }
}

/** Another length, and no coding. */
function withLength(head: Buffer, length: number): Buffer {
  const lines = head.toString('latin1').slice(0, -4).split('\r\n');
  const kept = lines.filter((line) => !LENGTH_FIELDS.test(line));
  return Buffer.from([...kept, `Content-Length: ${length}`, '', ''].join('\r\n'), 'latin1');
}
