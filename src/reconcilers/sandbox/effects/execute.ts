// Carries out the machine's commands. Short ones are done in place; long ones become the sandbox's task, whose end
// wakes its key. A command whose effect is there already does nothing.
import { mkdir, open } from 'node:fs/promises';

import { asBulkheadError } from '../../../api/errors.ts';
import type { DefaultedSandbox } from '../../../api/sandbox.ts';
import { currentRun, judge, stopWanted } from '../decisions.ts';
import type { SandboxReconcilerDeps } from '../dependencies.ts';
import { AGENT_REPLACE_MS, FINALIZER } from '../limits.ts';
import type { Command } from '../machine.ts';
import type { TaskKind } from '../observation.ts';
import { emit } from '../recorder.ts';
import { claimVolumes, releaseVolumes, restVolumes } from '../volumes/claim.ts';
import { filesChanged, updateFiles } from '../volumes/files.ts';
import { bringUpGuest, takeExecDefaults } from './bring-up.ts';
import { type EffectContext, known } from './context.ts';
import { runProbes } from './probes.ts';
import { pullImage } from './pull.ts';
import { releaseHost } from './release.ts';
import { reserveRoom } from './room.ts';
import { startVm } from './start.ts';
import { stopVm } from './stop.ts';
import { establishTrust, wantsTrust } from './trust.ts';

/** `again`: something was changed in place; look again at once. `waiting`: a task or a time will wake the key. */
export type EffectResult = 'again' | 'waiting';

const EFFECTS: Record<Command, (context: EffectContext) => Promise<EffectResult> | EffectResult> = {
  addFinalizer,
  removeFinalizer,
  createDirectory,
  recordEnd,
  deleteObject,
  cancelTask: ({ runtime }) => {
    runtime.tasks.cancel();
    return 'waiting';
  },
  claimVolumes: async (context): Promise<EffectResult> =>
    (await claimVolumes(context)) ? 'again' : 'waiting',
  updateFiles: async (context) =>
    (await filesChanged(context)) || (await wantsTrust(context))
      ? asTask(context, 'files', (signal) => updateGuest(context, signal))
      : 'waiting',
  runProbes,
  reserveRoom: async (context): Promise<EffectResult> => ((await reserveRoom(context)) ? 'again' : 'waiting'),
  restVolumes: async (context): Promise<EffectResult> => {
    await restVolumes(context);
    return 'waiting';
  },
  releaseVolumes: async (context): Promise<EffectResult> => {
    await releaseVolumes(context);
    return 'waiting';
  },
  pullImage: (context) => asTask(context, 'pull', (signal) => pullImage(context, signal)),
  startVm: (context) => asTask(context, 'start', (signal) => startVm(context, signal)),
  bringUpGuest: (context) => {
    // A guest that was up and falls silent is dialled again by its agent's own supervision first.
    const { agent, agentSilentMs, guest } = context.runtime;
    const supervised = agent !== undefined && agentSilentMs < AGENT_REPLACE_MS;
    if (supervised && guest.bootMilliseconds !== undefined && guest.mainStarted) return 'waiting';
    return asTask(context, 'bring-up', (signal) => bringUpGuest(context, signal));
  },
  stopVm: async (context) => {
    const recorded = await recordStop(context);
    // A start under way is cancelled; there is nothing to stop until it has settled.
    if (context.runtime.handle === undefined) context.runtime.tasks.cancel();
    else asTask(context, 'stop', (signal) => stopVm(context, signal));
    return recorded;
  },
  releaseHost: (context) => asTask(context, 'release', () => releaseHost(context)),
};

/** Carries out commands in their order. */
export async function execute(commands: readonly Command[], context: EffectContext): Promise<EffectResult> {
  let result: EffectResult = 'waiting';
  for (const command of commands) {
    if ((await EFFECTS[command](context)) === 'again') result = 'again';
  }
  return result;
}

function asTask(
  { runtime, inputs }: EffectContext,
  kind: TaskKind,
  work: (signal: AbortSignal) => Promise<void>,
): EffectResult {
  runtime.tasks.ensure(kind, inputs, work);
  return 'waiting';
}

/** What of a guest that serves is not as it is to be. */
async function updateGuest(context: EffectContext, signal: AbortSignal): Promise<void> {
  const { agent } = context.runtime;
  if (agent !== undefined && (await wantsTrust(context))) {
    await establishTrust(context, agent, signal);
    await takeExecDefaults(context);
  }
  await updateFiles(context, signal);
}

async function addFinalizer({ deps, object }: EffectContext): Promise<EffectResult> {
  const finalizers = object.metadata.finalizers ?? [];
  if (finalizers.includes(FINALIZER)) return 'waiting';
  await patchFinalizers(deps, object, [...finalizers, FINALIZER]);
  return 'again';
}

async function removeFinalizer({ deps, object }: EffectContext): Promise<EffectResult> {
  const finalizers = object.metadata.finalizers ?? [];
  await patchFinalizers(
    deps,
    object,
    finalizers.filter((each) => each !== FINALIZER),
  );
  return 'again';
}

/** The version is a precondition: a list that somebody else changed meanwhile must not be undone. */
async function patchFinalizers(
  { store }: SandboxReconcilerDeps,
  object: DefaultedSandbox,
  finalizers: string[],
): Promise<void> {
  const { namespace, name, resourceVersion } = object.metadata;
  await store.patch({ kind: object.kind, namespace, name }, { metadata: { resourceVersion, finalizers } });
}

async function createDirectory({ deps, runtime }: EffectContext): Promise<EffectResult> {
  await mkdir(runtime.dir, { recursive: true, mode: 0o700 });
  // The name must survive a power cut as the record inside it does.
  const parent = await open(deps.sandboxesDir, 'r');
  try {
    await parent.sync();
  } finally {
    await parent.close();
  }
  runtime.directory = true;
  runtime.released = false;
  return 'again';
}

/** The decision to stop, on disk before anything is done about it. */
async function recordStop({ deps, runtime, object, observation }: EffectContext): Promise<EffectResult> {
  const run = currentRun(observation);
  const stop = stopWanted(observation);
  if (run === undefined || run.stop !== undefined || stop === undefined) return 'waiting';
  const at = new Date(deps.clock.now()).toISOString();
  const { mainExit } = observation;
  await runtime.changeRecord((record) => ({
    ...known(record),
    stop: { reason: stop.reason, message: stop.message, at },
    ...(mainExit === undefined ? {} : { mainExit }),
  }));
  if (stop.reason !== 'MainExited') emit(deps.recorder, object, 'Stopping', stop.message);
  return 'again';
}

/** The judgement over a run that is over, on disk before anything follows from it. */
async function recordEnd(context: EffectContext): Promise<EffectResult> {
  const { deps, runtime, object, observation } = context;
  const end = judge(observation);
  const { reason, message } = end.termination;
  // Where nothing ever ran, the status is all there is to tell of the end.
  const ran = runtime.record !== undefined;
  if (ran) {
    await runtime.changeRecord((record) => ({ ...known(record), end }));
    deps.metrics.terminated(reason);
  }
  const text = message === '' ? reason : `${reason}: ${message}`;
  if (end.outcome === 'Succeeded') emit(deps.recorder, object, 'Completed', text);
  if (end.outcome === 'Failed') emit(deps.recorder, object, 'Failed', text);
  if (end.outcome === 'Suspended') emit(deps.recorder, object, 'Suspended', text);
  if (end.outcome === 'Restart') {
    if (end.delayMs === 0) emit(deps.recorder, object, 'Restarting', text);
    else emit(deps.recorder, object, 'BackOff', `${text} Next start in ${end.delayMs / 1_000} s.`);
  }
  return ran ? 'again' : 'waiting';
}

async function deleteObject({ deps, object }: EffectContext): Promise<EffectResult> {
  const { namespace, name, uid } = object.metadata;
  emit(deps.recorder, object, 'Expired', 'ttlSecondsAfterFinished has passed.');
  try {
    await deps.store.delete({ kind: object.kind, namespace, name }, { uid });
  } catch (error) {
    if (asBulkheadError(error).code !== 'NOT_FOUND') throw error;
  }
  return 'again';
}
