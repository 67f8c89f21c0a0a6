// The conditions of a Sandbox.
import { SOURCE_PROBLEM_ANNOTATION } from '../../../api/annotations.ts';
import {
  type ConditionUpdate,
  findCondition,
  REASONS,
  type SandboxConditionType,
} from '../../../api/conditions.ts';
import { ERRORS } from '../../../api/errors.ts';
import { portProblem } from '../../../network/network-plane.ts';
import { blockedBy, currentRun, needsNewRoot, otherResources, restartRequired } from '../decisions.ts';
import { mountsDigest } from '../launch.ts';
import type { Step } from '../machine.ts';
import type { Observation } from '../observation.ts';
import type { Termination } from '../run-record.ts';
import { imageSummary, roomSummary, type Summary } from './summary.ts';

type Update = ConditionUpdate<SandboxConditionType>;

/** As many as the schema of status.network allows. */
export const POLICIES_SHOWN_MAX = 64;

/** Each condition as it is now; what is not known leaves its condition out, which stays as it was. */
export function conditionUpdates(
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
    set('RestartRequired', restartRequired(o), REASONS.RestartRequired, restartMessage(o)),
    sourceCondition(o, set),
  ];
}

/** Mounts are made at a start alone, as no driver gives devices to a VM that runs or takes them away. */
function otherMounts({ object, record }: Observation): boolean {
  return (
    object !== undefined && record?.mountsDigest !== undefined && record.mountsDigest !== mountsDigest(object)
  );
}

function restartMessage(o: Observation): string {
  const kept: string[] = [...otherResources(o), ...(otherMounts(o) ? ['volumes and volumeMounts'] : [])];
  return kept.length === 0
    ? 'The spec changed in fields that apply at the next start: restart the sandbox to apply them.'
    : `The VM that runs keeps its ${kept.join(', ')}: restart the sandbox (bulkhead restart ${o.object?.metadata.name ?? ''}) to apply the spec.`;
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

/** Failures of a start by what its volumes name of the host. */
const HOST_PATH_REASONS = new Set<string>([
  ERRORS.HOST_PATH_NOT_ALLOWED.reason,
  ERRORS.HOST_PATH_NOT_FOUND.reason,
]);

function volumesCondition(o: Observation, { state }: Step, set: Setter): Update {
  const { wanted, claimed, problem } = o.volumes;
  const hasMounts = (o.object?.spec.volumes?.length ?? 0) > 0;
  const names = wanted.join(', ');
  if (!hasMounts) return set('VolumesReady', true, REASONS.NoVolumes, 'No volumes are asked for.');
  if (state === 'Running') return set('VolumesReady', true, REASONS.VolumesMounted, 'They are mounted.');
  if (problem !== undefined) return set('VolumesReady', false, problem.reason, problem.message);
  if (o.failure !== undefined && HOST_PATH_REASONS.has(o.failure.reason))
    return set('VolumesReady', false, o.failure.reason, o.failure.message);
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
export function usedDigest(o: Observation): string | undefined {
  if (o.vm === undefined && needsNewRoot(o)) return undefined;
  return o.record?.imageDigest || undefined;
}
