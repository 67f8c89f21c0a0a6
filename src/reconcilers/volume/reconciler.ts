// One step of a volume: fetch, observe, let the machine decide, carry out what it asks, write the status once.
import { asBulkheadError, BulkheadError } from '../../api/errors.ts';
import { parseBytes } from '../../api/quantity.ts';
import type { DefaultedVolume, VolumeStatus } from '../../api/volume.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import { DISK_BLOCK_BYTES, type VolumeUsage } from '../../volumes/volumes.ts';
import type { VolumeReconcilerDeps } from './dependencies.ts';
import { execute } from './effects.ts';
import { MAX_STEPS, SWEEP_INTERVAL_MS } from './limits.ts';
import { type Step, step } from './machine.ts';
import { attachedTo, type Observation } from './observation.ts';
import { emit } from './recorder.ts';
import { computeStatus, isFull, isNearlyFull, isSameStatus, nearlyFullMessage } from './status.ts';
import { sweep } from './sweep.ts';
import { VolumeTasks } from './tasks.ts';

/** The reconciler of Volumes. */
export interface VolumeReconciler extends Reconciler {
  /** Cleans up what nobody owns, now and from time to time. */
  start(): Promise<void>;
  /** Ends what this process does; disks stay as they are. Reconciles that follow do nothing. */
  close(): Promise<void>;
}

export function createVolumeReconciler(deps: VolumeReconcilerDeps): VolumeReconciler {
  return new DefaultVolumeReconciler(deps);
}

interface Live {
  key: Request;
  tasks: VolumeTasks;
}

class DefaultVolumeReconciler implements VolumeReconciler {
  readonly name = 'volume';
  readonly kind = 'Volume';
  readonly #deps: VolumeReconcilerDeps;
  /** By uid. */
  readonly #live = new Map<string, Live>();
  readonly #closed = new AbortController();
  readonly #endChanges: () => void;
  #cancelSweep: (() => void) | undefined;
  #sweeping: Promise<void> | undefined;

  constructor(deps: VolumeReconcilerDeps) {
    this.#deps = deps;
    this.#endChanges = deps.volumes.onChange((uid) => {
      const key = this.#live.get(uid)?.key;
      if (key !== undefined && !this.#closed.signal.aborted) deps.enqueuer.enqueue(key);
    });
  }

  async reconcile(request: Request, signal: AbortSignal): Promise<Outcome> {
    for (let turn = 0; turn < MAX_STEPS; turn += 1) {
      if (this.#closed.signal.aborted) return { type: 'done' };
      signal.throwIfAborted();
      const object = (await this.#deps.store.get(request)) as DefaultedVolume | undefined;
      this.#forget(request, object?.metadata.uid);
      if (object === undefined) return { type: 'done' };
      const { tasks } = this.#liveOf(request, object);
      const observation = await this.#observe(object, tasks);
      const next = step(observation);
      try {
        if ((await execute(next.commands, { deps: this.#deps, tasks, observation })) === 'again') continue;
      } catch (error) {
        // Something changed the object meanwhile; that change is looked at next.
        if (asBulkheadError(error).code === 'CONFLICT') continue;
        if (asBulkheadError(error).code === 'NOT_FOUND') return { type: 'done' };
        throw error;
      }
      return this.#settle(tasks, observation, next);
    }
    return {
      type: 'transient',
      error: new BulkheadError('INTERNAL', `Not settled after ${MAX_STEPS} steps.`),
    };
  }

  async start(): Promise<void> {
    try {
      await sweep(this.#deps, this.#closed.signal);
    } catch (error) {
      this.#deps.log.error({ error }, 'looking for volumes without objects failed');
    }
    if (this.#closed.signal.aborted) return;
    this.#cancelSweep = this.#deps.clock.after(SWEEP_INTERVAL_MS, () => {
      this.#sweeping = this.start();
    });
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#endChanges();
    this.#cancelSweep?.();
    await this.#sweeping;
    await Promise.all([...this.#live.values()].map(({ tasks }) => tasks.close()));
  }

  async #observe(object: DefaultedVolume, tasks: VolumeTasks): Promise<Observation> {
    const { volumes, clock } = this.#deps;
    const { uid, namespace, name, generation } = object.metadata;
    const looked = await volumes.inspect(uid).catch((error: unknown) => asBulkheadError(error));
    const [disk, unavailable] = looked instanceof BulkheadError ? [undefined, looked] : [looked, undefined];
    const retainedUid = disk === undefined ? volumes.findRetained(namespace, name) : undefined;
    const failure = tasks.failure(generation);
    const attached = attachedTo(disk);
    const told = attached === undefined ? undefined : this.#deps.attached.usage(uid, attached);
    const liveUsage = disk !== undefined && isPossible(told, disk.sizeBytes) ? told : undefined;
    return {
      object,
      growsAttached: attached !== undefined && this.#deps.attached.canGrow(uid, attached),
      ...(liveUsage === undefined ? {} : { liveUsage }),
      held: volumes.holds(uid),
      wantedBytes: Math.ceil(parseBytes(object.spec.capacity) / DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES,
      now: clock.now(),
      ...(disk === undefined ? {} : { disk }),
      ...(unavailable === undefined ? {} : { unavailable }),
      ...(retainedUid === undefined ? {} : { retainedUid }),
      ...(tasks.current === undefined ? {} : { task: tasks.current }),
      ...(failure === undefined ? {} : { failure }),
    };
  }

  /** Writes the status where it changed, and says when to look again. */
  async #settle(tasks: VolumeTasks, observation: Observation, next: Step): Promise<Outcome> {
    if (next.state === 'Gone') return { type: 'done' };
    if (next.commands.length === 0) tasks.settle();
    const { failure, unavailable } = observation;
    const status = computeStatus(observation, next);
    const written = await this.#writeStatus(observation, status, next);
    if (!written) return { type: 'requeue', afterMs: 0 };
    if (failure !== undefined && next.commands.length > 0) {
      const error = new BulkheadError(failure.code, failure.message);
      const untold = tasks.takeUntold();
      if (failure.terminal) return untold ? { type: 'terminal', error } : { type: 'done' };
      return untold
        ? { type: 'transient', error }
        : { type: 'requeue', afterMs: Math.max(0, failure.retryInMs) };
    }
    return unavailable === undefined ? { type: 'done' } : { type: 'transient', error: unavailable };
  }

  /** False when the object changed under us. */
  async #writeStatus(observation: Observation, status: VolumeStatus, next: Step): Promise<boolean> {
    const { object } = observation;
    const former = object.status;
    if (isSameStatus(former, status)) return true;
    const { namespace, name, resourceVersion } = object.metadata;
    try {
      await this.#deps.store.updateStatus({ kind: this.kind, namespace, name }, status, resourceVersion);
    } catch (error) {
      const { code } = asBulkheadError(error);
      if (code === 'CONFLICT') return false;
      if (code === 'NOT_FOUND') return true;
      throw error;
    }
    this.#tell(object, former ?? {}, status, next);
    return true;
  }

  /** Events of what the status shows for the first time. */
  #tell(object: DefaultedVolume, former: VolumeStatus, status: VolumeStatus, next: Step): void {
    const { recorder, metrics } = this.#deps;
    if (isFull(status) && !isFull(former)) {
      metrics.quotaExceeded();
      emit(recorder, object, 'QuotaExceeded', 'The volume is full: grow its capacity or remove files.');
    } else if (isNearlyFull(status) && !isNearlyFull(former)) {
      emit(recorder, object, 'NearlyFull', nearlyFullMessage(status));
    }
    const stalled = status.conditions?.find(({ type }) => type === 'Stalled');
    const wasStalled = former.conditions?.some(({ type }) => type === 'Stalled') ?? false;
    if (next.state === 'ShrinkRefused' && !wasStalled)
      emit(recorder, object, 'ShrinkRefused', stalled?.message ?? '');
  }

  #liveOf(key: Request, { metadata: { uid } }: DefaultedVolume): Live {
    const known = this.#live.get(uid);
    if (known !== undefined) return known;
    const { clock, random, enqueuer } = this.#deps;
    const tasks = new VolumeTasks(clock, random, () => {
      if (!this.#closed.signal.aborted) enqueuer.enqueue(key);
    });
    const live = { key, tasks };
    this.#live.set(uid, live);
    return live;
  }

  /** Objects of this name that are gone, other than `uid`. Their disks are kept by the next sweep. */
  #forget({ namespace, name }: Request, uid: string | undefined): void {
    for (const [each, { key, tasks }] of this.#live) {
      if (each === uid || key.namespace !== namespace || key.name !== name) continue;
      this.#live.delete(each);
      void tasks.close();
    }
  }
}

/** A guest may claim anything; more than the disk holds it cannot have. */
function isPossible(usage: VolumeUsage | undefined, sizeBytes: number): boolean {
  if (usage === undefined) return false;
  const { usedBytes, availableBytes, inodes, inodesUsed } = usage;
  return usedBytes + availableBytes <= sizeBytes && inodesUsed <= inodes;
}
