// Secrets and ConfigMaps of a cluster as the agent of a node sees them: each that is asked for is listed and watched by its name
// alone, since a node may read those that its sandboxes refer to and no others.
import { asBulkheadError, type BulkheadError } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { ObjectKey, Store, WatchEvent } from '../store.ts';

/** What nobody asked for so long is no longer followed: every sandbox is looked at again each ten minutes. */
const UNUSED_AFTER_MS = 30 * 60_000;
/** After failures, doubled each time. The first is short: the right to read may be a moment behind the sandbox's arrival. */
const RETRY_MIN_MS = 200;
const RETRY_MAX_MS = 30_000;
/** A watch of these begins with all that is there, so that no version is older than another. */
const VERSION = '0';

type Source = Pick<Store, 'list' | 'watch'>;

interface Followed {
  key: ObjectKey;
  /** Resolves when the attempt to read it that is under way has succeeded or failed. */
  settled: PromiseWithResolvers<void>;
  object?: StoredObject;
  /** Why it cannot be read now. */
  failure?: BulkheadError;
  /** Ends the wait before another attempt. */
  retry: () => void;
  usedAt: number;
}

export interface FollowedObjectsOptions {
  source: Source;
  /** Monotonic milliseconds. */
  now?: () => number;
  unusedAfterMs?: number;
}

export class FollowedObjects {
  readonly #source: Source;
  readonly #now: () => number;
  readonly #unusedAfterMs: number;
  readonly #followed = new Map<string, Followed>();
  readonly #watchers = new Set<() => void>();
  readonly #closed = new AbortController();

  constructor({
    source,
    now = () => performance.now(),
    unusedAfterMs = UNUSED_AFTER_MS,
  }: FollowedObjectsOptions) {
    this.#source = source;
    this.#now = now;
    this.#unusedAfterMs = unusedAfterMs;
  }

  /** The object as it is now, from memory once it is followed. Fails where it cannot be read, with FORBIDDEN among others. */
  async get(key: ObjectKey): Promise<StoredObject | undefined> {
    const followed = this.#followed.get(textOf(key)) ?? this.#follow(key);
    followed.usedAt = this.#now();
    // The right to it may have come meanwhile.
    followed.retry();
    await followed.settled.promise;
    if (followed.failure !== undefined) throw followed.failure;
    return followed.object;
  }

  /** Those of a kind that are followed. */
  list(kind: string): { items: StoredObject[]; resourceVersion: string } {
    const items = [...this.#followed.values()].flatMap(({ key, object }) =>
      key.kind === kind && object !== undefined ? [object] : [],
    );
    return { items, resourceVersion: VERSION };
  }

  /** What is followed now, then each newer state; states between may be left out. Ends when `signal` aborts. */
  async *watch(kind: string, asked: AbortSignal): AsyncGenerator<WatchEvent> {
    const signal = AbortSignal.any([asked, this.#closed.signal]);
    let changed = Promise.withResolvers<void>();
    const wake = (): void => changed.resolve();
    this.#watchers.add(wake);
    signal.addEventListener('abort', wake);
    try {
      let told = new Map<string, StoredObject>();
      while (!signal.aborted) {
        changed = Promise.withResolvers();
        const present = new Map(this.list(kind).items.map((object) => [object.metadata.uid, object]));
        for (const [uid, object] of told)
          if (!present.has(uid)) yield { type: 'DELETED', object, resourceVersion: VERSION };
        for (const [uid, object] of present)
          if (told.get(uid) !== object) yield { type: 'MODIFIED', object, resourceVersion: VERSION };
        told = present;
        await changed.promise;
      }
    } finally {
      this.#watchers.delete(wake);
      signal.removeEventListener('abort', wake);
    }
  }

  close(): void {
    this.#closed.abort();
  }

  #follow(key: ObjectKey): Followed {
    const followed: Followed = {
      ...{ key, settled: Promise.withResolvers<void>() },
      ...{ retry: () => undefined, usedAt: this.#now() },
    };
    this.#followed.set(textOf(key), followed);
    void this.#run(followed);
    return followed;
  }

  async #run(followed: Followed): Promise<void> {
    let retryMs = RETRY_MIN_MS;
    while (!this.#closed.signal.aborted && this.#isUsed(followed)) {
      try {
        await this.#readAndWatch(followed, () => {
          retryMs = RETRY_MIN_MS;
        });
      } catch (error) {
        this.#noteFailure(followed, asBulkheadError(error));
        await this.#pause(followed, retryMs);
        retryMs = Math.min(2 * retryMs, RETRY_MAX_MS);
      }
    }
    followed.settled.resolve();
    this.#followed.delete(textOf(followed.key));
    this.#tell();
  }

  /** Until it is no longer used. */
  async #readAndWatch(followed: Followed, succeeded: () => void): Promise<void> {
    const { kind, namespace, name } = followed.key;
    const { signal } = this.#closed;
    const selection = { namespace, fieldSelector: `metadata.name=${name}` };
    const { items, resourceVersion } = await this.#source.list(kind, selection);
    this.#set(followed, items[0]);
    succeeded();
    for await (const event of this.#source.watch(kind, { ...selection, resourceVersion, signal })) {
      if (event.type === 'DELETED') this.#set(followed, undefined);
      else if (event.type !== 'BOOKMARK') this.#set(followed, event.object);
      if (!this.#isUsed(followed)) return;
    }
  }

  #isUsed({ usedAt }: Followed): boolean {
    return this.#now() - usedAt < this.#unusedAfterMs;
  }

  /** What was read stays true enough while the API server does not answer; not where the right to it is gone. */
  #noteFailure(followed: Followed, failure: BulkheadError): void {
    if (failure.code === 'FORBIDDEN') delete followed.object;
    if (followed.object === undefined) followed.failure = failure;
    followed.settled.resolve();
  }

  /** A `get` ends it at once, and waits for the attempt that follows. */
  async #pause(followed: Followed, ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    const closed = (): void => resolve();
    this.#closed.signal.addEventListener('abort', closed);
    followed.retry = () => {
      if (followed.failure !== undefined) followed.settled = Promise.withResolvers();
      resolve();
    };
    await promise;
    clearTimeout(timer);
    this.#closed.signal.removeEventListener('abort', closed);
    followed.retry = () => undefined;
  }

  #set(followed: Followed, object: StoredObject | undefined): void {
    delete followed.failure;
    if (object === undefined) delete followed.object;
    else followed.object = object;
    followed.settled.resolve();
    this.#tell();
  }

  #tell(): void {
    for (const wake of this.#watchers) wake();
  }
}

function textOf({ kind, namespace, name }: ObjectKey): string {
  return `${kind} ${namespace}/${name}`;
}
