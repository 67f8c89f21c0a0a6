// Records events about objects without ever holding up or failing the caller.
import type { StoredObject } from '../api/meta.ts';
import type { EventRecord, Store } from '../store/store.ts';
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';

/** One object may have so many events at once, then one each REFILL_MS: the limits of Kubernetes' own recorder. */
const BURST = 25;
const REFILL_MS = 300_000;
/** An event that repeats within this time is written once more at its end, with how often it came. */
const MERGE_MS = 10_000;
/** Objects whose rates are remembered; the one silent for longest is forgotten first. */
const MAX_OBJECTS = 4096;

/** Of an object, what an event names. */
export type Regarding = Pick<StoredObject, 'kind' | 'metadata'>;

interface Budget {
  tokens: number;
  /** When `tokens` was computed, monotonic milliseconds. */
  at: number;
  /** Events seen within MERGE_MS, by identity, with how many came after the first. */
  recent: Map<string, { repeats: number }>;
}

export class EventRecorder {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  /** By uid; the one used last is the last. */
  readonly #budgets = new Map<string, Budget>();
  /** What ends the merging of an event, with its cancellation. */
  readonly #merging = new Map<() => void, () => void>();
  readonly #writes = new Set<Promise<void>>();
  #closed = false;

  constructor(store: Store, clock: Clock, log: Log) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  /** `reason` is a CamelCase word, `message` a sentence for people; neither ever carries a secret. */
  event(object: Regarding, type: EventRecord['type'], reason: string, message: string): void {
    if (this.#closed) return;
    const { namespace, name, uid } = object.metadata;
    const budget = this.#budget(uid);
    const identity = JSON.stringify([type, reason, message]);
    const merging = budget.recent.get(identity);
    if (merging !== undefined) {
      merging.repeats += 1;
      return;
    }
    if (budget.tokens < 1) {
      this.#log.debug({ uid, reason }, 'an event was dropped: too many about this object');
      return;
    }
    budget.tokens -= 1;
    const record: EventRecord = {
      regarding: { kind: object.kind, namespace, name, uid },
      type,
      reason,
      message,
    };
    this.#write(record);

    const started = { repeats: 0 };
    budget.recent.set(identity, started);
    const end = (): void => {
      this.#merging.delete(end);
      budget.recent.delete(identity);
      if (started.repeats > 0) this.#write({ ...record, count: started.repeats });
    };
    this.#merging.set(end, this.#clock.after(MERGE_MS, end));
  }

  /** Writes what is left and waits for all writes. Later events are dropped. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const [end, cancel] of [...this.#merging]) {
      cancel();
      end();
    }
    await Promise.all(this.#writes);
  }

  #budget(uid: string): Budget {
    const now = this.#clock.monotonic();
    const budget = this.#budgets.get(uid) ?? { tokens: BURST, at: now, recent: new Map() };
    budget.tokens = Math.min(BURST, budget.tokens + (now - budget.at) / REFILL_MS);
    budget.at = now;
    this.#budgets.delete(uid);
    this.#budgets.set(uid, budget);
    if (this.#budgets.size > MAX_OBJECTS) {
      const [oldest] = this.#budgets.keys();
      if (oldest !== undefined) this.#budgets.delete(oldest);
    }
    return budget;
  }

  #write(record: EventRecord): void {
    const write = this.#store
      .recordEvent(record)
      .catch((error: unknown) => {
        this.#log.warn(
          { regarding: record.regarding, reason: record.reason, error },
          'an event was not recorded',
        );
      })
      .finally(() => this.#writes.delete(write));
    this.#writes.add(write);
  }
}
