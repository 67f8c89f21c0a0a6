// Where a sandbox runs, as an xstate machine. It is pure and has no memory: each reconcile enters it anew with an observation,
// whose guards lead to the one state of the sandbox's place. The cluster's scheduler places: each sandbox that wants to run has
// a small Pod, the reservation, with its requests; where that is bound, the VM runs.
import { initialTransition, setup } from 'xstate';
import { isConditionTrue } from '../../api/conditions.ts';
import { REPORT_WAIT_AFTER_MS, VM_FINALIZER } from './limits.ts';
import type { Observation } from './observation.ts';

/** What the machine asks for. Each is carried out by the function of the same name in effects.ts. */
export const COMMANDS = [
  'createReservation',
  'reportScheduling',
  'bind',
  'releaseReservation',
  'clearReservation',
  'markDisrupted',
  'markNodeLost',
  'abandonVm',
  'forgetNode',
] as const;
export type Command = (typeof COMMANDS)[number];

const isGone = ({ object }: Observation) => object === undefined;
const isDeleted = ({ object }: Observation) => object?.metadata.deletionTimestamp !== undefined;
const isHeldByNode = ({ object }: Observation) =>
  object?.metadata.finalizers?.includes(VM_FINALIZER) ?? false;
const hasNode = ({ object }: Observation) => object?.status?.nodeName !== undefined;
const isDisrupted = ({ object }: Observation) =>
  isConditionTrue(object?.status?.conditions, 'DisruptionTarget');
const isReserved = ({ object }: Observation) => object?.status?.reservation !== undefined;
const hasPod = ({ pod }: Observation) => pod !== undefined;
const podEnds = ({ pod }: Observation) =>
  pod?.metadata.deletionTimestamp !== undefined ||
  pod?.status?.phase === 'Failed' ||
  pod?.status?.phase === 'Succeeded';
const podIsBound = ({ pod }: Observation) => pod?.spec.nodeName !== undefined;
const isUnschedulable = ({ pod }: Observation) =>
  pod?.status?.conditions?.some(({ type, status }) => type === 'PodScheduled' && status === 'False') ?? false;

/** It has ended for good, or is to stand still. */
export function wantsNoPlace({ object }: Observation): boolean {
  const phase = object?.status?.phase;
  return object?.spec.operatingMode === 'Suspended' || phase === 'Succeeded' || phase === 'Failed';
}

/** No VM runs: it never had a node, or its node says so of the spec as it is. */
function standsStill({ object }: Observation): boolean {
  const { status, metadata } = object ?? {};
  if (status?.nodeName === undefined || !metadata?.finalizers?.includes(VM_FINALIZER)) return true;
  const ended = status.phase === 'Suspended' || status.phase === 'Succeeded' || status.phase === 'Failed';
  return ended && status.observedGeneration === metadata.generation;
}

type Meta = { context: { observation: Observation } };
const guard =
  (holds: (observation: Observation) => boolean) =>
  ({ context }: Meta): boolean =>
    holds(context.observation);

export const placementMachine = setup({
  types: {
    context: {} as { observation: Observation },
    input: {} as { observation: Observation },
  },
  guards: {
    'sandbox is gone': guard(isGone),
    'sandbox is deleted': guard(isDeleted),
    'node is gone': guard((o) => hasNode(o) && o.node === 'Gone'),
    'node is lost': guard((o) => hasNode(o) && o.node === 'Lost'),
    'node holds the VM': guard(isHeldByNode),
    'place was taken away': guard(isDisrupted),
    'no place is wanted': guard(wantsNoPlace),
    'VM stands still': guard(standsStill),
    'there is a reservation': guard(hasPod),
    'reservation is on record': guard(isReserved),
    'reservation is no more': guard((o) => !hasPod(o) || podEnds(o)),
    'reservation ends': guard((o) => hasPod(o) && podEnds(o)),
    'reservation is bound': guard(podIsBound),
    'the scheduler has had but a moment': guard(
      (o) => hasPod(o) && !isUnschedulable(o) && o.reservedMs < REPORT_WAIT_AFTER_MS,
    ),
  },
  actions: Object.fromEntries(COMMANDS.map((command) => [command, () => {}])) as Record<Command, () => void>,
}).createMachine({
  id: 'placement',
  context: ({ input }) => input,
  initial: 'Observed',
  states: {
    Observed: {
      always: [
        { guard: 'sandbox is gone', target: 'Gone' },
        { guard: 'node is gone', target: 'Abandoned' },
        { guard: 'sandbox is deleted', target: 'Ending' },
        { guard: 'place was taken away', target: 'Displaced' },
        { guard: 'no place is wanted', target: 'Resting' },
        { guard: 'reservation is on record', target: 'Placed' },
        { target: 'Unplaced' },
      ],
    },
    Gone: { description: 'The sandbox is no more; what held its place goes.', entry: 'releaseReservation' },
    Abandoned: {
      description: 'Its node will not come back: what it held counts as ended.',
      initial: 'Deciding',
      states: {
        Deciding: {
          always: [
            { guard: 'node holds the VM', target: 'Releasing' },
            { guard: 'sandbox is deleted', target: '#placement.Ending' },
            { target: 'Forgetting' },
          ],
        },
        Releasing: { entry: ['abandonVm'] },
        Forgetting: { entry: ['releaseReservation', 'forgetNode'] },
      },
    },
    Ending: { description: 'It is being deleted; its node lets go of it, then it is gone.' },
    Displaced: {
      description: 'It lost its place. Its VM stops, then it is placed anew.',
      initial: 'Deciding',
      states: {
        Deciding: { always: [{ guard: 'node holds the VM', target: 'Stopping' }, { target: 'Forgetting' }] },
        Stopping: {},
        Forgetting: { entry: ['releaseReservation', 'forgetNode'] },
      },
    },
    Resting: {
      description: 'It is suspended or has ended, and needs no place.',
      initial: 'Deciding',
      states: {
        Deciding: {
          always: [
            { guard: 'VM stands still', target: 'Vacant' },
            { guard: 'node is lost', target: '#placement.NodeLost' },
            { target: 'Stopping' },
          ],
        },
        Stopping: {},
        Vacant: { entry: ['releaseReservation', 'clearReservation'] },
      },
    },
    Placed: {
      description: 'A reservation holds its place on a node.',
      initial: 'Deciding',
      states: {
        Deciding: {
          always: [
            { guard: 'reservation is no more', target: 'Disrupted' },
            { guard: 'node is lost', target: '#placement.NodeLost' },
            { target: 'Held' },
          ],
        },
        Disrupted: { entry: 'markDisrupted' },
        Held: {},
      },
    },
    NodeLost: {
      description: 'Its node has not been heard of. Nothing is started elsewhere, as it may still run.',
      entry: 'markNodeLost',
    },
    Unplaced: {
      description: 'It waits for a place.',
      initial: 'Deciding',
      states: {
        Deciding: {
          always: [
            { guard: 'reservation ends', target: 'Clearing' },
            { guard: 'reservation is bound', target: 'Binding' },
            { guard: 'the scheduler has had but a moment', target: 'Reserved' },
            { guard: 'there is a reservation', target: 'Scheduling' },
            { target: 'Reserving' },
          ],
        },
        Clearing: { entry: 'releaseReservation' },
        Reserving: { entry: 'createReservation' },
        Reserved: {},
        Scheduling: { entry: 'reportScheduling' },
        Binding: { entry: 'bind' },
      },
    },
  },
});

/** Where the observation leads, and what is to be done there. */
export function decide(observation: Observation): { state: string; commands: Command[] } {
  const [snapshot, actions] = initialTransition(placementMachine, { observation });
  const known = new Set<string>(COMMANDS);
  const commands = actions.map(({ type }) => type).filter((type) => known.has(type)) as Command[];
  return { state: stateText(snapshot.value), commands };
}

function stateText(value: string | Record<string, unknown>): string {
  if (typeof value === 'string') return value;
  const [[outer, inner] = ['', '']] = Object.entries(value);
  return `${outer}.${String(inner)}`;
}
