// One step of a sandbox: fetch, observe, let the machine decide, carry out what it asks, write the status once.
import { asBulkheadError, BulkheadError } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox, SandboxStatus } from '../../api/sandbox.ts';
import { backoffMs } from '../../controller/backoff.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import type { ObjectKey } from '../../store/store.ts';
import type { AttachedDisks } from '../volume/dependencies.ts';
import { blockedBy } from './decisions.ts';
import type { SandboxReconcilerDeps } from './dependencies.ts';
import type { EffectContext } from './effects/context.ts';
import { execute } from './effects/execute.ts';
import { releaseHost } from './effects/release.ts';
import { keepRoom } from './effects/room.ts';
import {
  CONFLICT_BACKOFF,
  MAX_STEPS,
  ORPHAN_SWEEP_INTERVAL_MS,
  PROGRESS_WRITE_INTERVAL_MS,
} from './limits.ts';
import { SandboxLogs } from './logs/logs.ts';
import { deriveState, type Step, step } from './machine.ts';
import type { Observation } from './observation.ts';
import { observe } from './observe.ts';
import { findOrphans, type Orphan, sweepOrphans } from './orphans.ts';
import { emit } from './recorder.ts';
import { ReferenceIndex } from './reference-index.ts';
import { LiveSandboxes } from './runtime/live-sandboxes.ts';
import { SandboxRuntime } from './runtime/sandbox-runtime.ts';
import { computeStatus, isSameStatus, isSignificant, tellsOfStall } from './status/status.ts';
import { LiveDisks } from './volumes/attached.ts';
import { nextWake } from './wake.ts';

/** The reconciler of Sandboxes, and what the rest of the daemon needs of it. */
export interface SandboxReconciler extends Reconciler {
  readonly live: LiveSandboxes;
  /** For the reconciler of Volumes. */
  readonly disks: AttachedDisks;
  readonly logs: SandboxLogs;
  /** Sandboxes that refer to this Secret, ConfigMap or Volume: the keys to wake when it changes. */
  dependents(object: StoredObject): Request[];
  /** Directories of sandboxes without objects. */
  orphans(): Promise<Orphan[]>;
  /** Cleans up after sandboxes without objects, now and from time to time, and begins to sample guests. */
  start(): Promise<void>;
  /** Ends what this process does; VMs, guests and their work go on. Reconciles that follow do nothing. */
  close(): Promise<void>;
}

export function createSandboxReconciler(deps: SandboxReconcilerDeps): SandboxReconciler {
  return new DefaultSandboxReconciler(deps);
}

class DefaultSandboxReconciler implements SandboxReconciler {
  readonly name = 'sandbox';
  readonly kind = 'Sandbox';
  readonly live: LiveSandboxes;
  readonly disks: AttachedDisks;
  readonly logs: SandboxLogs;
  readonly #deps: SandboxReconcilerDeps;
  readonly #references = new ReferenceIndex();
  readonly #closed = new AbortController();
  readonly #endArrivals: () => void;
  readonly #endVolumeChanges: () => void;
  readonly #endNetworkChanges: () => void;
  readonly #endReleases: () => void;
  #cancelSweep: (() => void) | undefined;
  #sweeping: Promise<void> | undefined;

  constructor(deps: SandboxReconcilerDeps) {
    this.#deps = deps;
    this.live = new LiveSandboxes(deps.clock, ({ key: { namespace }, record }) => {
      for (const { volume, mode } of record?.volumes ?? [])
        if (mode === 'ReadWrite') deps.volumeMeasured({ kind: 'Volume', namespace, name: volume });
    });
    this.disks = new LiveDisks(this.live);
    this.logs = new SandboxLogs(
      deps.sandboxesDir,
      () => deps.clock.now(),
      (uid, error) => deps.log.warn({ uid, error }, 'the log of the main process cannot be written'),
    );
    this.#endArrivals = deps.images.onArrival((digest) => {
      void this.#wakeThoseWaitingFor(digest);
    });
    this.#endVolumeChanges = deps.volumes.onChange((uid) => {
      for (const runtime of this.live.runtimes())
        if (runtime.volumeProblem?.uid === uid) deps.enqueuer.enqueue(runtime.key);
    });
    this.#endReleases = deps.room.onRelease(() => {
      for (const runtime of this.live.runtimes())
        if (runtime.roomProblem !== undefined) deps.enqueuer.enqueue(runtime.key);
    });
    this.#endNetworkChanges = deps.networks.onChange((uid) => {
      const runtime = this.live.runtime(uid);
      if (runtime !== undefined) deps.enqueuer.enqueue(runtime.key);
    });
  }

  async reconcile(request: Request, signal: AbortSignal): Promise<Outcome> {
    let next: Step | undefined;
    for (let turn = 0; turn < MAX_STEPS; turn += 1) {
      if (this.#closed.signal.aborted) return { type: 'done' };
      signal.throwIfAborted();
      const object = (await this.#deps.store.get(request)) as DefaultedSandbox | undefined;
      const remains = this.#forsake(request, object?.metadata.uid);
      if (object === undefined) {
        this.#references.forget(request);
        return remains;
      }
      this.#references.note(request, object);
      const runtime = this.#runtimeOf(request, object);
      await runtime.load(this.#deps.drivers.all, object);
      const { observation, inputs } = await observe(this.#deps, object, runtime);
      next = step(observation);
      this.#deps.onStep?.(deriveState(observation), next);
      const context: EffectContext = {
        deps: this.#deps,
        logs: this.logs,
        runtime,
        object,
        observation,
        inputs,
      };
      const result = await execute(next.commands, context);
      keepRoom(this.#deps.room, context, next);
      if (result === 'waiting') {
        return worse(remains, await this.#settle(runtime, observation, next, object));
      }
    }
    return {
      type: 'transient',
      error: new BulkheadError(
        'INTERNAL',
        `Not settled after ${MAX_STEPS} steps: ${next?.states.join(', ')}.`,
      ),
    };
  }

  dependents(object: StoredObject): Request[] {
    const { namespace, name } = object.metadata;
    return this.#references.dependents({ kind: object.kind, namespace, name });
  }

  orphans(): Promise<Orphan[]> {
    return findOrphans(this.#deps, this.live, this.logs);
  }

  async start(): Promise<void> {
    this.live.startSampling();
    await this.#sweep();
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#endArrivals();
    this.#endVolumeChanges();
    this.#endNetworkChanges();
    this.#endReleases();
    this.#cancelSweep?.();
    await this.#sweeping;
    await this.live.stopSampling();
    const runtimes = this.live.runtimes();
    for (const runtime of runtimes) runtime.tasks.close();
    await Promise.all(runtimes.map((runtime) => runtime.tasks.idle()));
    await Promise.all(runtimes.map((runtime) => runtime.detach()));
  }

  /** An image came into the cache by whatever way: pulls of it that failed, or are failing, begin anew at once. */
  async #wakeThoseWaitingFor(digest: string): Promise<void> {
    const references = new Map<string, SandboxRuntime[]>();
    for (const runtime of this.live.runtimes()) {
      if (runtime.imageReference === undefined) continue;
      const others = references.get(runtime.imageReference);
      if (others === undefined) references.set(runtime.imageReference, [runtime]);
      else others.push(runtime);
    }
    for (const [reference, runtimes] of references) {
      // What is no reference at all is never found; its sandbox says so by itself.
      const found = await this.#deps.images.lookup(reference).catch(() => undefined);
      if (found?.digest !== digest) continue;
      if (this.#closed.signal.aborted) return;
      for (const runtime of runtimes) {
        if (runtime.tasks.outdate('pull')) this.#deps.enqueuer.enqueue(runtime.key);
      }
    }
  }

  /** Writes the status where it changed, and says when to look again. */
  async #settle(
    runtime: SandboxRuntime,
    observation: Observation,
    next: Step,
    object: DefaultedSandbox,
  ): Promise<Outcome> {
    const written = await this.#writeStatus(runtime, observation, next, object);
    const failure = runtime.tasks.takeUntold();
    if (failure !== undefined) {
      const error = new BulkheadError(failure.code, failure.message);
      const afterMs = failure.retryAt - this.#deps.clock.monotonic();
      if (failure.terminal) {
        if (Number.isFinite(afterMs)) this.#deps.enqueuer.enqueueAfter(runtime.key, Math.max(0, afterMs));
        return { type: 'terminal', error };
      }
      return afterMs > 0 ? { type: 'transient', error } : { type: 'requeue', afterMs: 0 };
    }
    const block = blockedBy(observation);
    if (block?.terminal === true && written.done) {
      return { type: 'terminal', error: new BulkheadError(block.code, block.message) };
    }
    const times = [nextWake(observation, next), written.pendingMs].filter((time) => time !== undefined);
    return times.length === 0 ? { type: 'done' } : { type: 'requeue', afterMs: Math.min(...times) };
  }

  /** At most one write, and none where nothing changed. Mere progress waits: `pendingMs` says for how long. */
  async #writeStatus(
    runtime: SandboxRuntime,
    observation: Observation,
    next: Step,
    object: DefaultedSandbox,
  ): Promise<{ done: boolean; pendingMs?: number }> {
    if (next.state === 'Gone') return { done: false };
    const status = computeStatus({ ...observation, object }, next, this.#deps.nodeName);
    if (isSameStatus(object.status, status)) return { done: false };
    const now = this.#deps.clock.monotonic();
    runtime.statusWrittenAt ??= now;
    const waitMs = runtime.statusWrittenAt + PROGRESS_WRITE_INTERVAL_MS - now;
    if (!isSignificant(object.status, status) && waitMs > 0) return { done: false, pendingMs: waitMs };
    const { namespace, name, resourceVersion } = object.metadata;
    try {
      await this.#deps.store.updateStatus({ kind: this.kind, namespace, name }, status, resourceVersion);
    } catch (error) {
      // Something changed meanwhile: that change wakes the key, or the object is gone.
      const { code } = asBulkheadError(error);
      if (code === 'CONFLICT') {
        const pendingMs = backoffMs(CONFLICT_BACKOFF, runtime.statusConflicts, this.#deps.random);
        runtime.statusConflicts += 1;
        return { done: false, pendingMs };
      }
      if (code === 'NOT_FOUND') return { done: false };
      throw error;
    }
    runtime.statusWrittenAt = now;
    runtime.statusConflicts = 0;
    this.#tellStall(object, status, observation);
    return { done: true };
  }

  /** The status is what was told: so a daemon that comes after another one tells nothing twice, and nothing is missed. */
  #tellStall(object: DefaultedSandbox, status: SandboxStatus, { vm }: Observation): void {
    const [told, holds] = [tellsOfStall(object.status), tellsOfStall(status)];
    if (holds && !told) emit(this.#deps.recorder, object, 'DiskFull', vm?.stall?.message ?? '');
    if (told && !holds && vm !== undefined) {
      emit(this.#deps.recorder, object, 'Resumed', 'There is room on the host again; the VM goes on.');
    }
  }

  #runtimeOf(request: ObjectKey, object: DefaultedSandbox): SandboxRuntime {
    const { uid } = object.metadata;
    const former = this.live.runtime(uid);
    if (former !== undefined) return former;
    const { sandboxesDir, clock, random, enqueuer, networks } = this.#deps;
    const wake = (): void => {
      if (!this.#closed.signal.aborted) enqueuer.enqueue(request);
    };
    const runtime = new SandboxRuntime(uid, request, sandboxesDir, clock, random, wake, networks);
    this.live.add(runtime);
    return runtime;
  }

  /** Cleans up after objects of this name that are gone, other than `uid`, and forgets them when nothing is left. */
  #forsake(request: ObjectKey, uid: string | undefined): Outcome {
    let outcome: Outcome = { type: 'done' };
    for (const runtime of this.live.named(request.namespace, request.name)) {
      if (runtime.uid === uid) continue;
      if (
        runtime.released ||
        (!runtime.directory && runtime.tasks.current === undefined && runtime.record === undefined)
      ) {
        this.live.remove(runtime);
        this.#deps.room.release(runtime.uid);
        continue;
      }
      const { deps, logs } = { deps: this.#deps, logs: this.logs };
      runtime.tasks.ensure('release', '', () => releaseHost({ deps, logs, runtime }));
      const failure = runtime.tasks.failure('');
      if (failure !== undefined) outcome = { type: 'requeue', afterMs: Math.max(0, failure.retryInMs) };
    }
    return outcome;
  }

  async #sweep(): Promise<void> {
    try {
      await sweepOrphans(this.#deps, this.live, this.logs, this.#closed.signal);
    } catch (error) {
      this.#deps.log.error({ error }, 'looking for sandboxes without objects failed');
    }
    if (this.#closed.signal.aborted) return;
    this.#cancelSweep = this.#deps.clock.after(ORPHAN_SWEEP_INTERVAL_MS, () => {
      this.#sweeping = this.#sweep();
    });
  }
}

/** Of two outcomes the one that asks for more; `remains` is `done` or `requeue`. */
function worse(remains: Outcome, own: Outcome): Outcome {
  if (remains.type !== 'requeue') return own;
  if (own.type === 'done') return remains;
  return own.type === 'requeue' ? { type: 'requeue', afterMs: Math.min(own.afterMs, remains.afterMs) } : own;
}
