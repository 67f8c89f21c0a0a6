// Exponential back-off with jitter and a ceiling.

export interface BackoffOptions {
  /** Longest first delay, milliseconds. */
  baseMs: number;
  /** No delay is longer than this, milliseconds. */
  maxMs: number;
  /** Part of each delay that is left to chance, 0 to 1: keeps many failures of one cause from coming back in step. */
  jitter: number;
}

/** The delay after `failures` earlier ones in a row (0 for the first): doubling, at most `maxMs`, shortened by chance. */
export function backoffMs(options: BackoffOptions, failures: number, random: () => number): number {
  // 2 ** 64 times any base is past any ceiling; the bound keeps Infinity out.
  const longest = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(failures, 64));
  return longest * (1 - options.jitter * random());
}
