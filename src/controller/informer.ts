// A local, always current copy of all objects of one kind, and notice of each change.
import { BulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { Store, WatchEvent } from '../store/store.ts';
import { type BackoffOptions, backoffMs } from './backoff.ts';
import { type Clock, sleep } from './clock.ts';
import type { Log } from './log.ts';
import type { Runnable } from './manager.ts';

/** Lists and watches that fail: quickly again, as a daemon without its store does nothing useful. */
const DEFAULT_BACKOFF: BackoffOptions = { baseMs: 200, maxMs: 30_000, jitter: 0.5 };

/** How often every object is looked at again without a cause: covers what no event tells. */
const DEFAULT_RESYNC_MS = 10 * 60_000;
/** Resyncs of several informers spread over this part of the period. */
const RESYNC_JITTER = 0.2;

/** What a handler is told. */
export interface Notification {
  /** `resync`: nothing is known to have changed. */
  type: 'added' | 'updated' | 'deleted' | 'resync';
  /** After the change; for `deleted` the last state known. */
  object: StoredObject;
  /** Before the change, for `updated`. */
  previous?: StoredObject;
  /** Part of the first list: the object may be unchanged since a former run of this program. */
  initial: boolean;
}

export type NotificationHandler = (notification: Notification) => void;

export interface InformerOptions {
  store: Store;
  kind: string;
  clock: Clock;
  log: Log;
  resyncMs?: number;
  backoff?: BackoffOptions;
  /** From 0 to below 1. */
  random?: () => number;
}

/**
 * Lists, then watches; on any failure goes on where it was, or lists again where the history is gone, so that a handler
 * misses no final state: steps between may be merged. An object that was replaced by one of the same name is told as
 * `deleted` and `added`.
 */
export class Informer implements Runnable {
  readonly name: string;
  readonly kind: string;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #resyncMs: number;
  readonly #backoff: BackoffOptions;
  readonly #random: () => number;
  readonly #handlers: NotificationHandler[] = [];
  #objects = new Map<string, StoredObject>();
  #hasSynced = false;
  readonly #synced = Promise.withResolvers<void>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #cancelResync: (() => void) | undefined;

  constructor(options: InformerOptions) {
    this.kind = options.kind;
    this.name = `informer ${options.kind}`;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#resyncMs = options.resyncMs ?? DEFAULT_RESYNC_MS;
    this.#backoff = options.backoff ?? DEFAULT_BACKOFF;
    this.#random = options.random ?? Math.random;
  }

  /** To be called before `start`. Handlers are called in order and should only take note. */
  addHandler(handler: NotificationHandler): void {
    this.#handlers.push(handler);
  }

  /** Whether the first list is complete: before that, absence from the cache means nothing. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  get(namespace: string, name: string): StoredObject | undefined {
    return this.#objects.get(`${namespace}/${name}`);
  }

  /** All objects, or those of one namespace; in no particular order. */
  list(namespace?: string): StoredObject[] {
    const objects = [...this.#objects.values()];
    return namespace === undefined
      ? objects
      : objects.filter(({ metadata }) => metadata.namespace === namespace);
  }

  /** Resolves when the first list is in the cache, however long the store takes; or when it is stopped before. */
  async start(): Promise<void> {
    this.#running ??= this.#run();
    await this.#synced.promise;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#cancelResync?.();
    this.#synced.resolve();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let version: string | undefined;
    let failures = 0;
    while (!signal.aborted) {
      const began = this.#clock.monotonic();
      let listAtOnce = false;
      try {
        version ??= await this.#relist();
        for await (const event of this.#store.watch(this.kind, { resourceVersion: version, signal })) {
          this.#apply(event);
          version = event.resourceVersion;
          failures = 0;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof BulkheadError && error.code === 'EXPIRED') {
          version = undefined;
          listAtOnce = failures === 0;
        }
        this.#log.warn({ kind: this.kind, error }, 'watch failed, going on');
      }
      if (signal.aborted) return;
      // A watch that held for long was healthy, however it ended and however little it had to tell.
      if (this.#clock.monotonic() - began >= this.#backoff.maxMs) failures = 0;
      if (!listAtOnce) await sleep(this.#clock, backoffMs(this.#backoff, failures, this.#random), signal);
      failures += 1;
    }
  }

  /** Replaces the cache by what the store has now, and tells the difference. */
  async #relist(): Promise<string> {
    const { items, resourceVersion } = await this.#store.list(this.kind);
    const gone = new Map(this.#objects);
    const initial = !this.#hasSynced;
    for (const object of items) {
      gone.delete(cacheKey(object));
      this.#put(object, initial);
    }
    for (const object of gone.values()) this.#remove(object);
    if (initial) {
      this.#hasSynced = true;
      this.#synced.resolve();
      this.#scheduleResync();
    }
    return resourceVersion;
  }

  #apply(event: WatchEvent): void {
    if (event.type === 'BOOKMARK') return;
    if (event.type === 'DELETED') this.#remove(event.object);
    else this.#put(event.object, false);
  }

  #put(object: StoredObject, initial: boolean): void {
    const key = cacheKey(object);
    const previous = this.#objects.get(key);
    if (previous?.metadata.resourceVersion === object.metadata.resourceVersion) return;
    if (previous !== undefined && previous.metadata.uid !== object.metadata.uid) {
      this.#remove(previous);
      this.#put(object, initial);
      return;
    }
    this.#objects.set(key, object);
    this.#notify(
      previous === undefined
        ? { type: 'added', object, initial }
        : { type: 'updated', object, previous, initial },
    );
  }

  #remove(object: StoredObject): void {
    if (this.#objects.delete(cacheKey(object))) this.#notify({ type: 'deleted', object, initial: false });
  }

  #notify(notification: Notification): void {
    for (const handler of this.#handlers) {
      try {
        handler(notification);
      } catch (error) {
        this.#log.error({ kind: this.kind, error }, 'a handler of changes failed');
      }
    }
  }

  #scheduleResync(): void {
    const period = this.#resyncMs * (1 - RESYNC_JITTER * this.#random());
    this.#cancelResync = this.#clock.after(period, () => {
      for (const object of this.#objects.values()) this.#notify({ type: 'resync', object, initial: false });
      this.#scheduleResync();
    });
  }
}

function cacheKey({ metadata }: StoredObject): string {
  return `${metadata.namespace}/${metadata.name}`;
}
