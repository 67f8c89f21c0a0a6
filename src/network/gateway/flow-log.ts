// What a sandbox's network decided and carried: counters and the last decisions.
import type { FlowEntry } from '../../api/wire.ts';
import { type Decider, explain } from '../policy/flow.ts';
import { LOG_ENTRIES_MAX } from './limits.ts';

export interface NetworkCounters {
  /** By `layer/result`. */
  readonly decisions: Readonly<Record<string, number>>;
  readonly egressBytes: number;
  readonly ingressBytes: number;
  /** Open now. */
  readonly connections: number;
}

export class FlowLog {
  readonly #entries: FlowEntry[] = [];
  readonly #decisions: Record<string, number> = {};
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
    this.#entries.push({ at, ...entry, reason: by === undefined ? '' : explain(by) });
    if (this.#entries.length > LOG_ENTRIES_MAX) this.#entries.shift();
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
