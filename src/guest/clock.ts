// Time as the supervision of the agent sees it; tests bring their own.

export interface GuestClock {
  /** Wall clock, milliseconds since the epoch. */
  now(): number;
  /** Calls back once after so many milliseconds; the result cancels it. */
  after(ms: number, callback: () => void): () => void;
}

/** Real time. Its timers keep no process alive by themselves. */
export const systemClock: GuestClock = {
  now: () => Date.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
