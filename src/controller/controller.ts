// Runs one reconciler: takes keys from its queue, and does with each outcome what the outcome says.
import { isDeepStrictEqual } from 'node:util';
import { BulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { BackoffOptions } from './backoff.ts';
import type { Clock } from './clock.ts';
import type { Informer, Notification } from './informer.ts';
import type { Log } from './log.ts';
import type { Runnable } from './manager.ts';
import { type ControllerMetrics, noControllerMetrics, type QueueMetrics } from './metrics.ts';
import { asReconcile } from './reconcile-context.ts';
import type { Enqueuer, Outcome, Reconciler, Request } from './reconciler.ts';
import { FRESH, RESYNC, type WorkItem, WorkQueue } from './work-queue.ts';

/** Reconciles wait for VMs and disks, not for the processor: more than there are cores. */
const DEFAULT_WORKERS = 8;
/** A step is short; what takes longer (a pull) runs beside and wakes its key when it is done. */
const DEFAULT_TIMEOUT_MS = 60_000;

/** A key that asks to be looked at again at once still waits for a timer: without one it would starve the event loop. */
const MIN_REQUEUE_MS = 1;

export interface ControllerOptions {
  reconciler: Reconciler;
  clock: Clock;
  log: Log;
  /** Keys worked on at once. */
  workers?: number;
  /** After so long the reconciler's signal aborts. */
  timeoutMs?: number;
  /** Of retries after transient errors. */
  backoff?: BackoffOptions;
  metrics?: ControllerMetrics;
  queueMetrics?: QueueMetrics;
  /** From 0 to below 1. */
  random?: () => number;
}

export interface WatchRule {
  /** The keys that a change of this object concerns; by default the object's own. */
  requests?: (object: StoredObject) => Request[];
  /** Whether this notification matters; by default each does. */
  matters?: (notification: Notification) => boolean;
}

/** `matters` for a kind whose status only its own reconciler writes: its own writes need not wake it. */
export function ignoreStatusChanges({ object, previous }: Notification): boolean {
  if (previous === undefined) return true;
  return !isDeepStrictEqual(withoutStatus(object), withoutStatus(previous));
}

function withoutStatus({ metadata, status: _status, ...rest }: StoredObject): unknown {
  const { resourceVersion: _version, ...kept } = metadata;
  return { ...rest, metadata: kept };
}

function ownKey({ kind, metadata }: StoredObject): Request {
  return { kind, namespace: metadata.namespace, name: metadata.name };
}

export class Controller implements Runnable, Enqueuer {
  readonly name: string;
  readonly #reconciler: Reconciler;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #workerCount: number;
  readonly #timeoutMs: number;
  readonly #metrics: ControllerMetrics;
  readonly #queue: WorkQueue;
  /** Of the reconciler's own kind; absent where none is watched. */
  #informer: Informer | undefined;
  /** One per reconcile under way. */
  readonly #active = new Set<AbortController>();
  #stopping = false;
  #workers: Promise<void>[] = [];

  constructor(options: ControllerOptions) {
    this.name = `controller ${options.reconciler.name}`;
    this.#reconciler = options.reconciler;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#workerCount = options.workers ?? DEFAULT_WORKERS;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#metrics = options.metrics ?? noControllerMetrics;
    this.#metrics.maxConcurrentReconciles(this.#workerCount);
    this.#queue = new WorkQueue({
      clock: options.clock,
      ...(options.backoff === undefined ? {} : { backoff: options.backoff }),
      ...(options.queueMetrics === undefined ? {} : { metrics: options.queueMetrics }),
      ...(options.random === undefined ? {} : { random: options.random }),
    });
  }

  /** Wakes keys on changes that an informer sees. To be called before the informer starts. */
  watch(informer: Informer, rule: WatchRule = {}): void {
    if (informer.kind === this.#reconciler.kind) this.#informer = informer;
    const requests = rule.requests ?? ((object: StoredObject) => [ownKey(object)]);
    informer.addHandler((notification) => {
      if (rule.matters?.(notification) === false) return;
      const priority = notification.initial || notification.type === 'resync' ? RESYNC : FRESH;
      // Both sides of a change: a reference that was removed concerns its former target too.
      const concerned = [notification.object, notification.previous].filter((object) => object !== undefined);
      for (const object of concerned) {
        for (const request of requests(object)) this.#queue.add(queueKey(request), priority);
      }
    });
  }

  enqueue(request: Request): void {
    this.#queue.add(queueKey(request));
  }

  enqueueAfter(request: Request, afterMs: number): void {
    this.#queue.addAfter(queueKey(request), afterMs);
  }

  async start(): Promise<void> {
    this.#workers = Array.from({ length: this.#workerCount }, () => this.#work());
  }

  /** Hands out no more keys, aborts the reconciles under way and waits for their end. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const drained = this.#queue.shutDown();
    for (const active of this.#active) active.abort(new Error('The controller stops.'));
    await drained;
    await Promise.all(this.#workers);
  }

  async #work(): Promise<void> {
    for (let item = await this.#queue.get(); item !== undefined; item = await this.#queue.get()) {
      const object = this.#request(item.key);
      const uid = this.#informer?.get(object.namespace, object.name)?.metadata.uid;
      const subject = { controller: this.#reconciler.name, object, ...(uid === undefined ? {} : { uid }) };
      await asReconcile(subject, () => this.#process(item, object));
    }
  }

  async #process(item: WorkItem, request: Request): Promise<void> {
    const began = this.#clock.monotonic();
    const outcome = await this.#reconcile(request);
    const seconds = (this.#clock.monotonic() - began) / 1000;
    switch (outcome.type) {
      case 'done':
        this.#queue.forget(item.key);
        this.#metrics.reconciled('success', seconds);
        break;
      case 'requeue':
        this.#queue.forget(item.key);
        this.#queue.addAfter(item.key, Math.max(outcome.afterMs, MIN_REQUEUE_MS), item.priority);
        this.#metrics.reconciled('requeue_after', seconds);
        break;
      case 'transient':
        this.#queue.addRateLimited(item.key, item.priority);
        this.#metrics.reconciled('error', seconds);
        // What was aborted by the stop is no failure to tell.
        if (!this.#stopping) {
          const failures = this.#queue.failures(item.key);
          this.#log.warn({ error: outcome.error, failures }, 'reconcile failed, trying again');
        }
        break;
      case 'terminal':
        this.#queue.forget(item.key);
        this.#metrics.reconciled('error', seconds);
        this.#metrics.terminalError();
        this.#log.warn({ error: outcome.error }, 'reconcile failed, waiting for a change');
        break;
    }
    this.#queue.done(item.key);
  }

  /** One call of the reconciler. Never throws. */
  async #reconcile(request: Request): Promise<Outcome> {
    const abort = new AbortController();
    const cancelTimeout = this.#clock.after(this.#timeoutMs, () => {
      this.#metrics.timeout();
      this.#log.error({ timeoutMs: this.#timeoutMs }, 'reconcile takes too long, aborting it');
      abort.abort(new BulkheadError('TIMEOUT', `The reconcile took longer than ${this.#timeoutMs} ms.`));
    });
    this.#active.add(abort);
    this.#metrics.activeWorkers(this.#active.size);
    try {
      // Waits also after the abort: a key is never worked on twice at once.
      return checkOutcome(await this.#reconciler.reconcile(request, abort.signal));
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      if (!(error instanceof BulkheadError) && !abort.signal.aborted) {
        this.#metrics.panic();
        this.#log.error({ error }, 'reconciler threw');
      }
      return { type: 'transient', error };
    } finally {
      cancelTimeout();
      this.#active.delete(abort);
      this.#metrics.activeWorkers(this.#active.size);
    }
  }

  #request(key: string): Request {
    const [namespace = '', name = ''] = key.split('/');
    return { kind: this.#reconciler.kind, namespace, name };
  }
}

/** The queue is of one kind, so its keys leave the kind out. */
function queueKey({ namespace, name }: Request): string {
  return `${namespace}/${name}`;
}

/** A defect of the reconciler must not take its worker with it. */
function checkOutcome(outcome: Outcome): Outcome {
  if (!['done', 'requeue', 'transient', 'terminal'].includes(outcome?.type)) {
    throw new TypeError(`A reconciler returned ${JSON.stringify(outcome)}, which is no outcome.`);
  }
  return outcome;
}
