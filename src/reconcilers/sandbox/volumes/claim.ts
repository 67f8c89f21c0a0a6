// Claims of a sandbox on the disks of its volumes: all of them or none, so that nobody waits for one and holds another.
import { asBulkheadError, BulkheadError, type ErrorCode } from '../../../api/errors.ts';
import type { DefaultedVolume } from '../../../api/volume.ts';
import type { VmVolume } from '../../../vmm/driver.ts';
import type { EffectContext } from '../effects/context.ts';
import { emit } from '../recorder.ts';
import { type AttachedDisk, wantedDisks } from './spec.ts';

/** What a sandbox waits for. */
export interface VolumeProblem {
  code: ErrorCode;
  /** Names the volume. */
  message: string;
  /** uid of the Volume whose change may help; absent when there is no such object. */
  uid?: string;
}

/** In the order in which the VM gets them. */
export interface ClaimedDisks {
  /** Of the spec that asked for them. */
  generation: number;
  attached: readonly AttachedDisk[];
  disks: readonly VmVolume[];
}

class Refusal extends Error {
  readonly problem: VolumeProblem;
  constructor(problem: VolumeProblem) {
    super(problem.message);
    this.problem = problem;
  }
}

/** Claims what the spec asks for and gives back what it does not ask for any more. Notes in the runtime how it went. */
export async function claimVolumes(context: EffectContext): Promise<boolean> {
  const { deps, runtime, object } = context;
  const former = runtime.volumeProblem;
  try {
    runtime.volumes = await claimAll(context);
    runtime.volumeProblem = undefined;
    return true;
  } catch (error) {
    runtime.volumes = undefined;
    if (!(error instanceof Refusal)) throw error;
    runtime.volumeProblem = error.problem;
    if (former?.message !== error.problem.message)
      emit(deps.recorder, object, 'WaitsForVolume', error.problem.message);
    return false;
  }
}

/** The same, for a start that must have them. */
export async function requireVolumes(context: EffectContext): Promise<ClaimedDisks> {
  if ((await claimVolumes(context)) && context.runtime.volumes !== undefined) return context.runtime.volumes;
  const { code = 'VOLUME_NOT_READY', message = '' } = context.runtime.volumeProblem ?? {};
  throw new BulkheadError(code, message);
}

async function claimAll({ deps, runtime, object }: EffectContext): Promise<ClaimedDisks> {
  const { namespace, name, generation } = object.metadata;
  const found: AttachedDisk[] = [];
  for (const wanted of wantedDisks(object.spec)) {
    const volume = (await deps.store.get({ kind: 'Volume', namespace, name: wanted.volume })) as
      | DefaultedVolume
      | undefined;
    if (volume === undefined)
      throw new Refusal({
        code: 'REFERENCE_NOT_FOUND',
        message: `Volume ${wanted.volume} does not exist.`,
      });
    const { uid, deletionTimestamp } = volume.metadata;
    if (deletionTimestamp !== undefined)
      throw new Refusal({
        code: 'VOLUME_NOT_READY',
        message: `Volume ${wanted.volume} is being deleted.`,
        uid,
      });
    found.push({ ...wanted, uid });
  }
  for (const uid of deps.volumes.claimedBy(runtime.uid))
    if (!found.some((each) => each.uid === uid)) await deps.volumes.release(uid, runtime.uid);
  const user = { uid: runtime.uid, name: `${namespace}/${name}` };
  const disks = new Map<string, VmVolume>();
  // In one order for all sandboxes.
  for (const { uid, volume, mode } of found.toSorted((a, b) => (a.uid < b.uid ? -1 : 1))) {
    try {
      const { diskPath, readOnly, sizeBytes } = await deps.volumes.claim(uid, user, mode);
      disks.set(uid, { path: diskPath, readOnly, sizeBytes });
    } catch (error) {
      const { code, message } = asBulkheadError(error);
      if (code === 'VOLUME_IN_USE') await deps.volumes.releaseAll(runtime.uid);
      const absent = code === 'NOT_FOUND';
      throw new Refusal({
        code: absent ? 'VOLUME_NOT_READY' : code,
        message: `Volume ${volume}: ${absent ? 'It has no disk yet.' : message}`,
        uid,
      });
    }
  }
  return {
    generation,
    attached: found,
    disks: found.map(({ uid }) => disks.get(uid)).filter((disk) => disk !== undefined),
  };
}

/** No VM is there, and none comes before the claims are made again. */
export async function restVolumes({ deps, runtime }: EffectContext): Promise<void> {
  runtime.volumes = undefined;
  await deps.volumes.restAll(runtime.uid);
}

export async function releaseVolumes({ deps, runtime }: EffectContext): Promise<void> {
  runtime.volumes = undefined;
  runtime.volumeProblem = undefined;
  await deps.volumes.releaseAll(runtime.uid);
}
