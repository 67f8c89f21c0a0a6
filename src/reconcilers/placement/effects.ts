// What the machine's commands do. Each may be repeated at any time: a controller can die between any two of them.
import { isDeepStrictEqual } from 'node:util';
import { asBulkheadError } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox, SandboxStatus } from '../../api/sandbox.ts';
import type { Volume, VolumeStatus } from '../../api/volume.ts';
import type { Clock } from '../../controller/clock.ts';
import type { EventRecorder } from '../../controller/event-recorder.ts';
import type { ObjectKey, Store } from '../../store/store.ts';
import { VM_FINALIZER } from './limits.ts';
import type { Command } from './machine.ts';
import type { Observation } from './observation.ts';
import { reservationOf } from './reservation.ts';
import {
  boundStatus,
  disruptedStatus,
  disruptionOf,
  nodeLostStatus,
  refusedStatus,
  schedulingStatus,
  unplacedStatus,
  vacantStatus,
} from './status.ts';

export interface PlacementDeps {
  store: Store;
  clock: Clock;
  recorder: Pick<EventRecorder, 'event'>;
  /** Of the container in each reservation: one that does nothing until it is ended. */
  reservationImage: string;
  /** Volumes that the sandbox names, as far as they exist. */
  volumesOf(observation: Observation): readonly Volume[];
  /** Lets a node read what the sandbox refers to. */
  grantAccess(object: DefaultedSandbox, nodeName: string): Promise<void>;
}

type Effect = (deps: PlacementDeps, observation: Observation) => Promise<void>;

export const EFFECTS: Readonly<Record<Command, Effect>> = {
  async createReservation(deps, { object, volumeNodes }) {
    if (object === undefined) return;
    const pinnedTo = object.status?.nodeName ?? volumeNodes[0];
    try {
      await deps.store.create(reservationOf(object, deps.reservationImage, pinnedTo));
    } catch (error) {
      const { code, message } = asBulkheadError(error);
      if (code === 'ALREADY_EXISTS') return;
      if (code === 'FORBIDDEN' || code === 'INVALID')
        await write(deps, object, () => refusedStatus(object, message, deps.clock.now()));
      throw error;
    }
  },

  reportScheduling: (deps, { object, pod, volumeNodes }) =>
    write(deps, object, () => schedulingStatus(object as never, pod, volumeNodes, deps.clock.now())),

  async bind(deps, observation) {
    const { object, pod } = observation;
    const nodeName = pod?.spec.nodeName;
    if (object === undefined || pod === undefined || nodeName === undefined) return;
    // Before the node can see the sandbox, so that its agent finds its volumes, and may read what it refers to.
    await deps.grantAccess(object, nodeName);
    for (const volume of deps.volumesOf(observation)) {
      if (volume.status?.nodeName !== undefined) continue;
      const status: VolumeStatus = { ...volume.status, nodeName };
      await writeStatus(deps.store, volume, status);
    }
    const placed = { nodeName, reservation: pod.metadata.name };
    await write(deps, object, () => boundStatus(object, placed, deps.clock.now()));
    deps.recorder.event(object, 'Normal', 'Scheduled', `Placed on ${nodeName}.`);
  },

  async releaseReservation(deps, { pod }) {
    if (pod === undefined) return;
    const { namespace, name, uid, finalizers, deletionTimestamp } = pod.metadata;
    const key: ObjectKey = { kind: 'Pod', namespace, name };
    try {
      if (deletionTimestamp === undefined) await deps.store.delete(key, { uid });
      if (finalizers !== undefined) await deps.store.patch(key, { metadata: { uid, finalizers: [] } });
    } catch (error) {
      if (!['NOT_FOUND', 'CONFLICT'].includes(asBulkheadError(error).code)) throw error;
    }
  },

  clearReservation: (deps, { object }) =>
    object?.status?.reservation === undefined ? done() : write(deps, object, () => vacantStatus(object)),

  async markDisrupted(deps, { object, pod }) {
    if (object === undefined) return;
    const disruption = disruptionOf(pod);
    await write(deps, object, () => disruptedStatus(object, disruption, deps.clock.now()));
    deps.recorder.event(object, 'Warning', disruption.reason, disruption.message);
  },

  async markNodeLost(deps, { object }) {
    if (object === undefined) return;
    const status = nodeLostStatus(object, deps.clock.now());
    if (isDeepStrictEqual(status, object.status)) return;
    await write(deps, object, () => status);
    deps.recorder.event(
      object,
      'Warning',
      'NodeLost',
      `Node ${object.status?.nodeName} has not been heard of.`,
    );
  },

  async abandonVm(deps, { object }) {
    if (object === undefined) return;
    const { namespace, name, uid, finalizers = [] } = object.metadata;
    deps.recorder.event(
      object,
      'Warning',
      'NodeGone',
      `Node ${object.status?.nodeName} is gone; what it held of the sandbox counts as ended.`,
    );
    await deps.store.patch(
      { kind: 'Sandbox', namespace, name },
      { metadata: { uid, finalizers: finalizers.filter((each) => each !== VM_FINALIZER) } },
    );
  },

  forgetNode: (deps, { object }) =>
    object === undefined ? done() : write(deps, object, () => unplacedStatus(object, deps.clock.now())),
};

async function done(): Promise<void> {}

/** Writes a status that differs. A version that is no longer the newest is a conflict: what changed wakes the key again. */
async function write(
  { store }: PlacementDeps,
  object: StoredObject | undefined,
  compute: () => SandboxStatus,
): Promise<void> {
  if (object === undefined) return;
  const status = compute();
  if (!isDeepStrictEqual(status, object.status)) await writeStatus(store, object, status);
}

async function writeStatus(store: Store, { kind, metadata }: StoredObject, status: unknown): Promise<void> {
  const { namespace, name, resourceVersion } = metadata;
  await store.updateStatus({ kind, namespace, name }, status, resourceVersion);
}
