// How fast one sandbox may send, all of its connections together.
import { Transform } from 'node:stream';
import type { Clock } from '../../controller/clock.ts';

/** What was not used of the rate counts for so long. */
const BURST_MS = 250;

export class EgressRate {
  readonly #clock: Clock;
  #perSecond: number | undefined;
  /** Monotonic time at which all that was sent so far is paid for. */
  #paidAt = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Bytes a second; undefined for as many as there are. */
  set(perSecond: number | undefined): void {
    this.#perSecond = perSecond;
  }

  get isLimited(): boolean {
    return this.#perSecond !== undefined;
  }

  /** Passes bytes on when they are paid for. Back-pressure holds what waits in the sender. */
  stream(): Transform {
    let cancel: (() => void) | undefined;
    return new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        const wait = this.#take(chunk.length);
        if (wait <= 0) done(null, chunk);
        else cancel = this.#clock.after(wait, () => done(null, chunk));
      },
      destroy: (error, done) => {
        cancel?.();
        done(error);
      },
    });
  }

  /** May a datagram of so many bytes go now? One that may not is dropped, as nothing holds its sender back. */
  admit(bytes: number): boolean {
    if (this.#perSecond === undefined) return true;
    if (this.#paidAt > this.#clock.monotonic()) return false;
    this.#take(bytes);
    return true;
  }

  /** Milliseconds until so many bytes may go. */
  #take(bytes: number): number {
    if (this.#perSecond === undefined) return 0;
    const now = this.#clock.monotonic();
    this.#paidAt = Math.max(this.#paidAt, now - BURST_MS) + (bytes * 1_000) / this.#perSecond;
    return this.#paidAt - now;
  }
}
