// Pull access to a stream of chunks: what the tar reader needs, without a copy where it can be helped.

const EMPTY = Buffer.alloc(0);

/** What the tar reader reads from. */
export interface TarBytes {
  /** Exactly `length` bytes; fewer only at the end. */
  take(length: number): Promise<Buffer>;
  /** Between 1 and `max` bytes, whatever is there; `undefined` at the end. */
  some(max: number): Promise<Buffer | undefined>;
  /** Passes over `length` bytes; false if the end came before. */
  skip(length: number): Promise<boolean>;
}

/** Bytes of an async source, taken in the sizes the caller wants. */
export class ByteReader implements TarBytes {
  readonly #source: AsyncIterator<Buffer>;
  #chunk: Buffer = EMPTY;
  #ended = false;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Exactly `length` bytes; fewer only at the end of the source. The result may alias the source's chunk. */
  async take(length: number): Promise<Buffer> {
    if (this.#chunk.length >= length) return this.#cut(length);
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0 && (await this.#fill())) {
      const part = this.#cut(Math.min(missing, this.#chunk.length));
      parts.push(part);
      missing -= part.length;
    }
    return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
  }

  /** Between 1 and `max` bytes, whatever is there; `undefined` at the end of the source. */
  async some(max: number): Promise<Buffer | undefined> {
    if (!(await this.#fill())) return undefined;
    return this.#cut(Math.min(max, this.#chunk.length));
  }

  /** Passes over `length` bytes; false if the source ended before. */
  async skip(length: number): Promise<boolean> {
    let missing = length;
    while (missing > 0) {
      const part = await this.some(missing);
      if (part === undefined) return false;
      missing -= part.length;
    }
    return true;
  }

  /** Reads the source to its end and drops what is left. */
  async drain(): Promise<void> {
    while (await this.#fill()) this.#cut(this.#chunk.length);
  }

  #cut(length: number): Buffer {
    const part = this.#chunk.subarray(0, length);
    this.#chunk = this.#chunk.subarray(length);
    return part;
  }

  async #fill(): Promise<boolean> {
    while (this.#chunk.length === 0 && !this.#ended) {
      const next = await this.#source.next();
      if (next.done) this.#ended = true;
      else this.#chunk = next.value;
    }
    return this.#chunk.length > 0;
  }
}
