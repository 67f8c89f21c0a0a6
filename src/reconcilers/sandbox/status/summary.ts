// What a sandbox is about, in one reason and one sentence.
import { REASONS } from '../../../api/conditions.ts';
import { ERRORS } from '../../../api/errors.ts';
import type { ImageProgress } from '../../../api/wire.ts';
import { backoffIn, blockedBy, judge, stopWanted } from '../decisions.ts';
import type { Step } from '../machine.ts';
import type { Observation } from '../observation.ts';
import { notReady } from '../probes/verdicts.ts';
import type { Termination } from '../run-record.ts';

/** Of stops after which something else follows than an end. */
const STOPPING_REASONS: Record<string, string> = {
  Suspended: REASONS.Suspending,
  Recreating: REASONS.Recreating,
};

/** What the sandbox is about, in one reason and sentence, and what that means for tools. */
export interface Summary {
  reason: string;
  message: string;
  kind: 'ready' | 'working' | 'stalled' | 'settled';
}

/** The first that applies of: what blocks it, what its VM does, what its start waits for. */
export function summarize(o: Observation, step: Step): Summary {
  const block = blockedBy(o);
  switch (step.state) {
    case 'Running': {
      if (block?.terminal === true) return { ...block, kind: 'stalled' };
      const stall = stallSummary(o);
      if (stall !== undefined) return stall;
      if (step.states.includes('Running.Unreachable')) {
        return {
          reason: 'AgentUnreachable',
          message: 'The VM runs, but its guest does not answer; it is dialled again by itself.',
          kind: 'working',
        };
      }
      const waits = notReady(o);
      if (waits !== undefined) return { ...waits, kind: 'working' };
      return { reason: REASONS.Running, message: 'The guest is up.', kind: 'ready' };
    }
    case 'Suspended':
      return block?.terminal === true
        ? { ...block, kind: 'stalled' }
        : { reason: REASONS.Suspended, message: 'No VM runs; the disks are kept.', kind: 'settled' };
    case 'Succeeded':
    case 'Failed': {
      const { reason, message } = terminationOf(o, step) ?? { reason: REASONS.Error, message: '' };
      return {
        reason,
        message: message === '' ? `The sandbox is finished: ${reason}.` : message,
        kind: step.state === 'Succeeded' ? 'settled' : 'stalled',
      };
    }
    case 'Stopping':
    case 'Ended': {
      const stop = stopWanted(o);
      const reason = STOPPING_REASONS[stop?.reason ?? ''] ?? REASONS.Stopping;
      return { reason, message: stop?.message ?? 'The VM is stopping.', kind: 'working' };
    }
    case 'BackingOff': {
      const seconds = Math.ceil(Math.max(0, (o.record?.end?.delayMs ?? 0) / 1_000));
      const last = o.record?.end?.termination;
      return {
        reason: backoffIn(o) > 0 ? REASONS.BackOff : REASONS.Restarting,
        message: `${last?.message || last?.reason || 'The last run ended.'} Waits ${seconds} s before the next start.`,
        kind: 'working',
      };
    }
    case 'Deleting':
    case 'Gone':
      return { reason: REASONS.Terminating, message: deletionMessage(o, step), kind: 'working' };
    case 'Pending':
      if (block !== undefined) return { ...block, kind: block.terminal ? 'stalled' : 'working' };
      return { reason: REASONS.Pending, message: 'Waits to be prepared.', kind: 'working' };
    case 'Preparing':
      return failureSummary(o) ?? volumeSummary(o) ?? roomSummary(o) ?? imageSummary(o);
    case 'Starting':
      return stallSummary(o) ?? failureSummary(o) ?? startingSummary(step);
  }
}

/** A VM that lives but is held by the host. It goes on by itself, so that this is no terminal failure. */
function stallSummary({ vm }: Observation): Summary | undefined {
  if (vm?.stall === undefined) return undefined;
  return { reason: ERRORS[vm.stall.code].reason, message: vm.stall.message, kind: 'working' };
}

/** A failed step that is, or is not, tried again. */
function failureSummary({ failure }: Observation): Summary | undefined {
  if (failure === undefined) return undefined;
  const { reason, message, terminal, attempts } = failure;
  return terminal
    ? { reason, message, kind: 'stalled' }
    : { reason, message: `${message} Tried ${attempts} times; it is tried again.`, kind: 'working' };
}

/** The image is looked for first. */
function volumeSummary({ volumes, image }: Observation): Summary | undefined {
  if (image === undefined || volumes.claimed || volumes.problem === undefined) return undefined;
  const { reason, message, terminal } = volumes.problem;
  return { reason, message, kind: terminal ? 'stalled' : 'working' };
}

/** Looked for when all else is there. */
export function roomSummary({ room }: Observation): Summary | undefined {
  if (room.reserved || room.problem === undefined) return undefined;
  const { code, message } = room.problem;
  const { reason, hint } = ERRORS[code];
  return { reason, message: `${message} ${hint}`, kind: 'working' };
}

export function imageSummary(o: Observation): Summary {
  return {
    reason: REASONS.ImagePulling,
    message: progressMessage(o.object?.spec.image ?? '', o.task?.pull),
    kind: 'working',
  };
}

function progressMessage(reference: string, pull: ImageProgress | undefined): string {
  if (pull === undefined || pull.phase === 'resolving') return `Looks for image ${reference}.`;
  const percent = pull.bytesTotal > 0 ? Math.floor((100 * pull.bytesDone) / pull.bytesTotal) : 0;
  return `Image ${reference}: ${pull.phase}, ${pull.layersDone} of ${pull.layersTotal} layers, ${Math.min(percent, 100)} %.`;
}

const STARTING_MESSAGES: Record<string, string> = {
  'Starting.Booting': 'The VM is being started.',
  'Starting.Connecting': 'The VM runs; its agent is being reached.',
  'Starting.MountingRoot': "The guest's root file system is being mounted.",
  'Starting.Personalizing': 'The guest gets its identity.',
  'Starting.StartingMain': 'The main process is being started.',
};

function startingSummary({ states }: Step): Summary {
  const [leaf = ''] = states;
  const booting = leaf === 'Starting.Booting' || leaf === 'Starting.Connecting';
  return {
    reason: booting ? REASONS.Booting : REASONS.Starting,
    message: STARTING_MESSAGES[leaf] ?? 'The VM is being started.',
    kind: 'working',
  };
}

function deletionMessage(o: Observation, { states }: Step): string {
  if (o.failure?.task === 'release') return `Clean-up failed and is tried again: ${o.failure.message}`;
  return states.includes('Deleting.Stopping')
    ? 'The VM is stopping.'
    : "The sandbox's directory and host resources are being removed.";
}

/** How the last run ended, or, where nothing ever ran, how the sandbox came to its end. */
export function terminationOf(o: Observation, step: Step): Termination | undefined {
  const recorded = o.record?.end?.termination ?? o.record?.former;
  if (recorded !== undefined) return recorded;
  const told = o.object?.status?.lastTermination;
  if (told !== undefined) {
    const { reason, exitCode = 0, signal = '', message = '', startedAt = '', finishedAt = '' } = told;
    return { reason, exitCode, signal, message, startedAt, finishedAt };
  }
  const finished = step.state === 'Succeeded' || step.state === 'Failed';
  return finished && o.record === undefined ? judge(o).termination : undefined;
}
