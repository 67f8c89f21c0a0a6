// What a sandbox may ask in a time, so that questions cannot carry data out, nor load an upstream.
import type { Clock } from '../../controller/clock.ts';
import {
  QUERIES_BURST,
  QUERIES_PER_SECOND,
  TOTAL_BYTES_BURST,
  TOTAL_BYTES_PER_SECOND,
  ZONE_BYTES_BURST,
  ZONE_BYTES_PER_SECOND,
  ZONES_MAX,
} from './limits.ts';

class Bucket {
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #burst: number;
  #level: number;
  #at: number;

  constructor(clock: Clock, perSecond: number, burst: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#level = burst;
    this.#at = clock.monotonic();
  }

  take(amount: number): boolean {
    const now = this.#clock.monotonic();
    this.#level = Math.min(this.#burst, this.#level + ((now - this.#at) / 1_000) * this.#perSecond);
    this.#at = now;
    if (this.#level < amount) return false;
    this.#level -= amount;
    return true;
  }
}

/** Where a registry sells names below a short label (`co.uk`), a domain is one label longer. */
const SHORT_LABEL = 3;

/** The part of a name that one owner has: nearly always the registered domain. */
function zoneOf(name: string): string {
  const labels = name.split('.');
  const second = labels.at(-2) ?? '';
  return labels.slice(second.length <= SHORT_LABEL ? -3 : -2).join('.');
}

export class QueryBudget {
  readonly #clock: Clock;
  readonly #queries: Bucket;
  readonly #total: Bucket;
  /** Least recently used first. */
  readonly #zones = new Map<string, Bucket>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#queries = new Bucket(clock, QUERIES_PER_SECOND, QUERIES_BURST);
    this.#total = new Bucket(clock, TOTAL_BYTES_PER_SECOND, TOTAL_BYTES_BURST);
  }

  /** May one more question be looked at? */
  takeQuery(): boolean {
    return this.#queries.take(1);
  }

  /** May an upstream learn this name? */
  takeName(name: string): boolean {
    const zone = zoneOf(name);
    const bucket = this.#zones.get(zone) ?? new Bucket(this.#clock, ZONE_BYTES_PER_SECOND, ZONE_BYTES_BURST);
    this.#zones.delete(zone);
    this.#zones.set(zone, bucket);
    if (this.#zones.size > ZONES_MAX) {
      const [oldest = zone] = this.#zones.keys();
      this.#zones.delete(oldest);
    }
    return bucket.take(name.length) && this.#total.take(name.length);
  }
}
