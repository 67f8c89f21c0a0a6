// Input that was sent and may not have arrived, kept for a connection that breaks.
import { INPUT_MESSAGE_BYTES } from './stream.ts';

/**
 * More than can be on its way: half a MiB unsent, about as much in the buffers of the socket, and what the daemon and the guest
 * take ahead of the command, a MiB at most.
 */
export const INPUT_KEPT_BYTES = 4 * 1024 * 1024;

export class InputHistory {
  readonly #pieces: Buffer[] = [];
  #start = 0;
  #end = 0;

  /** Takes a chunk in, as a copy: its owner may write over it. Returns it in pieces of a message each. */
  add(chunk: Buffer): Buffer[] {
    const copy = Buffer.from(chunk);
    const pieces: Buffer[] = [];
    for (let at = 0; at < copy.length; at += INPUT_MESSAGE_BYTES)
      pieces.push(copy.subarray(at, at + INPUT_MESSAGE_BYTES));
    this.#pieces.push(...pieces);
    this.#end += copy.length;
    this.#trim();
    return pieces;
  }

  /** Everything behind `offset`; undefined where that is not kept any more, or never was. */
  since(offset: number): Buffer[] | undefined {
    if (offset < this.#start || offset > this.#end) return undefined;
    let skip = offset - this.#start;
    const rest: Buffer[] = [];
    for (const piece of this.#pieces) {
      if (skip < piece.length) rest.push(piece.subarray(skip));
      skip = Math.max(0, skip - piece.length);
    }
    return rest;
  }

  /** The next byte that is written has this place; nothing before it is kept. */
  begin(offset: number): void {
    this.#pieces.length = 0;
    this.#start = offset;
    this.#end = offset;
  }

  #trim(): void {
    for (let first = this.#pieces[0]; first !== undefined; first = this.#pieces[0]) {
      if (this.#end - this.#start - first.length < INPUT_KEPT_BYTES) return;
      this.#start += first.length;
      this.#pieces.shift();
    }
  }
}
