// The memory and the disk of the host that a start needs.
import { parseBytes } from '../../../api/quantity.ts';
import type { Step, TopState } from '../machine.ts';
import { emit } from '../recorder.ts';
import type { Room } from '../room.ts';
import { hasRoot } from '../root-disk.ts';
import type { EffectContext } from './context.ts';

/** True when there is something new to act on or to tell. */
export async function reserveRoom({ deps, runtime, object }: EffectContext): Promise<boolean> {
  const memoryBytes = parseBytes(object.spec.resources.memory);
  const problem = await deps.room.take(runtime.uid, memoryBytes, await hasRoot(runtime.dir));
  const isNews = problem === undefined || problem.code !== runtime.roomProblem?.code;
  if (isNews && problem !== undefined) emit(deps.recorder, object, 'FailedScheduling', problem.message);
  runtime.roomProblem = problem;
  return isNews;
}

/** States without a VM in which none is about to start. One that backs off keeps its place, as a Pod does. */
const WITHOUT_ROOM: ReadonlySet<TopState> = new Set(['Pending', 'Suspended', 'Succeeded', 'Failed', 'Gone']);

/** Enters a VM that runs into the ledger, and takes out a sandbox that needs nothing now. */
export function keepRoom(
  room: Room,
  { runtime, object }: Pick<EffectContext, 'runtime' | 'object'>,
  { state }: Pick<Step, 'state'>,
): void {
  if (runtime.handle !== undefined) {
    const { memory } = runtime.record?.resources ?? object.spec.resources;
    room.note(runtime.uid, parseBytes(memory));
  } else if (WITHOUT_ROOM.has(state) || runtime.released) {
    runtime.roomProblem = undefined;
    room.release(runtime.uid);
  }
}
