// Failures and delays that a test asks of the fakes, by the name of a call.
import type { Clock } from '../../controller/clock.ts';
import { sleep } from '../../controller/clock.ts';

export class Faults {
  readonly #clock: Clock;
  readonly #errors = new Map<string, Error[]>();
  readonly #always = new Map<string, Error>();
  readonly #latency = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The next so many calls fail. */
  fail(call: string, error: Error, times = 1): void {
    const errors = this.#errors.get(call) ?? [];
    for (let index = 0; index < times; index += 1) errors.push(error);
    this.#errors.set(call, errors);
  }

  /** All calls fail, until `mend`. */
  failAlways(call: string, error: Error): void {
    this.#always.set(call, error);
  }

  mend(call: string): void {
    this.#always.delete(call);
    this.#errors.delete(call);
  }

  /** Calls take so long from now on. */
  delay(call: string, ms: number): void {
    this.#latency.set(call, ms);
  }

  /** To be awaited at the beginning of a call. Rejects with the signal's reason when it aborts during the delay. */
  async pass(call: string, signal?: AbortSignal): Promise<void> {
    const latency = this.#latency.get(call) ?? 0;
    if (latency > 0) await sleep(this.#clock, latency, signal ?? new AbortController().signal);
    signal?.throwIfAborted();
    const error = this.#errors.get(call)?.shift() ?? this.#always.get(call);
    if (error !== undefined) throw error;
  }
}
