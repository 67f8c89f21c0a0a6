// Carries out the machine's commands. Short ones are done in place; long ones become the volume's task, whose end wakes
// its key.
import { asBulkheadError } from '../../api/errors.ts';
import type { DefaultedVolume } from '../../api/volume.ts';
import type { VolumeReconcilerDeps } from './dependencies.ts';
import { FINALIZER } from './limits.ts';
import type { Command } from './machine.ts';
import { attachedTo, type Observation, type TaskKind } from './observation.ts';
import { type EventReason, emit } from './recorder.ts';
import type { VolumeTasks } from './tasks.ts';

export interface EffectContext {
  deps: VolumeReconcilerDeps;
  tasks: VolumeTasks;
  observation: Observation;
}

/** `again`: something was changed in place; look again at once. `waiting`: a task or a change will wake the key. */
export type EffectResult = 'again' | 'waiting';

const EFFECTS: Record<Command, (context: EffectContext) => Promise<EffectResult> | EffectResult> = {
  addFinalizer: ({ deps, observation: { object } }) =>
    patchFinalizers(deps, object, [...(object.metadata.finalizers ?? []), FINALIZER]),
  removeFinalizer: ({ deps, observation: { object } }) =>
    patchFinalizers(
      deps,
      object,
      (object.metadata.finalizers ?? []).filter((each) => each !== FINALIZER),
    ),
  createDisk: (context) =>
    asTask(context, 'create', 'FailedProvision', async ({ deps, observation: { object, wantedBytes } }) => {
      await deps.volumes.create(identityOf(object), wantedBytes, object.spec.accessMode);
      emit(deps.recorder, object, 'Provisioned', `A disk of ${object.spec.capacity} was made.`);
    }),
  takeUpDisk: (context) =>
    asTask(context, 'take-up', 'FailedProvision', async ({ deps, observation: { object, retainedUid } }) => {
      await deps.volumes.takeUp(retainedUid ?? object.metadata.uid, identityOf(object));
      emit(deps.recorder, object, 'TakenUp', 'The disk that was kept for this name is its disk again.');
    }),
  setAccessMode: async ({ deps, observation: { object } }): Promise<EffectResult> => {
    await deps.volumes.setAccessMode(object.metadata.uid, object.spec.accessMode);
    return 'again';
  },
  checkDisk: (context) => asTask(context, 'check', 'FailedCheck', check),
  growDisk: (context) =>
    asTask(
      context,
      'grow',
      'FailedResize',
      async ({ deps, observation: { object, disk, wantedBytes } }, signal) => {
        const { uid } = object.metadata;
        const attached = attachedTo(disk);
        if (attached === undefined) await deps.volumes.grow(uid, wantedBytes, signal);
        else await deps.attached.grow(uid, attached, wantedBytes, signal);
        emit(deps.recorder, object, 'Resized', `The disk has ${object.spec.capacity} now.`);
      },
    ),
  reclaimDisk: (context) =>
    asTask(context, 'reclaim', 'FailedReclaim', async ({ deps, observation: { object, disk } }) => {
      const { uid, namespace, name } = object.metadata;
      // Without a readable disk there may still be the rest of one that is being removed.
      if (object.spec.reclaimPolicy === 'Retain' && disk !== undefined) {
        await deps.volumes.retain(uid);
        emit(deps.recorder, object, 'Retained', `The disk is kept for a Volume ${namespace}/${name}.`);
      } else {
        await deps.volumes.remove(uid);
        emit(deps.recorder, object, 'Removed', 'The disk and what was on it are gone.');
      }
    }),
};

/** Carries out commands in their order. */
export async function execute(commands: readonly Command[], context: EffectContext): Promise<EffectResult> {
  let result: EffectResult = 'waiting';
  for (const command of commands) {
    if ((await EFFECTS[command](context)) === 'again') result = 'again';
  }
  return result;
}

function identityOf({ metadata: { uid, namespace, name } }: DefaultedVolume) {
  return { uid, namespace, name };
}

function asTask(
  context: EffectContext,
  kind: TaskKind,
  failed: EventReason,
  work: (context: EffectContext, signal: AbortSignal) => Promise<void>,
): EffectResult {
  const { deps, tasks, observation } = context;
  const { object } = observation;
  tasks.ensure(kind, object.metadata.generation, async (signal) => {
    try {
      await work(context, signal);
    } catch (error) {
      const { code, message } = asBulkheadError(error);
      if (!signal.aborted)
        emit(deps.recorder, object, code === 'VOLUME_DAMAGED' ? 'Damaged' : failed, message);
      throw error;
    }
  });
  return 'waiting';
}

async function check({ deps, observation: { object } }: EffectContext, signal: AbortSignal): Promise<void> {
  try {
    const { result, message } = await deps.volumes.check(object.metadata.uid, signal);
    deps.metrics.checked(result);
    emit(deps.recorder, object, result === 'Repaired' ? 'Repaired' : 'Checked', message);
  } catch (error) {
    if (asBulkheadError(error).code === 'VOLUME_DAMAGED') deps.metrics.checked('Damaged');
    throw error;
  }
}

/** The version is a precondition: a list that somebody else changed meanwhile must not be undone. */
async function patchFinalizers(
  { store }: VolumeReconcilerDeps,
  object: DefaultedVolume,
  finalizers: string[],
): Promise<EffectResult> {
  const { namespace, name, resourceVersion } = object.metadata;
  await store.patch({ kind: object.kind, namespace, name }, { metadata: { resourceVersion, finalizers } });
  return 'again';
}
