// Sequential writer of the disk file: large writes, one in flight, runs of zeros left as holes.

import type { FileHandle } from 'node:fs/promises';
import type { DataSink } from '../layers/apply.ts';
import { TarError } from '../tar/header.ts';
import { BLOCK_BYTES } from './format.ts';

/** Large enough that the cost of a write call does not show, small enough for many builds at once. */
const BUFFER_BYTES = 1024 * 1024;
/** Zeros shorter than this are cheaper written than as one more extent of the file. */
const HOLE_GRAIN = 64 * 1024;
const ZEROS = Buffer.alloc(HOLE_GRAIN);

/** Appends to a file from block 1 on (block 0 is the superblock's); holes cost no disk and no time. */
export class BlockWriter implements DataSink {
  readonly #file: FileHandle;
  readonly #maxBytes: number;
  #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #spare = Buffer.allocUnsafe(BUFFER_BYTES);
  #used = 0;
  /** File offset of the buffer's first byte. */
  #base = BLOCK_BYTES;
  #inFlight: Promise<void> = Promise.resolve();

  constructor(file: FileHandle, maxBytes: number) {
    this.#file = file;
    this.#maxBytes = maxBytes;
  }

  get position(): number {
    return this.#base + this.#used;
  }

  /** Block of the position, which must be at the start of one. */
  get block(): number {
    return this.position / BLOCK_BYTES;
  }

  beginFile(size: number): number {
    if (this.position + size > this.#maxBytes) {
      throw new TarError(`the image is larger than ${this.#maxBytes} bytes`);
    }
    return this.block;
  }

  async write(bytes: Buffer): Promise<void> {
    let at = 0;
    while (at < bytes.length) {
      const copied = bytes.copy(this.#buffer, this.#used, at);
      at += copied;
      this.#used += copied;
      if (this.#used === BUFFER_BYTES) await this.#flush();
    }
  }

  async hole(length: number): Promise<void> {
    const inBuffer = Math.min(length, BUFFER_BYTES - this.#used);
    this.#buffer.fill(0, this.#used, this.#used + inBuffer);
    this.#used += inBuffer;
    if (this.#used === BUFFER_BYTES) await this.#flush();
    // The file grows over what is skipped: bytes that were never written read as zeros.
    this.#base += length - inBuffer;
  }

  async endFile(): Promise<void> {
    await this.align();
  }

  /** Zeros up to the next block. */
  async align(): Promise<void> {
    await this.hole((BLOCK_BYTES - (this.position % BLOCK_BYTES)) % BLOCK_BYTES);
  }

  /** Waits for all writes, and sets the length of the file to the position. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#inFlight;
    await this.#file.truncate(this.position);
  }

  /** Waits for the write in flight without a look at its outcome: before the file is closed after an error. */
  async settle(): Promise<void> {
    await this.#inFlight.catch(() => undefined);
  }

  async #flush(): Promise<void> {
    await this.#inFlight;
    const full = this.#buffer.subarray(0, this.#used);
    const at = this.#base;
    [this.#buffer, this.#spare] = [this.#spare, this.#buffer];
    this.#base += this.#used;
    this.#used = 0;
    this.#inFlight = this.#writeRuns(full, at);
    // Seen by the next flush; without this an early failure would count as unhandled.
    this.#inFlight.catch(() => undefined);
  }

  async #writeRuns(bytes: Buffer, base: number): Promise<void> {
    let start = 0;
    for (let at = 0; at < bytes.length; at += HOLE_GRAIN) {
      const grain = bytes.subarray(at, at + HOLE_GRAIN);
      if (ZEROS.compare(grain, 0, grain.length, 0, grain.length) !== 0) continue;
      await this.#writeRun(bytes.subarray(start, at), base + start);
      start = at + grain.length;
    }
    await this.#writeRun(bytes.subarray(start), base + start);
  }

  async #writeRun(bytes: Buffer, at: number): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, at + done);
      done += bytesWritten;
    }
  }
}
