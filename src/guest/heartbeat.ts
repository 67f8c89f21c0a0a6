// Pings that tell a guest which works from one that is silent.
import type { GuestClock } from './clock.ts';
import { PING_INTERVAL_MS, PING_MISSES } from './limits.ts';

/** How long one ping may wait for its answer: past this the heart has stopped anyway. */
export const PING_TIMEOUT_MS = PING_INTERVAL_MS * (PING_MISSES + 1);

/**
 * Pings until stopped, and once PING_MISSES in a row were not answered says so, which ends it.
 * @param ping resolves with the answer; what it rejects with counts as none.
 * @returns stops it.
 */
export function startHeartbeat(
  clock: GuestClock,
  ping: () => Promise<unknown>,
  onSilent: () => void,
): () => void {
  let missed = 0;
  let stop = (): void => {};
  const beat = (): void => {
    if (missed >= PING_MISSES) {
      onSilent();
      return;
    }
    missed++;
    ping().then(
      () => {
        missed = 0;
      },
      () => {}, // counted already
    );
    stop = clock.after(PING_INTERVAL_MS, beat);
  };
  stop = clock.after(PING_INTERVAL_MS, beat);
  return () => stop();
}
