// Upstreams' answers as they came: what a sandbox is told of them is decided anew each time, under the policy of that moment.
import type { Clock } from '../../controller/clock.ts';
import { ANSWER_TTL_MAX_S, CACHE_BYTES_MAX, CACHE_ENTRIES_MAX, NEGATIVE_TTL_MAX_S } from './limits.ts';
import type { DnsRecord, UpstreamReply } from './message.ts';

export interface CachedReply {
  readonly rcode: 'NOERROR' | 'NXDOMAIN';
  readonly answers: readonly DnsRecord[];
  /** The zone's SOA, which says how long an absence holds. */
  readonly authorities: readonly DnsRecord[];
  /** Seconds for which it may be told from now on. */
  readonly ttl: number;
}

interface Entry extends CachedReply {
  readonly bytes: number;
  /** Monotonic. */
  readonly endsAt: number;
}

function minimumOf(soa: DnsRecord | undefined): number {
  const { data } = soa ?? {};
  if (typeof data !== 'object' || data === null || !('minimum' in data)) return 0;
  return typeof data.minimum === 'number' ? data.minimum : 0;
}

/** The part of an upstream's answer that is ever used, with the time for which it holds. */
export function replyOf({ rcode, answers, authorities }: UpstreamReply): CachedReply {
  const soa = authorities.filter(({ type }) => type === 'SOA').slice(0, 1);
  const least = (records: readonly DnsRecord[], start: number) =>
    records.reduce((ttl, record) => Math.min(ttl, record.ttl), start);
  const ttl =
    answers.length > 0
      ? least(answers, ANSWER_TTL_MAX_S)
      : least(soa, Math.min(minimumOf(soa[0]), NEGATIVE_TTL_MAX_S));
  return {
    rcode: rcode === 3 ? 'NXDOMAIN' : 'NOERROR',
    answers,
    authorities: answers.length > 0 ? [] : soa,
    ttl,
  };
}

export class DnsCache {
  readonly #clock: Clock;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get(name: string, type: string): CachedReply | undefined {
    const key = `${type} ${name}`;
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    const left = entry.endsAt - this.#clock.monotonic();
    this.#entries.delete(key);
    if (left <= 0) {
      this.#bytes -= entry.bytes;
      return undefined;
    }
    this.#entries.set(key, entry);
    return { ...entry, ttl: Math.ceil(left / 1_000) };
  }

  set(name: string, type: string, reply: CachedReply, bytes: number): void {
    if (reply.ttl <= 0) return;
    const key = `${type} ${name}`;
    this.#drop(key);
    this.#entries.set(key, { ...reply, bytes, endsAt: this.#clock.monotonic() + reply.ttl * 1_000 });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= CACHE_ENTRIES_MAX && this.#bytes <= CACHE_BYTES_MAX) return;
      this.#drop(oldest);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  get size(): number {
    return this.#entries.size;
  }

  #drop(key: string): void {
    this.#bytes -= this.#entries.get(key)?.bytes ?? 0;
    this.#entries.delete(key);
  }
}
