// The keyed work queue: what should be looked at, each key once, fresh events before resyncs.
import { type BackoffOptions, backoffMs } from './backoff.ts';
import type { Clock } from './clock.ts';
import { DeadlineHeap } from './deadline-heap.ts';
import { noQueueMetrics, type QueueMetrics, type UnfinishedWork } from './metrics.ts';

/** Something happened to the object. */
export const FRESH = 0;
/** Nothing is known to have happened: the first list, a resync. Same distance as controller-runtime's LowPriority. */
export const RESYNC = -100;

/** Retries of one key: 10/s at first, at the end one in about five minutes, as a kubelet restarts containers. */
export const DEFAULT_RETRY_BACKOFF: BackoffOptions = { baseMs: 100, maxMs: 300_000, jitter: 0.2 };

/** Deadlines that no longer hold stay in the heap until so many more than the valid ones have gathered. */
const STALE_DEADLINES_KEPT = 64;

export interface WorkQueueOptions {
  clock: Clock;
  backoff?: BackoffOptions;
  metrics?: QueueMetrics;
  /** From 0 to below 1. */
  random?: () => number;
}

/** A key that was handed out. */
export interface WorkItem {
  key: string;
  priority: number;
}

/**
 * - A key is in the queue at most once; adding it again keeps the higher priority and the earlier time.
 * - A key that is being worked on is not handed out: added meanwhile, it comes again after `done`.
 * - Higher priorities first; within one, first in first out.
 * - After `shutDown` nothing is taken in or handed out; keys left behind come back with the next start's list.
 */
export class WorkQueue {
  readonly #clock: Clock;
  readonly #backoff: BackoffOptions;
  readonly #metrics: QueueMetrics;
  readonly #random: () => number;

  /** Priority to the keys that can be handed out, each with when it became so. Insertion order is queue order. */
  readonly #ready = new Map<number, Map<string, number>>();
  /** The keys of `#ready`, highest first. */
  #priorities: number[] = [];
  /** Key to its priority, for all keys in `#ready`. */
  readonly #readyPriority = new Map<string, number>();
  /** Keys being worked on, with when they were handed out. */
  readonly #working = new Map<string, number>();
  /** Keys added while being worked on. */
  readonly #again = new Map<string, { priority: number; since: number }>();
  /** Keys that wait for their time. */
  readonly #delayed = new Map<string, { at: number; priority: number }>();
  /** Deadlines of `#delayed`, and some that no longer hold. */
  #deadlines = new DeadlineHeap();
  #timer: { at: number; cancel: () => void } | undefined;

  readonly #failures = new Map<string, number>();
  /** Those who wait for a key, first come first served. */
  readonly #takers: ((item: WorkItem | undefined) => void)[] = [];
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(options: WorkQueueOptions) {
    this.#clock = options.clock;
    this.#backoff = options.backoff ?? DEFAULT_RETRY_BACKOFF;
    this.#metrics = options.metrics ?? noQueueMetrics;
    this.#random = options.random ?? Math.random;
    this.#metrics.observeUnfinished(() => this.unfinishedWork());
  }

  /** Keys that could be worked on, were there workers enough. Without those that wait for their time. */
  get length(): number {
    return this.#readyPriority.size + this.#again.size;
  }

  add(key: string, priority: number = FRESH): void {
    if (this.#drained !== undefined) return;
    const delayed = this.#delayed.get(key);
    if (delayed !== undefined) {
      this.#delayed.delete(key);
      this.#arm();
    }
    this.#makeReady(key, Math.max(priority, delayed?.priority ?? priority));
    this.#handOut();
  }

  /** Adds the key after `ms`, unless something adds it sooner. */
  addAfter(key: string, ms: number, priority: number = FRESH): void {
    if (!(ms > 0)) {
      this.add(key, priority);
      return;
    }
    if (this.#drained !== undefined) return;
    const queued = this.#readyPriority.get(key) ?? this.#again.get(key)?.priority;
    if (queued !== undefined) {
      if (priority > queued) this.#makeReady(key, priority);
      return;
    }
    const at = this.#clock.monotonic() + ms;
    const former = this.#delayed.get(key);
    if (former !== undefined && former.at <= at) {
      former.priority = Math.max(former.priority, priority);
      return;
    }
    this.#delayed.set(key, { at, priority: Math.max(priority, former?.priority ?? priority) });
    this.#deadlines.push({ at, key });
    this.#arm();
  }

  /** Adds the key after a delay that grows with each call for it until `forget`. */
  addRateLimited(key: string, priority: number = FRESH): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    this.#metrics.retried();
    this.addAfter(key, backoffMs(this.#backoff, failures, this.#random), priority);
  }

  /** Ends a series of failures. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** Calls of `addRateLimited` since the last `forget`. */
  failures(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** The next key, which is the caller's until `done`; `undefined` once the queue is shut down. */
  get(): Promise<WorkItem | undefined> {
    return new Promise((resolve) => {
      this.#takers.push(resolve);
      this.#handOut();
    });
  }

  /** The caller of `get` has finished with the key. */
  done(key: string): void {
    const since = this.#working.get(key);
    if (since === undefined) return;
    this.#working.delete(key);
    this.#metrics.worked((this.#clock.monotonic() - since) / 1000);
    const again = this.#again.get(key);
    if (again !== undefined) {
      this.#again.delete(key);
      this.#putReady(key, again.priority, again.since);
    }
    if (this.#drained !== undefined && this.#working.size === 0) this.#drained.resolve();
    this.#handOut();
  }

  /** Takes nothing in and hands nothing out any more; resolves when all that was handed out is done. */
  shutDown(): Promise<void> {
    if (this.#drained === undefined) {
      this.#drained = Promise.withResolvers<void>();
      this.#timer?.cancel();
      this.#timer = undefined;
      if (this.#working.size === 0) this.#drained.resolve();
      this.#handOut();
    }
    return this.#drained.promise;
  }

  unfinishedWork(): UnfinishedWork {
    const now = this.#clock.monotonic();
    const seconds = [...this.#working.values()].map((since) => (now - since) / 1000);
    return {
      totalSeconds: seconds.reduce((sum, s) => sum + s, 0),
      longestSeconds: seconds.reduce((longest, s) => Math.max(longest, s), 0),
    };
  }

  #makeReady(key: string, priority: number): void {
    const now = this.#clock.monotonic();
    if (this.#working.has(key)) {
      const again = this.#again.get(key);
      if (again === undefined) {
        this.#again.set(key, { priority, since: now });
        this.#countAdded();
      } else again.priority = Math.max(again.priority, priority);
      return;
    }
    const queuedAt = this.#readyPriority.get(key);
    if (queuedAt === undefined) {
      this.#putReady(key, priority, now);
      this.#countAdded();
    } else if (priority > queuedAt) {
      const since = this.#takeReady(key, queuedAt);
      this.#putReady(key, priority, since ?? now);
    }
  }

  #countAdded(): void {
    this.#metrics.added();
    this.#metrics.depth(this.length);
  }

  #putReady(key: string, priority: number, since: number): void {
    let keys = this.#ready.get(priority);
    if (keys === undefined) {
      keys = new Map();
      this.#ready.set(priority, keys);
      this.#priorities = [...this.#ready.keys()].sort((a, b) => b - a);
    }
    keys.set(key, since);
    this.#readyPriority.set(key, priority);
  }

  #takeReady(key: string, priority: number): number | undefined {
    const keys = this.#ready.get(priority);
    const since = keys?.get(key);
    keys?.delete(key);
    this.#readyPriority.delete(key);
    if (keys?.size === 0) {
      this.#ready.delete(priority);
      this.#priorities = this.#priorities.filter((other) => other !== priority);
    }
    return since;
  }

  #handOut(): void {
    while (this.#takers.length > 0) {
      if (this.#drained !== undefined) {
        this.#takers.shift()?.(undefined);
        continue;
      }
      const priority = this.#priorities[0];
      const first = priority === undefined ? undefined : this.#ready.get(priority)?.keys().next();
      if (priority === undefined || first === undefined || first.done === true) return;
      const key = first.value;
      const now = this.#clock.monotonic();
      const since = this.#takeReady(key, priority) ?? now;
      this.#working.set(key, now);
      this.#metrics.waited((now - since) / 1000);
      this.#metrics.depth(this.length);
      this.#takers.shift()?.({ key, priority });
    }
  }

  /** Keeps one timer, for the earliest deadline that holds. */
  #arm(): void {
    if (this.#deadlines.size > 2 * this.#delayed.size + STALE_DEADLINES_KEPT) {
      this.#deadlines = new DeadlineHeap([...this.#delayed].map(([key, { at }]) => ({ at, key })));
    }
    let next = this.#deadlines.peek();
    while (next !== undefined && this.#delayed.get(next.key)?.at !== next.at) {
      this.#deadlines.pop();
      next = this.#deadlines.peek();
    }
    if (next?.at === this.#timer?.at) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (next === undefined) return;
    const cancel = this.#clock.after(next.at - this.#clock.monotonic(), () => {
      this.#timer = undefined;
      this.#releaseDue();
    });
    this.#timer = { at: next.at, cancel };
  }

  #releaseDue(): void {
    const now = this.#clock.monotonic();
    for (
      let next = this.#deadlines.peek();
      next !== undefined && next.at <= now;
      next = this.#deadlines.peek()
    ) {
      this.#deadlines.pop();
      const delayed = this.#delayed.get(next.key);
      if (delayed?.at !== next.at) continue;
      this.#delayed.delete(next.key);
      this.#makeReady(next.key, delayed.priority);
    }
    this.#arm();
    this.#handOut();
  }
}
