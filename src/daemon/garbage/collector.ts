// What is on the host and has no owner: found, told, and removed. Each source looks at what there is first and at who owns
// it afterwards, so that what is made meanwhile is never taken for ownerless.
import { asBulkheadError } from '../../api/errors.ts';
import type { GarbageItem, GarbageKind } from '../../api/wire.ts';
import { type Clock, sleep } from '../../controller/clock.ts';
import type { Log } from '../../controller/log.ts';

/** Something without an owner. */
export interface Garbage {
  kind: GarbageKind;
  name: string;
  /** Why nobody needs it, as a sentence. */
  reason: string;
  sizeBytes?: number;
  remove(): Promise<void>;
}

export type GarbageSource = () => Promise<Garbage[]>;

/** What a killed daemon or a lost object left takes room and nothing else: there is no hurry. */
const INTERVAL_MS = 10 * 60_000;

export class GarbageCollector {
  readonly #sources: readonly GarbageSource[];
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #stopped = new AbortController();
  /** One after another: two that find the same thing would both tell of it. */
  #turns: Promise<unknown> = Promise.resolve();
  #running: Promise<void> | undefined;

  constructor(sources: readonly GarbageSource[], log: Log, clock: Clock) {
    this.#sources = sources;
    this.#log = log;
    this.#clock = clock;
  }

  /** Collects now, and from time to time. */
  start(): Promise<void> {
    this.#running = this.#repeat();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
    await this.#turns;
  }

  /** What has no owner; unless it is a dry run, what could not be removed has an error. Never fails for one of them. */
  collect(options: { dryRun: boolean }): Promise<GarbageItem[]> {
    const turn = this.#turns.then(() => this.#collect(options));
    this.#turns = turn.catch(() => {});
    return turn;
  }

  async #collect({ dryRun }: { dryRun: boolean }): Promise<GarbageItem[]> {
    const items: GarbageItem[] = [];
    for (const find of this.#sources) {
      for (const { remove, ...item } of await find()) {
        if (this.#stopped.signal.aborted) return items;
        const error = dryRun ? undefined : await failureOf(remove);
        items.push({ ...item, ...(error === undefined ? {} : { error }) });
        if (dryRun) continue;
        if (error === undefined) this.#log.warn(item, 'removed what had no owner');
        else this.#log.error({ ...item, error }, 'what has no owner cannot be removed; it is tried again');
      }
    }
    return items;
  }

  async #repeat(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await this.collect({ dryRun: false }).catch((error: unknown) =>
        this.#log.error({ error }, 'looking for what has no owner failed'),
      );
      await sleep(this.#clock, INTERVAL_MS, signal).catch(() => {});
    }
  }
}

async function failureOf(work: () => Promise<void>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return asBulkheadError(error).message;
  }
}
