// The whole status of a Sandbox from one observation and the machine's state; nothing else writes any of it.
//
// Conditions follow kstatus: Ready is there from the first write; Reconciling and Stalled are there only while they are
// true. A Succeeded or Suspended sandbox is not Ready (nothing can run in it), and not Reconciling either.

import { isDeepStrictEqual } from 'node:util';
import { REQUESTED_AT_ANNOTATION, SOURCE_PROBLEM_ANNOTATION } from '../../api/annotations.ts';
import {
  type ConditionUpdate,
  findCondition,
  formatTime,
  REASONS,
  type SandboxConditionType,
  setCondition,
} from '../../api/conditions.ts';
import { ERRORS } from '../../api/errors.ts';
import type { Condition } from '../../api/meta.ts';
import type { DefaultedSandbox, SandboxStatus } from '../../api/sandbox.ts';
import { HANDLED_RECONCILE_MAX, START_STAGES_MAX } from '../../api/sandbox-status.ts';
import type { ImageProgress } from '../../api/wire.ts';
import { type NetworkState, portProblem } from '../../network/network-plane.ts';
import {
  activeSince,
  backoffIn,
  blockedBy,
  currentRun,
  judge,
  needsNewRoot,
  restartRequired,
  stopWanted,
} from './decisions.ts';
import type { Step, TopState } from './machine.ts';
import type { Observation } from './observation.ts';
import { notReady } from './probes/verdicts.ts';
import type { Termination } from './run-record.ts';

type Update = ConditionUpdate<SandboxConditionType>;
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

/** Of stops after which something else follows than an end. */
const STOPPING_REASONS: Record<string, string> = {
  Suspended: REASONS.Suspending,
  Recreating: REASONS.Recreating,
};

/** As many as the schema of status.network allows. */
const POLICIES_SHOWN_MAX = 64;

/** What the sandbox is about, in one reason and sentence, and what that means for tools. */
interface Summary {
  reason: string;
  message: string;
  kind: 'ready' | 'working' | 'stalled' | 'settled';
}

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
    ...(o.network === undefined ? {} : { network: networkOf(o.network) }),
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

function summarize(o: Observation, step: Step): Summary {
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

/**
 * Does the status say that a VM is held by the host? The reason alone does not: an image or a start may lack room too, but
 * then there is no VM.
 */
export function tellsOfStall(status: SandboxStatus | undefined): boolean {
  const { reason } = findCondition(status?.conditions, 'Ready') ?? {};
  return status?.vm !== undefined && reason === ERRORS.DISK_FULL.reason;
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
function roomSummary({ room }: Observation): Summary | undefined {
  if (room.reserved || room.problem === undefined) return undefined;
  const { code, message } = room.problem;
  const { reason, hint } = ERRORS[code];
  return { reason, message: `${message} ${hint}`, kind: 'working' };
}

function imageSummary(o: Observation): Summary {
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

function conditionUpdates(
  o: Observation,
  step: Step,
  summary: Summary,
  termination: Termination | undefined,
  nodeName: string,
): Update[] {
  const { reason, message, kind } = summary;
  const set = (type: SandboxConditionType, holds: boolean, why = reason, text = message): Update => ({
    type,
    status: holds ? 'True' : 'False',
    reason: why,
    message: text,
  });
  const finished = step.state === 'Succeeded' || step.state === 'Failed';
  const suspended = step.state === 'Suspended';
  return [
    set('Ready', kind === 'ready', kind === 'ready' ? REASONS.Ready : reason),
    set('Reconciling', kind === 'working'),
    set('Stalled', kind === 'stalled'),
    scheduledCondition(o, set, nodeName),
    imageCondition(o, set),
    volumesCondition(o, step, set),
    ...networkCondition(o, set),
    ...guestConditions(o, step, set),
    suspended
      ? set('Suspended', true, REASONS.Suspended, 'No VM runs; the disks are kept.')
      : set(
          'Suspended',
          false,
          reason === REASONS.Suspending ? reason : REASONS.NotSuspended,
          'operatingMode is Running, or the VM has not ended yet.',
        ),
    set('Finished', finished, finished ? (termination?.reason ?? reason) : reason),
    set(
      'RestartRequired',
      restartRequired(o),
      REASONS.RestartRequired,
      'The spec changed in fields that apply at the next start: restart the sandbox to apply them.',
    ),
    sourceCondition(o, set),
  ];
}

type Setter = (type: SandboxConditionType, holds: boolean, why?: string, text?: string) => Update;

/** One that asks for more than this host has is never given to it; a VM that runs already stays where it is. */
function scheduledCondition(o: Observation, set: Setter, nodeName: string): Update {
  const block = o.vm === undefined ? blockedBy(o) : undefined;
  const wait = block === undefined ? roomSummary(o) : undefined;
  if (wait !== undefined) return set('Scheduled', false, wait.reason, wait.message);
  return block?.code === 'INSUFFICIENT_RESOURCES'
    ? set('Scheduled', false, REASONS.Unschedulable, block.message)
    : set('Scheduled', true, REASONS.Scheduled, `Runs on ${nodeName}.`);
}

/** What the folder source says of the manifest, as `SourceInvalid: ...`; there only while it says so. */
function sourceCondition({ object }: Observation, set: Setter): Update {
  const problem = object?.metadata.annotations?.[SOURCE_PROBLEM_ANNOTATION];
  const message = (problem ?? '').replace(/^SourceInvalid: /, '');
  return set('SourceInvalid', problem !== undefined, REASONS.SourceInvalid, message);
}

function imageCondition(o: Observation, set: Setter): Update {
  const digest = o.image?.digest ?? usedDigest(o);
  if (digest !== undefined)
    return set('ImageReady', true, REASONS.ImagePresent, `Image ${digest} is in the cache.`);
  if (o.failure?.task === 'pull') return set('ImageReady', false, o.failure.reason, o.failure.message);
  const { message } = imageSummary(o);
  return o.task?.kind === 'pull'
    ? set('ImageReady', false, REASONS.ImagePulling, message)
    : set('ImageReady', false, REASONS.Pending, 'The image was not looked for yet.');
}

function volumesCondition(o: Observation, { state }: Step, set: Setter): Update {
  const { wanted, claimed, problem } = o.volumes;
  const hasMounts = (o.object?.spec.volumes?.length ?? 0) > 0;
  const names = wanted.join(', ');
  if (!hasMounts) return set('VolumesReady', true, REASONS.NoVolumes, 'No volumes are asked for.');
  if (state === 'Running') return set('VolumesReady', true, REASONS.VolumesMounted, 'They are mounted.');
  if (problem !== undefined) return set('VolumesReady', false, problem.reason, problem.message);
  if (wanted.length === 0)
    return set('VolumesReady', true, REASONS.VolumesReady, 'Nothing of them has to be waited for.');
  return claimed
    ? set('VolumesReady', true, REASONS.VolumesReady, `The disks are this sandbox's: ${names}.`)
    : set('VolumesReady', false, REASONS.Pending, `The disks are claimed before the next start: ${names}.`);
}

/** What is not known yet, as just after a start of the daemon, leaves the condition as it was. */
function networkCondition({ object, vm, network }: Observation, set: Setter): Update[] {
  if (vm === undefined) return [set('NetworkReady', false, REASONS.NotRunning, 'No guest is up.')];
  if (network === undefined)
    return [set('NetworkReady', true, REASONS.NoNetwork, 'The guest has loopback alone.')];
  const { acknowledged, policies = [], mode, problem } = network;
  if (acknowledged !== undefined) {
    const unpublished = portProblem(network);
    if (unpublished !== undefined)
      return [set('NetworkReady', false, ERRORS.PORT_UNAVAILABLE.reason, unpublished)];
    const what =
      policies.length === 0
        ? `No policy selects the sandbox: mode ${mode} holds.`
        : `In force: ${policies.slice(0, POLICIES_SHOWN_MAX).join(', ')}.`;
    return [set('NetworkReady', true, REASONS.NetworkConfigured, what)];
  }
  const former = findCondition(object?.status?.conditions, 'NetworkReady');
  if (problem === undefined && former?.status === 'True') return [];
  const message = problem ?? 'No policy is in force yet; nothing leaves the sandbox.';
  return [set('NetworkReady', false, ERRORS.NETWORK_UNAVAILABLE.reason, message)];
}

function networkOf({ address, ports, policies = [] }: NetworkState): NonNullable<SandboxStatus['network']> {
  const published = (ports?.published ?? []).filter((port) => 'hostPort' in port);
  return {
    address,
    ...(published.length === 0 ? {} : { ports: published }),
    ...(policies.length === 0 ? {} : { policies: policies.slice(0, POLICIES_SHOWN_MAX) }),
  };
}

function guestConditions(o: Observation, step: Step, set: Setter): Update[] {
  if (step.state === 'Running') {
    const up = currentRun(o)?.up?.bootMilliseconds ?? o.guest.bootMilliseconds ?? 0;
    return [
      set('Booted', true, REASONS.Booted, `The guest was up ${up} ms after the start of its VM.`),
      step.states.includes('Running.Unreachable')
        ? set('AgentConnected', false, REASONS.Disconnected, 'The agent does not answer.')
        : set('AgentConnected', true, REASONS.Connected, 'The agent answers.'),
    ];
  }
  if (step.state === 'Starting') {
    return [
      set('Booted', false, REASONS.Booting, 'The guest is not up yet.'),
      o.agent.connected
        ? set('AgentConnected', true, REASONS.Connected, 'The agent answers.')
        : set('AgentConnected', false, REASONS.Connecting, 'The agent was not reached yet.'),
    ];
  }
  return [
    set('Booted', false, REASONS.NotRunning, 'No guest is up.'),
    set('AgentConnected', false, REASONS.NotRunning, 'No guest is up.'),
  ];
}

/** Of the image that the root file system is on, unless it is about to be another one. */
function usedDigest(o: Observation): string | undefined {
  if (o.vm === undefined && needsNewRoot(o)) return undefined;
  return o.record?.imageDigest || undefined;
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

/** How the last run ended, or, where nothing ever ran, how the sandbox came to its end. */
function terminationOf(o: Observation, step: Step): Termination | undefined {
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
