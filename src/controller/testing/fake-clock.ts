// A clock for tests: time passes only when a test says so.
import type { Clock } from '../clock.ts';

export class FakeClock implements Clock {
  #elapsed = 0;
  #epoch: number;
  #timers: { at: number; callback: () => void }[] = [];

  constructor(epoch = Date.parse('2026-01-01T00:00:00Z')) {
    this.#epoch = epoch;
  }

  now(): number {
    return this.#epoch + this.#elapsed;
  }

  monotonic(): number {
    return this.#elapsed;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#elapsed + Math.max(0, ms), callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Milliseconds from now at which timers are due, soonest first. */
  get pending(): number[] {
    return this.#timers.map(({ at }) => at - this.#elapsed).sort((a, b) => a - b);
  }

  /** Sets the wall clock, as an administrator or NTP does; durations do not notice. */
  step(ms: number): void {
    this.#epoch += ms;
  }

  /** Lets `ms` pass: runs what is due in order, and what that sets in motion. */
  async advance(ms: number): Promise<void> {
    const end = this.#elapsed + ms;
    await settle();
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#elapsed = Math.max(this.#elapsed, next.at);
      next.callback();
      await settle();
    }
    this.#elapsed = end;
  }
}

/** Lets promises and immediates that are under way run their course. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
