// The whole status of a Volume from one observation and the machine's state; nothing else writes any of it.
// Conditions follow kstatus: Ready is there from the first write; Reconciling and Stalled only while they are true.
import { isDeepStrictEqual } from 'node:util';
import { REQUESTED_AT_ANNOTATION, SOURCE_PROBLEM_ANNOTATION } from '../../api/annotations.ts';
import {
  type ConditionUpdate,
  findCondition,
  formatTime,
  REASONS,
  setCondition,
  type VolumeConditionType,
} from '../../api/conditions.ts';
import { ERRORS } from '../../api/errors.ts';
import type { Condition } from '../../api/meta.ts';
import { formatQuantity } from '../../api/quantity.ts';
import { HANDLED_RECONCILE_MAX } from '../../api/sandbox-status.ts';
import type { VolumeStatus } from '../../api/volume.ts';
import type { VolumeCheck } from '../../volumes/volumes.ts';
import { MOUNTED_BY_MAX, NEARLY_FULL_SHARE } from './limits.ts';
import type { State, Step } from './machine.ts';
import type { Observation, TaskKind } from './observation.ts';

type Update = ConditionUpdate<VolumeConditionType>;

/** What the volume is about, in one reason and sentence, and what that means for tools. */
interface Summary {
  reason: string;
  message: string;
  /** `serving`: it can be used, but is not yet what the spec asks for. */
  kind: 'ready' | 'serving' | 'working' | 'stalled';
}

/** The task that each state waits for: only its failure says something of the state. */
const TASKS: Partial<Record<State, TaskKind>> = {
  TakingUp: 'take-up',
  Creating: 'create',
  Checking: 'check',
  'Resizing.Growing': 'grow',
  'Deleting.Reclaiming': 'reclaim',
};

export function computeStatus(o: Observation, { state }: Step): VolumeStatus {
  const { object, disk } = o;
  const summary = summarize(o, state);
  const context = { observedGeneration: object.metadata.generation, now: new Date(o.now) };
  const figures = figuresOf(o);
  let conditions: readonly Condition[] = object.status?.conditions ?? [];
  for (const update of conditionUpdates(o, state, summary, figures)) {
    conditions = setCondition(conditions, update, context);
  }
  const mountedBy = (disk?.claims ?? []).map(({ name }) => name).sort();
  const requestedAt = object.metadata.annotations?.[REQUESTED_AT_ANNOTATION];
  return {
    observedGeneration: object.metadata.generation,
    phase: summary.kind === 'stalled' ? 'Failed' : disk === undefined ? 'Pending' : 'Bound',
    // Of the cluster's controller: kept as it is.
    ...(object.status?.nodeName === undefined ? {} : { nodeName: object.status.nodeName }),
    ...(disk === undefined ? {} : { capacity: formatQuantity(disk.sizeBytes) }),
    ...figures,
    ...(mountedBy.length === 0 ? {} : { mountedBy: mountedBy.slice(0, MOUNTED_BY_MAX) }),
    conditions: [...conditions],
    ...(requestedAt === undefined
      ? {}
      : { lastHandledReconcileAt: requestedAt.slice(0, HANDLED_RECONCILE_MAX) }),
  };
}

/** Equal in everything that is stored. */
export function isSameStatus(former: VolumeStatus | undefined, next: VolumeStatus): boolean {
  return former !== undefined && isDeepStrictEqual(former, next);
}

type Figures = Pick<
  VolumeStatus,
  'usedBytes' | 'availableBytes' | 'inodes' | 'inodesUsed' | 'diskBytes' | 'measuredAt'
>;

/** As measured now, by the guest where one writes to it; else as last measured. */
function figuresOf(o: Observation): Figures {
  const { object, disk, now } = o;
  const { usedBytes, availableBytes, inodes, inodesUsed, diskBytes, measuredAt } = object.status ?? {};
  const former = Object.fromEntries(
    Object.entries({ usedBytes, availableBytes, inodes, inodesUsed, diskBytes, measuredAt }).filter(
      ([, value]) => value !== undefined,
    ),
  ) as Figures;
  const usage = disk?.usage ?? o.liveUsage;
  if (disk === undefined || usage === undefined) return former;
  const measured = { ...usage, diskBytes: disk.diskBytes };
  // What did not change was measured before: a look that finds nothing new writes nothing.
  const same = Object.entries(measured).every(([name, value]) => former[name as keyof Figures] === value);
  return same ? former : { ...measured, measuredAt: formatTime(new Date(now)) };
}

export function isFull({ availableBytes, inodes, inodesUsed }: Figures): boolean {
  return availableBytes === 0 || (inodes !== undefined && inodes === inodesUsed);
}

/** Of space or of inodes, as whichever ends first ends the writing. */
export function isNearlyFull({ usedBytes, availableBytes, inodes, inodesUsed }: Figures): boolean {
  const few = (left: number, all: number): boolean => left < all * NEARLY_FULL_SHARE;
  if (inodes !== undefined && inodesUsed !== undefined && few(inodes - inodesUsed, inodes)) return true;
  if (usedBytes === undefined || availableBytes === undefined) return false;
  return few(availableBytes, usedBytes + availableBytes);
}

export function nearlyFullMessage({
  availableBytes,
  capacity,
  inodes = 0,
  inodesUsed = 0,
}: VolumeStatus): string {
  const files = inodes === 0 ? '' : `, and ${inodes - inodesUsed} of ${inodes} inodes`;
  return `${availableBytes} bytes are left of ${capacity}${files}.`;
}

function summarize(o: Observation, state: State): Summary {
  const failure = o.failure !== undefined && o.failure.task === TASKS[state] ? o.failure : undefined;
  if (failure !== undefined) {
    const { reason, message, terminal, attempts, code } = failure;
    return terminal
      ? { reason, message: `${message} ${ERRORS[code].hint}`, kind: 'stalled' }
      : { reason, message: `${message} Tried ${attempts} times; it is tried again.`, kind: 'working' };
  }
  const { capacity } = o.object.spec;
  switch (state) {
    case 'Unavailable': {
      const { code, message } = o.unavailable ?? { code: 'VOLUME_UNAVAILABLE', message: '' };
      return { reason: ERRORS[code].reason, message, kind: 'working' };
    }
    case 'Protecting':
    case 'Creating':
      return { reason: REASONS.Provisioning, message: 'The disk is being made.', kind: 'working' };
    case 'TakingUp':
      return {
        reason: REASONS.Provisioning,
        message: 'The disk that was kept is being taken up.',
        kind: 'working',
      };
    case 'ChangingAccess':
      return { reason: REASONS.Progressing, message: 'The access mode changes.', kind: 'working' };
    case 'Checking':
      return {
        reason: REASONS.Checking,
        message: 'The disk was not unmounted in order and is being checked.',
        kind: 'working',
      };
    case 'ShrinkRefused':
      return {
        reason: ERRORS.VOLUME_SHRINK.reason,
        message: `spec.capacity is ${capacity}, the disk has ${formatQuantity(o.disk?.sizeBytes ?? 0)} and never shrinks. ${ERRORS.VOLUME_SHRINK.hint}`,
        kind: 'stalled',
      };
    case 'Resizing.WaitingForDetach':
      return {
        reason: REASONS.WaitsForDetach,
        message: `The disk grows to ${capacity} when no sandbox has it.`,
        kind: 'serving',
      };
    case 'Resizing.Growing':
      return { reason: REASONS.Resizing, message: `The disk grows to ${capacity}.`, kind: 'working' };
    case 'Bound.InUse':
    case 'Bound.Available':
      return { reason: REASONS.Ready, message: 'The disk is there.', kind: 'ready' };
    case 'Deleting.WaitingForUsers':
      return {
        reason: REASONS.Terminating,
        message: `Waits for its users to end: ${usersOf(o)}.`,
        kind: 'working',
      };
    case 'Deleting.Reclaiming':
    case 'Deleting.Finalizing':
    case 'Gone':
      return {
        reason: REASONS.Terminating,
        message:
          o.object.spec.reclaimPolicy === 'Retain' ? 'The disk is being kept.' : 'The disk is being removed.',
        kind: 'working',
      };
  }
}

const HEALTH_REASONS: Record<VolumeCheck['result'], string> = {
  Clean: REASONS.FileSystemClean,
  Recovered: REASONS.FileSystemRecovered,
  Repaired: REASONS.FileSystemRepaired,
};

function conditionUpdates(o: Observation, state: State, summary: Summary, figures: Figures): Update[] {
  const { reason, message, kind } = summary;
  const { disk } = o;
  const set = (type: VolumeConditionType, holds: boolean, why = reason, text = message): Update => ({
    type,
    status: holds ? 'True' : 'False',
    reason: why,
    message: text,
  });
  const usable = kind === 'ready' || kind === 'serving';
  const resizing = state === 'Resizing.Growing' || state === 'Resizing.WaitingForDetach';
  const users = disk?.claims.length ?? 0;
  const problem = o.object.metadata.annotations?.[SOURCE_PROBLEM_ANNOTATION];
  return [
    set('Ready', usable, usable ? REASONS.Ready : reason, usable ? 'The disk is there.' : message),
    set('Reconciling', kind === 'working' || kind === 'serving'),
    set('Stalled', kind === 'stalled'),
    disk === undefined
      ? set('Bound', false, REASONS.Pending, 'There is no disk yet.')
      : set('Bound', true, REASONS.Bound, `It has a disk of ${formatQuantity(disk.sizeBytes)}.`),
    users === 0
      ? set('InUse', false, REASONS.NotInUse, 'No sandbox has it.')
      : set('InUse', true, REASONS.VolumeInUse, `In use by ${usersOf(o)}.`),
    healthCondition(o, set),
    set('Resizing', resizing),
    set(
      'QuotaExceeded',
      isFull(figures),
      REASONS.QuotaExceeded,
      'The volume is full: grow its capacity or remove files.',
    ),
    set(
      'SourceInvalid',
      problem !== undefined,
      REASONS.SourceInvalid,
      (problem ?? '').replace(/^SourceInvalid: /, ''),
    ),
  ];
}

function healthCondition(
  o: Observation,
  set: (type: VolumeConditionType, holds: boolean, why: string, text: string) => Update,
): Update {
  const { disk, failure } = o;
  if (failure?.code === 'VOLUME_DAMAGED') return set('Healthy', false, failure.reason, failure.message);
  const unknown = (reason: string, message: string): Update => ({
    type: 'Healthy',
    status: 'Unknown',
    reason,
    message,
  });
  if (disk === undefined) return unknown(REASONS.Pending, 'There is no disk yet.');
  if (disk.state === 'Unclean') return unknown(REASONS.Checking, 'The disk waits for its check.');
  if (disk.lastCheck !== undefined)
    return set('Healthy', true, HEALTH_REASONS[disk.lastCheck.result], disk.lastCheck.message);
  const former = findCondition(o.object.status?.conditions, 'Healthy');
  return disk.state === 'Unknown' && former !== undefined && former.status !== 'True'
    ? { type: 'Healthy', status: former.status, reason: former.reason, message: former.message }
    : set('Healthy', true, REASONS.NeverChecked, 'The disk was never left without being unmounted in order.');
}

/** Names of those that have it; the first ones where there are many. */
function usersOf({ disk }: Observation): string {
  const names = (disk?.claims ?? []).map(({ name }) => name).sort();
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}
