// The life cycle of a Sandbox as an xstate machine. It is pure: the state it starts from is derived from an observation,
// guards read that observation, and actions are only names of commands that effects.ts carries out. One event, OBSERVE,
// moves it as far as the observation allows.
//
// A command says what is to be the case ("the image is being pulled"), not what to do next; giving it again while the
// effect is under way changes nothing. So a state may be entered as often as one likes.
import { setup, transition } from 'xstate';

import {
  backoffIn,
  blockedBy,
  currentRun,
  finishedOutcome,
  hasFinalizer,
  isDeleted,
  isReachable,
  judge,
  overdue,
  runIsOver,
  runsAnew,
  stopWanted,
  ttlIn,
  wantsSuspension,
  wasUp,
} from './decisions.ts';
import type { Observation } from './observation.ts';

/** What the machine asks for. Each is carried out by the function of the same name in effects.ts. */
export const COMMANDS = [
  'addFinalizer',
  'removeFinalizer',
  'createDirectory',
  'pullImage',
  'claimVolumes',
  'updateFiles',
  'runProbes',
  'reserveRoom',
  'restVolumes',
  'releaseVolumes',
  'startVm',
  'bringUpGuest',
  'stopVm',
  'recordEnd',
  'releaseHost',
  'cancelTask',
  'deleteObject',
] as const;
export type Command = (typeof COMMANDS)[number];

export const sandboxMachine = setup({
  types: {
    context: {} as { observation: Observation },
    input: {} as { observation: Observation },
    events: {} as { type: 'OBSERVE' },
  },
  guards: {
    'object is deleted': ({ context }) => isDeleted(context.observation),
    'a limit is passed': ({ context }) => overdue(context.observation) !== undefined,
    'suspension is wanted': ({ context }) => wantsSuspension(context.observation),
    'spec cannot be met': ({ context }) => blockedBy(context.observation) !== undefined,
    'image is in the cache': ({ context }) => context.observation.image !== undefined,
    'pull waits after a failure': ({ context }) => waits(context.observation, 'pull'),
    'volumes are claimed': ({ context: { observation } }) =>
      observation.volumes.claimed || observation.volumes.wanted.length === 0,
    'room is reserved': ({ context }) => context.observation.room.reserved,
    // Last of all: what waits for something else must not keep others from memory.
    'nothing but room is missing': ({ context: { observation } }) =>
      observation.image !== undefined &&
      observation.directory &&
      (observation.volumes.claimed || observation.volumes.wanted.length === 0),
    'directory exists': ({ context }) => context.observation.directory,
    'VM is alive': ({ context }) => context.observation.vm !== undefined,
    'start waits after a failure': ({ context }) => waits(context.observation, 'start'),
    'run is over': ({ context }) => runIsOver(context.observation),
    'stop is wanted': ({ context }) => stopWanted(context.observation) !== undefined,
    'guest is up': ({ context }) => wasUp(context.observation),
    'agent is unknown': ({ context: { observation } }) =>
      !observation.agent.connected && !observation.guest.rootMounted && !observation.guest.personalized,
    'root is not mounted': ({ context }) => !context.observation.guest.rootMounted,
    'guest is nobody yet': ({ context }) => !context.observation.guest.personalized,
    'agent answers': ({ context }) => context.observation.agent.connected,
    // A new daemon, or a new connection: until all of it is done, nothing else may be in its way.
    'guest is not taken up': ({ context: { observation } }) =>
      observation.agent.connected && !observation.guest.mainStarted,
    'agent was heard lately': ({ context }) => isReachable(context.observation),
    'run ends in a restart': ({ context }) => judge(context.observation).outcome === 'Restart',
    'run ends suspended': ({ context }) => judge(context.observation).outcome === 'Suspended',
    'run succeeded': ({ context }) => judge(context.observation).outcome === 'Succeeded',
    'back-off is over': ({ context }) => backoffIn(context.observation) <= 0,
    'new run cannot be met': ({ context: { observation } }) =>
      runsAnew(observation) && blockedBy(observation) !== undefined,
    'new run is asked for': ({ context }) =>
      runsAnew(context.observation) && !wantsSuspension(context.observation),
    'time to live is over': ({ context }) => (ttlIn(context.observation) ?? 1) <= 0,
    // Without a directory there may still be a lease or a cgroup: only a release that succeeded shows that there is none.
    'host holds something': ({ context: { observation } }) =>
      observation.directory ||
      observation.task !== undefined ||
      (hasFinalizer(observation) && !observation.released),
    'finalizer is ours': ({ context }) => hasFinalizer(context.observation),
  },
  actions: Object.fromEntries(COMMANDS.map((command) => [command, () => {}])) as Record<Command, () => void>,
}).createMachine({
  id: 'sandbox',
  context: ({ input }) => input,
  initial: 'Pending',
  states: {
    Pending: {
      description: 'Nothing was begun, or what the spec asks cannot be given.',
      entry: ['cancelTask', 'releaseVolumes'],
      on: {
        OBSERVE: [
          { guard: 'object is deleted', target: 'Deleting' },
          { guard: 'a limit is passed', target: 'Ended' },
          { guard: 'suspension is wanted', target: 'Suspended' },
          { guard: 'spec cannot be met', target: 'Pending', reenter: true },
          { target: 'Preparing' },
        ],
      },
    },
    Preparing: {
      description:
        'Image, directory, volumes, network and the room on this host are made ready side by side.',
      type: 'parallel',
      entry: 'addFinalizer',
      on: {
        OBSERVE: [
          { guard: 'object is deleted', target: 'Deleting' },
          { guard: 'a limit is passed', target: 'Ended' },
          { guard: 'suspension is wanted', target: 'Suspended' },
          { guard: 'spec cannot be met', target: 'Pending' },
          { target: 'Preparing', reenter: true },
        ],
      },
      onDone: 'Starting',
      states: {
        image: {
          initial: 'Checking',
          states: {
            Checking: {
              always: [
                { guard: 'image is in the cache', target: 'Ready' },
                { guard: 'pull waits after a failure', target: 'Waiting' },
                { target: 'Pulling' },
              ],
            },
            Pulling: { entry: 'pullImage' },
            Waiting: {},
            Ready: { type: 'final' },
          },
        },
        directory: {
          initial: 'Checking',
          states: {
            Checking: {
              always: [{ guard: 'directory exists', target: 'Ready' }, { target: 'Creating' }],
            },
            Creating: { entry: 'createDirectory' },
            Ready: { type: 'final' },
          },
        },
        volumes: {
          initial: 'Checking',
          states: {
            Checking: {
              always: [
                { guard: 'volumes are claimed', target: 'Ready' },
                { guard: 'image is in the cache', target: 'Claiming' },
                { target: 'Waiting' },
              ],
            },
            // Last of all: who waits for an image for long must not keep others from their disks.
            Waiting: {},
            Claiming: { entry: 'claimVolumes' },
            Ready: { type: 'final' },
          },
        },
        room: {
          initial: 'Checking',
          states: {
            Checking: {
              always: [
                { guard: 'room is reserved', target: 'Ready' },
                { guard: 'nothing but room is missing', target: 'Reserving' },
                { target: 'Waiting' },
              ],
            },
            Waiting: {},
            Reserving: { entry: 'reserveRoom' },
            Ready: { type: 'final' },
          },
        },
        network: { initial: 'Ready', states: { Ready: { type: 'final' } } },
      },
    },
    Starting: {
      description: 'From the start of the VM to a guest that is this sandbox and runs its main process.',
      on: {
        OBSERVE: [
          { guard: 'object is deleted', target: 'Deleting' },
          { guard: 'run is over', target: 'Ended' },
          { guard: 'stop is wanted', target: 'Stopping' },
          { target: 'Starting', reenter: true },
        ],
      },
      initial: 'Checking',
      states: {
        Checking: {
          always: [
            { guard: 'VM is alive', target: 'Guest' },
            { guard: 'start waits after a failure', target: 'Waiting' },
            { target: 'Booting' },
          ],
        },
        Waiting: {},
        Booting: { entry: 'startVm' },
        Guest: {
          always: [
            { guard: 'guest is up', target: '#sandbox.Running' },
            { guard: 'agent is unknown', target: 'Connecting' },
            { guard: 'root is not mounted', target: 'MountingRoot' },
            { guard: 'guest is nobody yet', target: 'Personalizing' },
            { target: 'StartingMain' },
          ],
        },
        Connecting: { entry: 'bringUpGuest' },
        MountingRoot: { entry: 'bringUpGuest' },
        Personalizing: { entry: 'bringUpGuest' },
        StartingMain: { entry: 'bringUpGuest' },
      },
    },
    Running: {
      description: 'The guest is up. Where a main process is asked for, it runs; so do probes.',
      entry: 'runProbes',
      on: {
        OBSERVE: [
          { guard: 'object is deleted', target: 'Deleting' },
          { guard: 'run is over', target: 'Ended' },
          { guard: 'stop is wanted', target: 'Stopping' },
          { target: 'Running', reenter: true },
        ],
      },
      initial: 'Checking',
      states: {
        Checking: {
          always: [
            { guard: 'guest is not taken up', target: 'TakingUp' },
            { guard: 'agent answers', target: 'Serving' },
            { guard: 'agent was heard lately', target: 'Reconnecting' },
            { target: 'Unreachable' },
          ],
        },
        TakingUp: { entry: 'bringUpGuest' },
        Serving: { entry: 'updateFiles' },
        Reconnecting: { entry: 'bringUpGuest' },
        Unreachable: { entry: 'bringUpGuest' },
      },
    },
    Stopping: {
      description: 'The guest was asked to stop; after its grace period the VM is killed. Disks are kept.',
      entry: 'stopVm',
      on: {
        OBSERVE: [
          { guard: 'object is deleted', target: 'Deleting' },
          { guard: 'run is over', target: 'Ended' },
          { target: 'Stopping', reenter: true },
        ],
      },
    },
    Ended: {
      description: 'No VM runs; how the run ended decides what follows.',
      entry: ['cancelTask', 'recordEnd'],
      always: [
        { guard: 'run ends in a restart', target: 'BackingOff' },
        { guard: 'run ends suspended', target: 'Suspended' },
        { guard: 'run succeeded', target: 'Succeeded' },
        { target: 'Failed' },
      ],
    },
    BackingOff: {
      description: 'Waits before the next run on the same disks.',
      entry: 'restVolumes',
      on: {
        OBSERVE: [
          { guard: 'object is deleted', target: 'Deleting' },
          { guard: 'a limit is passed', target: 'Ended' },
          { guard: 'suspension is wanted', target: 'Ended' },
          { guard: 'spec cannot be met', target: 'Pending' },
          { guard: 'back-off is over', target: 'Preparing' },
          { target: 'BackingOff', reenter: true },
        ],
      },
    },
    Suspended: {
      description: 'No VM; the disks are kept.',
      entry: ['cancelTask', 'releaseVolumes'],
      on: {
        OBSERVE: [
          { guard: 'object is deleted', target: 'Deleting' },
          { guard: 'a limit is passed', target: 'Ended' },
          { guard: 'suspension is wanted', target: 'Suspended', reenter: true },
          { guard: 'spec cannot be met', target: 'Pending' },
          { target: 'Preparing' },
        ],
      },
    },
    Succeeded: {
      description: 'Finished well; nothing runs again unless a restart or another root is asked for.',
      entry: 'releaseVolumes',
      on: {
        OBSERVE: [
          { guard: 'object is deleted', target: 'Deleting' },
          { guard: 'new run cannot be met', target: 'Pending' },
          { guard: 'new run is asked for', target: 'Preparing' },
          { guard: 'time to live is over', target: 'Succeeded', reenter: true, actions: 'deleteObject' },
          { target: 'Succeeded', reenter: true },
        ],
      },
    },
    Failed: {
      description: 'Finished badly; nothing runs again unless a restart or another root is asked for.',
      entry: 'releaseVolumes',
      on: {
        OBSERVE: [
          { guard: 'object is deleted', target: 'Deleting' },
          { guard: 'new run cannot be met', target: 'Pending' },
          { guard: 'new run is asked for', target: 'Preparing' },
          { guard: 'time to live is over', target: 'Failed', reenter: true, actions: 'deleteObject' },
          { target: 'Failed', reenter: true },
        ],
      },
    },
    Deleting: {
      description: 'A graceful stop, then everything on the host, then the finalizer.',
      on: { OBSERVE: { target: 'Deleting', reenter: true } },
      initial: 'Checking',
      states: {
        Checking: {
          always: [
            { guard: 'VM is alive', target: 'Stopping' },
            { guard: 'host holds something', target: 'Releasing' },
            { guard: 'finalizer is ours', target: 'Finalizing' },
            { target: '#sandbox.Gone' },
          ],
        },
        Stopping: { entry: 'stopVm' },
        Releasing: { entry: 'releaseHost' },
        Finalizing: { entry: 'removeFinalizer' },
      },
    },
    Gone: { description: 'Nothing of it is left here.', type: 'final' },
  },
});

/** The step of one reconcile: where the sandbox is after it, as dotted paths, and what is to be done. */
export interface Step {
  /** Every active leaf, e.g. `Starting.Booting` or `Preparing.image.Pulling`. */
  states: readonly string[];
  /** The top state. */
  state: TopState;
  commands: readonly Command[];
}

export type TopState =
  | 'Pending'
  | 'Preparing'
  | 'Starting'
  | 'Running'
  | 'Stopping'
  | 'Ended'
  | 'BackingOff'
  | 'Suspended'
  | 'Succeeded'
  | 'Failed'
  | 'Deleting'
  | 'Gone';

/**
 * Where a sandbox is, by what is observed alone. Sub-states need no deriving: the machine enters them by its guards.
 */
export function deriveState(o: Observation): TopState {
  if (o.object === undefined) return 'Gone';
  // Before its deletion has begun to act, a sandbox is still where it was.
  const deleting = o.released || o.task?.kind === 'stop' || o.task?.kind === 'release';
  if (isDeleted(o) && deleting) return 'Deleting';
  const run = currentRun(o);
  if (o.vm !== undefined || o.task?.kind === 'start') {
    if (run?.stop !== undefined) return 'Stopping';
    return o.vm !== undefined && run?.up !== undefined ? 'Running' : 'Starting';
  }
  // A run whose VM is gone: its machine state is that of the moment before the end.
  if (runIsOver(o)) return run?.stop !== undefined ? 'Stopping' : wasUp(o) ? 'Running' : 'Starting';
  const finished = finishedOutcome(o);
  if (finished !== undefined) return finished;
  const outcome = o.record?.end?.outcome;
  if (outcome === 'Restart') return 'BackingOff';
  if (outcome === 'Suspended') return 'Suspended';
  return o.task?.kind === 'pull' ? 'Preparing' : 'Pending';
}

/** One pure step from what is observed. */
export function step(o: Observation): Step {
  const from = deriveState(o);
  if (from === 'Gone') return { states: ['Gone'], state: 'Gone', commands: [] };
  const snapshot = sandboxMachine.resolveState({ value: from, context: { observation: o } });
  const [next, actions] = transition(sandboxMachine, snapshot, { type: 'OBSERVE' });
  const states = leaves(next.value);
  const [first = from] = states;
  return {
    states,
    state: (first.split('.')[0] ?? from) as TopState,
    commands: actions.map((action) => action.type).filter(isCommand),
  };
}

function isCommand(name: string): name is Command {
  return (COMMANDS as readonly string[]).includes(name);
}

/** Active leaves of an xstate state value as dotted paths. */
export function leaves(value: unknown, prefix = ''): string[] {
  if (typeof value === 'string') return [prefix + value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, child]) => leaves(child, `${prefix}${key}.`));
}

function waits(o: Observation, task: 'pull' | 'start'): boolean {
  return o.failure?.task === task && o.task === undefined && o.failure.retryInMs > 0;
}
