// Durations in rules. Tests run the same rules with every duration shortened, so each is made here.

/** Durations as Prometheus writes them. */
export interface Times {
  minutes(count: number): string;
  /** The same as a number of seconds, for comparisons. */
  seconds(minutes: number): number;
}

/** Of a shortened duration, seconds: a crowded machine misses a few scrapes of a second in a row. */
const SHORTEST = 6;

/** `speed` times as short, in whole seconds. */
export function timesAt(speed: number): Times {
  const seconds = (minutes: number): number => Math.max(SHORTEST, Math.round((minutes * 60) / speed));
  return { seconds, minutes: (count) => (speed === 1 ? `${count}m` : `${seconds(count)}s`) };
}
