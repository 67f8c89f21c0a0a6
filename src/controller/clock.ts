// Time as the runtime sees it: injected, so that tests decide when it passes.

export interface Clock {
  /** Unix milliseconds; may step. For what people and objects see. */
  now(): number;
  /** Milliseconds since some moment; never steps. For durations. */
  monotonic(): number;
  /** Calls back once, not before `ms` have passed. Returns what cancels it. */
  after(ms: number, callback: () => void): () => void;
}

/** Node fires longer timers at once; they are waited for in parts. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, callback) {
    const due = performance.now() + ms;
    let timer: NodeJS.Timeout;
    const arm = (): void => {
      const left = due - performance.now();
      timer = left > MAX_TIMER_MS ? setTimeout(arm, MAX_TIMER_MS) : setTimeout(callback, Math.max(0, left));
    };
    arm();
    return () => clearTimeout(timer);
  },
};

/** Resolves after `ms`, or at once when `signal` aborts. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const end = (): void => {
      cancel();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const cancel = clock.after(ms, end);
    signal.addEventListener('abort', end);
  });
}
