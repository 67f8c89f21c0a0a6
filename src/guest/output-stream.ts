// One output stream of a guest process as it arrives on the host: order, gaps and credit.
import { protocolError } from './frames.ts';
import { MAX_OUTPUT_PIECES, OUTPUT_WINDOW_BYTES } from './limits.ts';

/** A piece of output that waits to be read. */
export interface OutputPiece {
  /** Arrival order over both streams of the process. */
  sequence: number;
  offset: number;
  data: Buffer;
  lostBefore: number;
}

/** Credit is given back in steps, so that small reads do not each cost a message. */
const CREDIT_STEP = OUTPUT_WINDOW_BYTES / 4;
/** Pieces below this are joined with their neighbours: a guest that writes byte by byte must not cost an object each. */
const SMALL_PIECE = 1024;
const JOINED_PIECE = 8192;

export class OutputStream {
  readonly #pieces: OutputPiece[] = [];
  /** Where the next byte belongs. */
  #received: number;
  #credit = OUTPUT_WINDOW_BYTES;
  /** The guest may forget everything before this; it is told with the next credit. */
  #acknowledged: number;
  /** Acknowledged, but not given back as credit yet. */
  #unreported = 0;
  /** Read, and still the guest's to keep. */
  #unacknowledged = 0;
  readonly #byCaller: boolean;
  #ended = false;
  /** The end was said on this connection; it may be said once on each. */
  #endSaid = false;
  /** Room that is left in the buffer of the last piece. */
  #spare: Buffer = Buffer.alloc(0);

  /** @param byCaller what was read counts as delivered only when `acknowledge` says so. */
  constructor(offset: number, byCaller = false) {
    this.#received = offset;
    this.#acknowledged = offset;
    this.#byCaller = byCaller;
  }

  /** From here the guest goes on after a reconnect. */
  get received(): number {
    return this.#received;
  }
  get ended(): boolean {
    return this.#ended;
  }
  /** Nothing will come any more and all was read. */
  get finished(): boolean {
    return this.#ended && this.#pieces.length === 0;
  }
  get first(): OutputPiece | undefined {
    return this.#pieces[0];
  }

  /** Throws AGENT_PROTOCOL for what the guest was not granted or cannot mean. */
  push(offset: number, data: Uint8Array, sequence: number): void {
    if (this.#ended) throw protocolError('output after the end of its stream');
    if (data.length === 0) throw protocolError('output without bytes');
    if (data.length > this.#credit) throw protocolError('more output than it was granted');
    if (offset < this.#received) throw protocolError('output that was sent already');
    const lostBefore = offset - this.#received;
    this.#credit -= data.length;
    this.#received = offset + data.length;
    if (lostBefore === 0 && data.length < SMALL_PIECE && this.#join(data, sequence)) return;
    if (this.#pieces.length >= MAX_OUTPUT_PIECES) throw protocolError('output in too many pieces');
    let buffer = Buffer.from(data.buffer, data.byteOffset, data.length);
    this.#spare = Buffer.alloc(0);
    if (data.length < SMALL_PIECE) {
      const room = Buffer.allocUnsafe(JOINED_PIECE);
      buffer.copy(room);
      buffer = room.subarray(0, data.length);
      this.#spare = room.subarray(data.length);
    }
    this.#pieces.push({ sequence, offset, data: buffer, lostBefore });
  }

  /** Appends to the last piece when it directly precedes and nothing of the other stream came between. */
  #join(data: Uint8Array, sequence: number): boolean {
    const last = this.#pieces.at(-1);
    if (!last || last.sequence !== sequence - 1 || data.length > this.#spare.length) return false;
    this.#spare.set(data);
    this.#spare = this.#spare.subarray(data.length);
    last.data = Buffer.from(last.data.buffer, last.data.byteOffset, last.data.length + data.length);
    last.sequence = sequence;
    return true;
  }

  end(length: number): void {
    if (this.#endSaid) throw protocolError('a second end of a stream');
    if (length < this.#received || (this.#ended && length !== this.#received)) {
      throw protocolError('a stream that ends before its own output');
    }
    this.#endSaid = true;
    this.#ended = true;
    this.#received = length;
  }

  /** Takes the oldest piece. */
  shift(): OutputPiece | undefined {
    const piece = this.#pieces.shift();
    if (!piece) return undefined;
    if (this.#pieces.length === 0) this.#spare = Buffer.alloc(0);
    this.#unacknowledged += piece.data.length;
    if (!this.#byCaller) this.acknowledge(piece.offset + piece.data.length, piece.data.length);
    return piece;
  }

  /** Everything before `offset` is delivered: `bytes` more of what was read than the last time. */
  acknowledge(offset: number, bytes: number): void {
    this.#acknowledged = offset;
    this.#unacknowledged -= bytes;
    this.#unreported += bytes;
  }

  /** Credit to give back now, if enough has gathered. */
  takeCredit(): { acknowledged: number; bytes: number } | undefined {
    if (this.#ended || this.#unreported < CREDIT_STEP) return undefined;
    const bytes = this.#unreported;
    this.#unreported = 0;
    this.#credit += bytes;
    return { acknowledged: this.#acknowledged, bytes };
  }

  /** Another connection, on which `credit` bytes are granted anew. What is not acknowledged takes its part of the window. */
  reattach(): number {
    const waiting = this.#pieces.reduce((sum, piece) => sum + piece.data.length, this.#unacknowledged);
    this.#endSaid = false;
    this.#unreported = 0;
    this.#credit = Math.max(0, OUTPUT_WINDOW_BYTES - waiting);
    return this.#credit;
  }

  clear(): void {
    this.#pieces.length = 0;
    this.#ended = true;
  }
}
