// What a sandbox's network decided and carried: counters and the last decisions.
import type { FlowEntry } from '../../api/wire.ts';
import { DNS_RESULTS } from '../dns/filter.ts';
import { type Decider, explain } from '../policy/flow.ts';
import { LOG_ENTRIES_MAX, REFUSALS_MAX } from './limits.ts';

export interface NetworkCounters {
  /** By `layer/result`. */
  readonly decisions: Readonly<Record<string, number>>;
  readonly egressBytes: number;
  readonly ingressBytes: number;
  /** Open now. */
  readonly connections: number;
}

/** Results that are refusals. */
const REFUSED: ReadonlySet<string> = new Set(['Denied', 'Cut', 'Limited', 'Blocked', 'Refused']);

/** How many of these decisions were refusals. */
export function refusals(decisions: NetworkCounters['decisions']): number {
  let sum = 0;
  for (const [key, count] of Object.entries(decisions))
    if (REFUSED.has(key.slice(key.indexOf('/') + 1))) sum += count;
  return sum;
}

/** Everything of both. */
export function addCounters(a: NetworkCounters, b: NetworkCounters): NetworkCounters {
  const decisions: Record<string, number> = { ...a.decisions };
  for (const [key, count] of Object.entries(b.decisions)) decisions[key] = (decisions[key] ?? 0) + count;
  return {
    decisions,
    egressBytes: a.egressBytes + b.egressBytes,
    ingressBytes: a.ingressBytes + b.ingressBytes,
    connections: a.connections + b.connections,
  };
}

export const NO_TRAFFIC: NetworkCounters = { decisions: {}, egressBytes: 0, ingressBytes: 0, connections: 0 };

/** Every decision that there is, so that a series is there before its first one. */
export const NO_DECISIONS: NetworkCounters['decisions'] = Object.fromEntries(
  [
    ...['Allowed', 'Denied', 'Cut', 'Limited', 'Failed'].map((result) => `Flow/${result}`),
    ...['Opened', 'Refused'].map((result) => `TLS/${result}`),
    ...['Substituted', 'Blocked'].map((result) => `Secret/${result}`),
    ...DNS_RESULTS.map((result) => `DNS/${result}`),
  ].map((key) => [key, 0]),
);

/** What a gateway tells of itself. */
export interface GatewayCounters {
  /** Since it started, of sandboxes that are gone too. */
  readonly total: NetworkCounters;
  /** By uid. */
  readonly sandboxes: Readonly<Record<string, NetworkCounters>>;
}

/** What was refused, so many times, the same way. */
export interface Refusal extends Omit<FlowEntry, 'at'> {
  readonly count: number;
}

export interface SandboxRefusals {
  readonly uid: string;
  readonly refusals: readonly Refusal[];
}

export class FlowLog {
  readonly #entries: FlowEntry[] = [];
  readonly #decisions: Record<string, number> = {};
  /** Since they were last taken. */
  readonly #refusals = new Map<string, Refusal>();
  readonly #now: () => number;
  egressBytes = 0;
  ingressBytes = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  add(entry: Omit<FlowEntry, 'at' | 'reason'>, by: Decider | undefined): void {
    const key = `${entry.layer}/${entry.result}`;
    this.#decisions[key] = (this.#decisions[key] ?? 0) + 1;
    const at = new Date(this.#now()).toISOString();
    const told = { ...entry, reason: by === undefined ? '' : explain(by) };
    this.#entries.push({ at, ...told });
    if (REFUSED.has(entry.result)) this.#refused(told);
    if (this.#entries.length > LOG_ENTRIES_MAX) this.#entries.shift();
  }

  /** Different refusals since the last call; of many different ones the first. */
  takeRefusals(): Refusal[] {
    const taken = [...this.#refusals.values()];
    this.#refusals.clear();
    return taken;
  }

  #refused(told: Omit<FlowEntry, 'at'>): void {
    const key = JSON.stringify(told);
    const former = this.#refusals.get(key);
    if (former === undefined && this.#refusals.size >= REFUSALS_MAX) return;
    this.#refusals.set(key, { ...told, count: (former?.count ?? 0) + 1 });
  }

  /** Oldest first. */
  get entries(): readonly FlowEntry[] {
    return this.#entries;
  }

  counters(connections: number): NetworkCounters {
    const { egressBytes, ingressBytes } = this;
    return { decisions: { ...this.#decisions }, egressBytes, ingressBytes, connections };
  }
}
