// Starts the VM of a new run: the intent on disk, then the driver.
import { join } from 'node:path';

import { asBulkheadError, BulkheadError } from '../../../api/errors.ts';
import { parseBytes } from '../../../api/quantity.ts';
import { activeSince, endedForRestart, needsNewRoot } from '../decisions.ts';
import { launchDigest, mountsDigest } from '../launch.ts';
import { RESTARTED_AT_ANNOTATION } from '../limits.ts';
import { emit } from '../recorder.ts';
import { discardRoot, UPPER_FILE } from '../root-disk.ts';
import type { RunRecord } from '../run-record.ts';
import { requireVolumes } from '../volumes/claim.ts';
import { openShares } from '../volumes/shares.ts';
import { wantedShares } from '../volumes/spec.ts';
import { type EffectContext, known } from './context.ts';

/** The guest's memory is given in whole MiB. */
const MEMORY_UNIT = 1024 * 1024;

export async function startVm(context: EffectContext, signal: AbortSignal): Promise<void> {
  const { deps, runtime, object } = context;
  const { image } = context.observation;
  if (image === undefined) throw new BulkheadError('INTERNAL', 'The image is not in the cache.');
  const { cpus, memory, disk } = object.spec.resources;
  const began = deps.clock.monotonic();
  try {
    const { driver, reason } = await deps.drivers.select(object.spec.driver, signal);
    await checkImage(context, image.digest);
    const { attached, disks } = await requireVolumes(context);
    using host = openShares(deps.hostPaths, wantedShares(object.spec));
    const previousExit = await driver.lastExit(runtime.dir);
    signal.throwIfAborted();
    const fresh = runtime.record === undefined || (await discardOldRoot(context));
    runtime.beginRun();
    await runtime.changeRecord((former) =>
      nextRun(former, context, fresh, {
        imageDigest: image.digest,
        driver: driver.name,
        driverReason: reason,
        previousExit: previousExit?.finishedAt.toISOString() ?? '',
        ...(attached.length === 0 ? {} : { volumes: attached }),
        ...(host.attached.length === 0 ? {} : { shares: host.attached }),
      }),
    );
    signal.throwIfAborted();
    const handle = await driver.start(
      {
        id: runtime.uid,
        dir: runtime.dir,
        cpus,
        memoryBytes: Math.ceil(parseBytes(memory) / MEMORY_UNIT) * MEMORY_UNIT,
        image: { path: image.diskPath, digest: image.digest },
        upper: { path: join(runtime.dir, UPPER_FILE), sizeBytes: parseBytes(disk) },
        volumes: disks,
        ...(host.shares.length === 0 ? {} : { shares: host.shares }),
      },
      signal,
    );
    runtime.stages = { ...imageStage(runtime), ...handle.stages };
    runtime.imageMilliseconds = undefined;
    runtime.takeHandle(handle);
    emit(deps.recorder, object, 'Started', `Started a VM with the ${driver.name} driver: ${reason}`);
    for (const limitation of handle.limitations) emit(deps.recorder, object, 'Limited', limitation);
  } catch (error) {
    if (!signal.aborted) {
      const { row, message } = asBulkheadError(error);
      const stages = { ...imageStage(runtime), spawn: deps.clock.monotonic() - began };
      deps.metrics.startFailed({ sandbox: object, stages }, row.reason);
      emit(deps.recorder, object, 'FailedStart', message);
    }
    throw error;
  }
}

/**
 * Takes away the root file system of the runs before, where the spec asks for another one: at the last moment, so that a change
 * that is taken back before costs nothing. That it is void is on the disk before anything of it goes.
 */
async function discardOldRoot({
  deps,
  runtime,
  object,
  observation: { root },
}: EffectContext): Promise<boolean> {
  const { record } = runtime;
  if (record === undefined || !needsNewRoot({ record, root })) return false;
  await runtime.changeRecord((former) => ({ ...known(former), rootDiscarded: true }));
  await discardRoot(runtime.dir);
  emit(
    deps.recorder,
    object,
    'Recreated',
    `The root file system is made anew, from image ${object.spec.image}.`,
  );
  return true;
}

function imageStage({ imageMilliseconds }: EffectContext['runtime']): Record<string, number> {
  return imageMilliseconds === undefined ? {} : { image: imageMilliseconds };
}

/** An image that somebody removed in spite of its lease is pulled again. */
async function checkImage({ deps, runtime }: EffectContext, digest: string): Promise<void> {
  if ((await deps.images.lookupDigest(digest)) !== undefined) return;
  runtime.image = undefined;
  throw new BulkheadError('VM_START_FAILED', `Image ${digest} is no longer in the cache.`);
}

/** The intent of the next run, on a `fresh` root or that of the former. One whose VM never ran is tried again under its own number. */
function nextRun(
  former: RunRecord | undefined,
  { deps, object, observation }: EffectContext,
  fresh: boolean,
  part: Pick<RunRecord, 'imageDigest' | 'driver' | 'driverReason' | 'previousExit' | 'volumes' | 'shares'>,
): RunRecord {
  const startedAt = new Date(deps.clock.now()).toISOString();
  const outcome = former?.end?.outcome;
  const byPolicy = former !== undefined && outcome === 'Restart' && !endedForRestart(former);
  const repeated = former !== undefined && former.end === undefined;
  const last = former?.end?.termination ?? former?.former;
  const counted = byPolicy || repeated || outcome === 'Restart';
  return {
    version: 1,
    run: (former?.run ?? 0) + (repeated ? 0 : 1),
    restarts: counted ? (former?.restarts ?? 0) + (byPolicy ? 1 : 0) : 0,
    failures: byPolicy ? (former.end?.failures ?? 0) : repeated ? former.failures : 0,
    startedAt,
    activeSince: activeSince(former) ?? startedAt,
    restartedAt: object.metadata.annotations?.[RESTARTED_AT_ANNOTATION] ?? '',
    root: observation.root,
    launchDigest: launchDigest(object),
    resources: object.spec.resources,
    mountsDigest: mountsDigest(object),
    main: object.spec.main !== undefined,
    ...(object.spec.lifecycle?.postStart === undefined ? {} : { postStart: 'pending' }),
    ...(fresh || former === undefined ? {} : patchesOf(former)),
    ...(last === undefined ? {} : { former: last }),
    ...part,
  };
}

/** How far the patches of a root file system are. */
function patchesOf({ patched, patchesDone, patching, patchedFrom }: RunRecord): Partial<RunRecord> {
  return {
    ...(patched === undefined ? {} : { patched }),
    ...(patchesDone === undefined ? {} : { patchesDone }),
    ...(patching === undefined ? {} : { patching }),
    ...(patchedFrom === undefined ? {} : { patchedFrom }),
  };
}
