// Output of a resumable command that its client has not acknowledged. The guest sends at most one window ahead of what is
// acknowledged, which bounds what is here.
import { BulkheadError } from '../api/errors.ts';
import type { OutputChunk } from '../guest/agent.ts';
import { KEPT_PIECE_BYTES, KEPT_PIECE_COST, KEPT_STREAM_BYTES_MAX } from './limits.ts';

interface Piece {
  /** Of its first byte. */
  offset: number;
  data: Buffer;
  /** Unused room behind `data`, in the same memory. */
  spare: Buffer;
  /** Order of arrival over both streams. */
  sequence: number;
}

export class KeptOutput {
  readonly #stream: OutputChunk['stream'];
  readonly #pieces: Piece[] = [];
  #start: number;
  #end: number;
  /** Memory that the pieces take. */
  #cost = 0;

  /** @param start bytes before this are nobody's any more. */
  constructor(stream: OutputChunk['stream'], start: number) {
    this.#stream = stream;
    this.#start = start;
    this.#end = start;
  }

  /** Behind the last byte. */
  get end(): number {
    return this.#end;
  }

  /** Throws AGENT_PROTOCOL where a guest cuts its output up so that it takes too much memory. */
  push({ offset, data }: OutputChunk, sequence: number): void {
    const last = this.#pieces.at(-1);
    if (last !== undefined && offset === this.#end && data.byteLength <= last.spare.length) {
      last.spare.set(data);
      last.spare = last.spare.subarray(data.byteLength);
      last.data = Buffer.from(last.data.buffer, last.data.byteOffset, last.data.length + data.byteLength);
    } else if (data.byteLength < KEPT_PIECE_BYTES && offset === this.#end) {
      const room = Buffer.allocUnsafeSlow(KEPT_PIECE_BYTES);
      room.set(data);
      const [used, spare] = [room.subarray(0, data.byteLength), room.subarray(data.byteLength)];
      this.#add({ offset, data: used, spare, sequence });
    } else {
      // A copy, as a small piece may be a part of something large.
      this.#add({ offset, data: Buffer.from(data), spare: Buffer.alloc(0), sequence });
    }
    this.#end = offset + data.byteLength;
  }

  #add(piece: Piece): void {
    this.#cost += costOf(piece);
    if (this.#cost > KEPT_STREAM_BYTES_MAX)
      throw new BulkheadError('AGENT_PROTOCOL', 'the guest cuts output into too many pieces');
    this.#pieces.push(piece);
  }

  /** What follows `offset`, with how much of it is lost; undefined where nothing does yet. Lost bytes alone come without data. */
  next(offset: number): (OutputChunk & { sequence: number }) | undefined {
    const piece = this.#pieces.find((each) => each.offset + each.data.length > offset);
    if (piece === undefined) {
      if (offset >= this.#start) return undefined;
      const lostBefore = this.#start - offset;
      return { stream: this.#stream, offset: this.#start, data: Buffer.alloc(0), lostBefore, sequence: 0 };
    }
    const from = Math.max(offset, piece.offset);
    const data = piece.data.subarray(from - piece.offset);
    const { sequence } = piece;
    return { stream: this.#stream, offset: from, data, lostBefore: from - offset, sequence };
  }

  /** Forgets what ends at or before `offset`. Returns how many bytes that were, and where the rest begins. */
  drop(offset: number): { bytes: number; start: number } {
    let bytes = 0;
    for (let first = this.#pieces[0]; first !== undefined; first = this.#pieces[0]) {
      const end = first.offset + first.data.length;
      if (end > offset) break;
      bytes += first.data.length;
      this.#cost -= costOf(first);
      this.#start = end;
      this.#pieces.shift();
    }
    return { bytes, start: this.#start };
  }
}

function costOf({ data, spare }: Piece): number {
  return KEPT_PIECE_COST + data.length + spare.length;
}
