// How CPU and memory of the sandboxes of a live `bulkhead top` went, as bars.
import { sparkline } from './output/sparkline.ts';

/** Bars of one sandbox: with a reading every two seconds, the last half minute. */
const READINGS = 15;
/** A whole bar of CPU is the most in sight, but at least so many CPUs: what idles shows no peaks. */
const LEAST_CPUS = 0.1;

interface Reading {
  cpus: number;
  memoryBytes: number;
  memoryLimitBytes: number;
}

export class TopHistory {
  readonly #readings = new Map<string, Reading[]>();

  /** One more reading of all that run, by key; those that are gone are forgotten. */
  add(readings: ReadonlyMap<string, Reading>): void {
    for (const key of this.#readings.keys()) if (!readings.has(key)) this.#readings.delete(key);
    for (const [key, reading] of readings)
      this.#readings.set(key, [...(this.#readings.get(key) ?? []), reading].slice(-READINGS));
  }

  cpu(key: string): string {
    const cpus = (this.#readings.get(key) ?? []).map((reading) => reading.cpus);
    return sparkline(cpus, Math.max(LEAST_CPUS, ...cpus)).padStart(READINGS);
  }

  /** A whole bar is the limit. */
  memory(key: string): string {
    const readings = this.#readings.get(key) ?? [];
    const limit = Math.max(0, ...readings.map(({ memoryLimitBytes }) => memoryLimitBytes));
    return sparkline(
      readings.map(({ memoryBytes }) => memoryBytes),
      limit,
    ).padStart(READINGS);
  }
}
