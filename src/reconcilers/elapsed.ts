// How long ago something was, and waiting no longer than so long.
import type { Clock } from '../controller/clock.ts';

/** What `promise` gives, or `undefined` when it takes longer than so many milliseconds. */
export async function within<T>(clock: Clock, ms: number, promise: Promise<T>): Promise<T | undefined> {
  let cancel = (): void => {};
  const timeout = new Promise<undefined>((resolve) => {
    cancel = clock.after(ms, () => resolve(undefined));
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    cancel();
  }
}

/**
 * Time since recorded moments. The wall clock says how old a record was when this process first saw it; from then on
 * the monotonic clock counts. So a restart of the daemon keeps every deadline, and a clock that jumps while it runs
 * moves none.
 */
export class ElapsedTimes {
  readonly #clock: Clock;
  readonly #anchors = new Map<string, { recorded: string; ageMs: number; seenAt: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Milliseconds since `recorded` (RFC 3339); `name` tells moments of one object apart. Never negative. */
  since(name: string, recorded: string): number {
    let anchor = this.#anchors.get(name);
    if (anchor === undefined || anchor.recorded !== recorded) {
      const ageMs = Math.max(0, this.#clock.now() - Date.parse(recorded));
      anchor = {
        recorded,
        ageMs: Number.isNaN(ageMs) ? 0 : ageMs,
        seenAt: this.#clock.monotonic(),
      };
      this.#anchors.set(name, anchor);
    }
    return anchor.ageMs + (this.#clock.monotonic() - anchor.seenAt);
  }
}
