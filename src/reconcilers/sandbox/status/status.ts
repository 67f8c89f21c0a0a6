// The whole status of a Sandbox from one observation and the machine's state; nothing else writes any of it.
//
// Conditions follow kstatus: Ready is there from the first write; Reconciling and Stalled are there only while they are
// true. A Succeeded or Suspended sandbox is not Ready (nothing can run in it), and not Reconciling either.

import { isDeepStrictEqual } from 'node:util';
import { REQUESTED_AT_ANNOTATION } from '../../../api/annotations.ts';
import {
  findCondition,
  formatTime,
  type SandboxConditionType,
  setCondition,
} from '../../../api/conditions.ts';
import { ERRORS } from '../../../api/errors.ts';
import type { Condition } from '../../../api/meta.ts';
import type { DefaultedSandbox, SandboxStatus } from '../../../api/sandbox.ts';
import { HANDLED_RECONCILE_MAX, START_STAGES_MAX } from '../../../api/sandbox-status.ts';
import type { NetworkState } from '../../../network/network-plane.ts';
import { activeSince, currentRun } from '../decisions.ts';
import type { Step, TopState } from '../machine.ts';
import type { Observation } from '../observation.ts';
import type { Termination } from '../run-record.ts';
import { conditionUpdates, POLICIES_SHOWN_MAX, usedDigest } from './conditions.ts';
import { summarize, terminationOf } from './summary.ts';

type Phase = NonNullable<SandboxStatus['phase']>;

const PHASES: Record<TopState, Phase> = {
  Pending: 'Pending',
  Preparing: 'Pending',
  Starting: 'Starting',
  Running: 'Running',
  Stopping: 'Stopping',
  Ended: 'Stopping',
  BackingOff: 'Starting',
  Suspended: 'Suspended',
  Succeeded: 'Succeeded',
  Failed: 'Failed',
  Deleting: 'Stopping',
  Gone: 'Unknown',
};

export function computeStatus(
  o: Observation & { object: DefaultedSandbox },
  step: Step,
  nodeName: string,
): SandboxStatus {
  const { object, record } = o;
  const summary = summarize(o, step);
  const termination = terminationOf(o, step);
  const context = { observedGeneration: object.metadata.generation, now: new Date(o.now) };
  let conditions: readonly Condition[] = object.status?.conditions ?? [];
  for (const update of conditionUpdates(o, step, summary, termination, nodeName)) {
    conditions = setCondition(conditions, update, context);
  }
  const started = activeSince(record);
  const image = imageOf(o);
  const requestedAt = object.metadata.annotations?.[REQUESTED_AT_ANNOTATION];
  return {
    observedGeneration: object.metadata.generation,
    phase: PHASES[step.state],
    conditions: [...conditions],
    nodeName,
    // Of the cluster's controller: kept as it is.
    ...(object.status?.reservation === undefined ? {} : { reservation: object.status.reservation }),
    ...(started === undefined ? {} : { startTime: formatTime(new Date(started)) }),
    ...(image === undefined ? {} : { image }),
    ...(o.vm === undefined ? {} : { vm: vmOf(o, o.vm) }),
    ...(o.network === undefined ? {} : { network: networkOf(o.network, object.status?.reservation) }),
    restarts: record?.restarts ?? object.status?.restarts ?? 0,
    ...(termination === undefined ? {} : { lastTermination: terminationStatus(termination) }),
    ...(requestedAt === undefined
      ? {}
      : { lastHandledReconcileAt: requestedAt.slice(0, HANDLED_RECONCILE_MAX) }),
  };
}

/**
 * Does the new status tell of more than progress? Such a change is written at once; mere progress waits its turn, so
 * that a quick launch costs two writes.
 */
export function isSignificant(former: SandboxStatus | undefined, next: SandboxStatus): boolean {
  return former === undefined || JSON.stringify(essence(former)) !== JSON.stringify(essence(next));
}

/**
 * Does the status say that a VM is held by the host? The reason alone does not: an image or a start may lack room too, but
 * then there is no VM.
 */
export function tellsOfStall(status: SandboxStatus | undefined): boolean {
  const { reason } = findCondition(status?.conditions, 'Ready') ?? {};
  return status?.vm !== undefined && reason === ERRORS.DISK_FULL.reason;
}

/** Equal in everything that is stored. */
export function isSameStatus(former: SandboxStatus | undefined, next: SandboxStatus): boolean {
  return former !== undefined && isDeepStrictEqual(former, next);
}

const ESSENTIAL_CONDITIONS = [
  'Ready',
  'Reconciling',
  'Stalled',
  'Suspended',
  'Finished',
  'RestartRequired',
  'SourceInvalid',
] as const satisfies SandboxConditionType[];

function essence(status: SandboxStatus): unknown[] {
  const statusOf = (type: SandboxConditionType) =>
    status.conditions?.find((each) => each.type === type)?.status ?? 'absent';
  const stalled = status.conditions?.find((each) => each.type === 'Stalled');
  return [
    status.observedGeneration,
    ESSENTIAL_CONDITIONS.map(statusOf),
    status.lastHandledReconcileAt,
    stalled?.reason,
    stalled?.message,
    status.restarts,
    Object.entries(status.lastTermination ?? {}).sort(),
    status.phase === 'Stopping',
    statusOf('Ready') === 'True'
      ? [statusOf('NetworkReady'), status.network, Object.entries(status.vm ?? {}).sort()]
      : [],
  ];
}

/** `reservation`: of a sandbox of a cluster, whose policies are counted by who does not know its gateway. */
function networkOf(
  { address, ports, policies = [], revisions }: NetworkState,
  reservation: string | undefined,
): NonNullable<SandboxStatus['network']> {
  const published = (ports?.published ?? []).filter((port) => 'hostPort' in port);
  return {
    address,
    ...(published.length === 0 ? {} : { ports: published }),
    ...(policies.length === 0 ? {} : { policies: policies.slice(0, POLICIES_SHOWN_MAX) }),
    ...(reservation === undefined || revisions === undefined ? {} : { policiesDigest: revisions }),
  };
}

function imageOf(o: Observation): SandboxStatus['image'] {
  const digest = usedDigest(o) ?? o.image?.digest;
  if (digest === undefined || o.object === undefined) return undefined;
  const former = o.object.status?.image;
  const sizeBytes = o.image?.sizeBytes ?? (former?.digest === digest ? former.sizeBytes : undefined);
  return {
    reference: o.object.spec.image,
    digest,
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
  };
}

function vmOf(o: Observation, vm: NonNullable<Observation['vm']>): NonNullable<SandboxStatus['vm']> {
  const run = currentRun(o);
  const bootMilliseconds = run?.up?.bootMilliseconds ?? o.guest.bootMilliseconds;
  return {
    driver: vm.driver,
    ...(run === undefined ? {} : { reason: run.driverReason }),
    pid: vm.pid,
    startedAt: formatTime(new Date(vm.startedAt)),
    ...(bootMilliseconds === undefined ? {} : { bootMilliseconds: Math.round(bootMilliseconds) }),
    ...stagesOf(run?.up?.stages ?? o.guest.stages),
  };
}

/** In the order in which they followed one another. */
function stagesOf(stages: Readonly<Record<string, number>> | undefined) {
  const list = Object.entries(stages ?? {}).slice(0, START_STAGES_MAX);
  if (list.length === 0) return {};
  return { startStages: list.map(([name, ms]) => ({ name, milliseconds: Math.round(ms) })) };
}

function terminationStatus(termination: Termination): NonNullable<SandboxStatus['lastTermination']> {
  const { exitCode, signal, reason, message, startedAt, finishedAt } = termination;
  const time = (name: string, value: string) => (value === '' ? {} : { [name]: formatTime(new Date(value)) });
  return {
    exitCode,
    signal,
    reason,
    message,
    ...time('startedAt', startedAt),
    ...time('finishedAt', finishedAt),
  };
}
