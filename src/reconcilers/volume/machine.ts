// The life cycle of a Volume as an xstate machine. It is pure and has no memory: each reconcile enters it anew with an
// observation, whose guards lead to the one state that the volume is in. Actions are names of commands that effects.ts
// carries out; a command says what is to be the case, so that giving it again while it is under way changes nothing.
import { initialTransition, setup } from 'xstate';
import { FINALIZER } from './limits.ts';
import type { Observation } from './observation.ts';

/** What the machine asks for. Each is carried out by the function of the same name in effects.ts. */
export const COMMANDS = [
  'addFinalizer',
  'createDisk',
  'takeUpDisk',
  'setAccessMode',
  'checkDisk',
  'growDisk',
  'reclaimDisk',
  'removeFinalizer',
] as const;
export type Command = (typeof COMMANDS)[number];

const isDeleted = ({ object }: Observation) => object.metadata.deletionTimestamp !== undefined;
const hasFinalizer = ({ object }: Observation) => object.metadata.finalizers?.includes(FINALIZER) ?? false;
const isClaimed = ({ disk }: Observation) => (disk?.claims.length ?? 0) > 0;
/** A claim at rest has no VM. */
const isAttached = ({ disk }: Observation) => disk?.claims.some(({ resting }) => resting !== true) ?? false;
/** Kept under its own uid: an object came back that was deleted, as from an older store. */
const isKept = ({ disk }: Observation) => disk?.retainedAt !== undefined;
const wantsGrowth = ({ disk, wantedBytes }: Observation) =>
  disk !== undefined && (disk.sizeBytes < wantedBytes || disk.short);

type Meta = { context: { observation: Observation } };
const guard =
  (holds: (observation: Observation) => boolean) =>
  ({ context }: Meta): boolean =>
    holds(context.observation);

export const volumeMachine = setup({
  types: {
    context: {} as { observation: Observation },
    input: {} as { observation: Observation },
  },
  guards: {
    'disk cannot be looked at': guard(({ unavailable }) => unavailable !== undefined),
    'object is deleted': guard(isDeleted),
    'finalizer is missing': guard((o) => !hasFinalizer(o)),
    'finalizer is ours': guard(hasFinalizer),
    'disk is kept for the name': guard(
      (o) => isKept(o) || (o.disk === undefined && o.retainedUid !== undefined),
    ),
    'disk is missing': guard((o) => o.disk === undefined),
    'disk is held': guard((o) => (o.held && !isKept(o)) || o.task !== undefined),
    'access mode differs': guard((o) => o.disk?.accessMode !== o.object.spec.accessMode),
    'disk is unclean': guard((o) => o.disk?.state === 'Unclean' || (o.task === 'check' && !isAttached(o))),
    'capacity is below the disk': guard((o) => o.disk !== undefined && o.wantedBytes < o.disk.sizeBytes),
    'growth is wanted': guard((o) => wantsGrowth(o) || o.task === 'grow'),
    'volume is claimed': guard(isClaimed),
    'VM can grow it': guard((o) => isAttached(o) && o.growsAttached),
    'volume is attached': guard(isAttached),
  },
  actions: Object.fromEntries(COMMANDS.map((command) => [command, () => {}])) as Record<Command, () => void>,
}).createMachine({
  id: 'volume',
  context: ({ input }) => input,
  initial: 'Observed',
  states: {
    Observed: {
      always: [
        { guard: 'disk cannot be looked at', target: 'Unavailable' },
        { guard: 'object is deleted', target: 'Deleting' },
        { guard: 'finalizer is missing', target: 'Protecting' },
        { guard: 'disk is kept for the name', target: 'TakingUp' },
        { guard: 'disk is missing', target: 'Creating' },
        { guard: 'access mode differs', target: 'ChangingAccess' },
        { guard: 'disk is unclean', target: 'Checking' },
        { guard: 'capacity is below the disk', target: 'ShrinkRefused' },
        { guard: 'growth is wanted', target: 'Resizing' },
        { target: 'Bound' },
      ],
    },
    Unavailable: { description: 'Nothing is known of the disk; it is looked at again later.' },
    Protecting: { description: 'The finalizer comes before the first effect.', entry: 'addFinalizer' },
    TakingUp: { description: 'A disk that was kept for this name becomes its disk.', entry: 'takeUpDisk' },
    Creating: { description: 'A new disk is being made.', entry: 'createDisk' },
    ChangingAccess: { description: 'Claims from now on follow another access mode.', entry: 'setAccessMode' },
    Checking: {
      description: 'It was not unmounted in order: nobody gets it before a check.',
      entry: 'checkDisk',
    },
    ShrinkRefused: { description: 'The spec asks for less than the disk has. The disk stays as it is.' },
    Resizing: {
      description: 'The disk is smaller than asked for.',
      initial: 'Deciding',
      states: {
        Deciding: {
          always: [
            { guard: 'VM can grow it', target: 'Growing' },
            { guard: 'volume is attached', target: 'WaitingForDetach' },
            { target: 'Growing' },
          ],
        },
        WaitingForDetach: { description: 'It grows when no VM has it; until then it works as it is.' },
        Growing: { entry: 'growDisk' },
      },
    },
    Bound: {
      description: 'The disk is what the spec asks for.',
      initial: 'Deciding',
      states: {
        Deciding: { always: [{ guard: 'volume is claimed', target: 'InUse' }, { target: 'Available' }] },
        InUse: {},
        Available: {},
      },
    },
    Deleting: {
      description: 'First its users end, then the disk is kept or goes, then the finalizer.',
      initial: 'Deciding',
      states: {
        Deciding: {
          always: [
            { guard: 'volume is claimed', target: 'WaitingForUsers' },
            { guard: 'disk is held', target: 'Reclaiming' },
            { guard: 'finalizer is ours', target: 'Finalizing' },
            { target: '#volume.Gone' },
          ],
        },
        WaitingForUsers: {},
        Reclaiming: { entry: 'reclaimDisk' },
        Finalizing: { entry: 'removeFinalizer' },
      },
    },
    Gone: { description: 'Nothing more is done about it here.', type: 'final' },
  },
});

export type State =
  | 'Unavailable'
  | 'Protecting'
  | 'TakingUp'
  | 'Creating'
  | 'ChangingAccess'
  | 'Checking'
  | 'ShrinkRefused'
  | 'Resizing.WaitingForDetach'
  | 'Resizing.Growing'
  | 'Bound.InUse'
  | 'Bound.Available'
  | 'Deleting.WaitingForUsers'
  | 'Deleting.Reclaiming'
  | 'Deleting.Finalizing'
  | 'Gone';

/** Where a volume is, and what is to be done. */
export interface Step {
  state: State;
  commands: readonly Command[];
}

export function step(observation: Observation): Step {
  const [snapshot, actions] = initialTransition(volumeMachine, { observation });
  const value: unknown = snapshot.value;
  const path =
    typeof value === 'object' && value !== null
      ? Object.entries(value).map(([parent, child]) => `${parent}.${String(child)}`)[0]
      : value;
  return {
    state: path as State,
    commands: actions.map(({ type }) => type).filter(isCommand),
  };
}

function isCommand(name: string): name is Command {
  return (COMMANDS as readonly string[]).includes(name);
}
