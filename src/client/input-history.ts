// Input that was sent and may not have arrived in the guest, kept for a connection, or a daemon, that breaks.

/** More than can be on its way: the window of the connection, and a MiB at most that the daemon and the guest take ahead. */
export const INPUT_KEPT_BYTES = 2 * 1024 * 1024;

export class InputHistory {
  readonly #pieces: { offset: number; data: Buffer }[] = [];
  #start = 0;
  #end = 0;

  /** Behind the last byte. */
  get end(): number {
    return this.#end;
  }

  /** Takes a piece in, as a copy, which it returns: its owner may write over it. */
  add(piece: Buffer): Buffer {
    const data = Buffer.from(piece);
    this.#pieces.push({ offset: this.#end, data });
    this.#end += data.length;
    this.#trim();
    return data;
  }

  /** Is everything behind `offset` kept? */
  has(offset: number): boolean {
    return offset >= this.#start && offset <= this.#end;
  }

  /** What follows `offset`, up to the end of its piece; undefined at the end. */
  piece(offset: number): Buffer | undefined {
    const found = this.#pieces.findLast((each) => each.offset <= offset);
    const rest = found?.data.subarray(offset - found.offset);
    return rest === undefined || rest.length === 0 ? undefined : rest;
  }

  /** The next byte that is written has this place; nothing before it is kept. */
  begin(offset: number): void {
    this.#pieces.length = 0;
    this.#start = offset;
    this.#end = offset;
  }

  #trim(): void {
    for (let first = this.#pieces[0]; first !== undefined; first = this.#pieces[0]) {
      if (this.#end - this.#start - first.data.length < INPUT_KEPT_BYTES) return;
      this.#start += first.data.length;
      this.#pieces.shift();
    }
  }
}
