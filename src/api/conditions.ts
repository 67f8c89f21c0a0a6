// Condition types and reasons of all kinds, and the rules by which conditions change (kstatus').
import type { Condition } from './meta.ts';

/**
 * How a condition behaves when it no longer holds; decided here and nowhere else.
 *
 * - `persistent`: stays and flips to False or Unknown.
 * - `applicable`: is there only while it applies; its absence is the normal state.
 */
export type ConditionLifetime = 'persistent' | 'applicable';

/** Conditions of a Sandbox. */
export const SANDBOX_CONDITIONS = {
  Ready: 'persistent',
  Scheduled: 'persistent',
  ImageReady: 'persistent',
  VolumesReady: 'persistent',
  NetworkReady: 'persistent',
  Booted: 'persistent',
  AgentConnected: 'persistent',
  Suspended: 'persistent',
  Finished: 'applicable',
  /** A change of the spec waits for the next start. */
  RestartRequired: 'applicable',
  /** The manifest is broken; its last good version is in force. */
  SourceInvalid: 'applicable',
  /** In a cluster: its place on the node was taken away, and its VM stops. */
  DisruptionTarget: 'applicable',
  // Abnormal-true: tools read their absence as normal.
  Reconciling: 'applicable',
  Stalled: 'applicable',
} as const satisfies Record<string, ConditionLifetime>;

/** Conditions of a Volume. */
export const VOLUME_CONDITIONS = {
  Ready: 'persistent',
  /** There is a disk of its own. */
  Bound: 'persistent',
  /** The last integrity check found the file system in order, or put it in order. */
  Healthy: 'persistent',
  InUse: 'persistent',
  Resizing: 'applicable',
  QuotaExceeded: 'applicable',
  /** The manifest is broken; its last good version is in force. */
  SourceInvalid: 'applicable',
  Reconciling: 'applicable',
  Stalled: 'applicable',
} as const satisfies Record<string, ConditionLifetime>;

/** Conditions of a NetworkPolicy. */
export const NETWORK_POLICY_CONDITIONS = {
  Ready: 'persistent',
  Accepted: 'persistent',
  Programmed: 'persistent',
  Conflicted: 'applicable',
  Reconciling: 'applicable',
  Stalled: 'applicable',
} as const satisfies Record<string, ConditionLifetime>;

export type SandboxConditionType = keyof typeof SANDBOX_CONDITIONS;
export type VolumeConditionType = keyof typeof VOLUME_CONDITIONS;
export type NetworkPolicyConditionType = keyof typeof NETWORK_POLICY_CONDITIONS;
export type ConditionType = SandboxConditionType | VolumeConditionType | NetworkPolicyConditionType;

const LIFETIMES: Record<string, ConditionLifetime> = {
  ...SANDBOX_CONDITIONS,
  ...VOLUME_CONDITIONS,
  ...NETWORK_POLICY_CONDITIONS,
};

/**
 * Reasons that are not failures. Reasons of failures are those of the table of errors (`ERRORS[code].reason`).
 * Stable: programs match on them.
 */
export const REASONS = {
  /** First sight of an object: nothing is known yet. */
  Pending: 'Pending',
  /** A volume in a cluster that no sandbox has mounted yet; Kubernetes' word for it. */
  WaitForFirstConsumer: 'WaitForFirstConsumer',
  Progressing: 'Progressing',
  Ready: 'Ready',
  Scheduled: 'Scheduled',
  Unschedulable: 'Unschedulable',
  /** In a cluster: a rule of the namespace refuses its reservation. */
  ReservationRefused: 'ReservationRefused',
  /** In a cluster: the node that runs it has not been heard of. */
  NodeLost: 'NodeLost',
  ImagePulling: 'ImagePulling',
  ImagePresent: 'ImagePresent',
  VolumesMounted: 'VolumesMounted',
  /** Nobody else has what the next start needs. */
  VolumesReady: 'VolumesReady',
  NoVolumes: 'NoVolumes',
  NetworkConfigured: 'NetworkConfigured',
  NoNetwork: 'NoNetwork',
  Starting: 'Starting',
  Booting: 'Booting',
  Booted: 'Booted',
  Connected: 'Connected',
  Connecting: 'Connecting',
  Disconnected: 'Disconnected',
  Running: 'Running',
  NotRunning: 'NotRunning',
  Restarting: 'Restarting',
  /** Waits before the next restart. */
  BackOff: 'BackOff',
  /** A change of the spec waits for the next start. */
  RestartRequired: 'RestartRequired',
  Recreating: 'Recreating',
  Suspending: 'Suspending',
  Suspended: 'Suspended',
  NotSuspended: 'NotSuspended',
  Stopping: 'Stopping',
  Terminating: 'Terminating',
  /** The main process ended with exit code 0. */
  Completed: 'Completed',
  /** The main process ended with another exit code or by a signal. */
  Error: 'Error',
  OOMKilled: 'OOMKilled',
  /** The VM ended without the guest having asked for it. */
  VmCrashed: 'VmCrashed',
  /** The VM is gone and nothing recorded how it ended. */
  VmLost: 'VmLost',
  DeadlineExceeded: 'DeadlineExceeded',
  ShutdownTimeReached: 'ShutdownTimeReached',
  IdleTimeout: 'IdleTimeout',
  PostStartHookRunning: 'PostStartHookRunning',
  PostStartHookFailed: 'PostStartHookFailed',
  /** It has no result yet; the other probes wait for it. */
  StartupProbePending: 'StartupProbePending',
  StartupProbeFailed: 'StartupProbeFailed',
  /** It has no result yet. */
  ReadinessProbePending: 'ReadinessProbePending',
  ReadinessProbeFailed: 'ReadinessProbeFailed',
  LivenessProbeFailed: 'LivenessProbeFailed',
  /** A referenced Secret, ConfigMap or Volume does not exist yet. */
  ReferenceNotFound: 'ReferenceNotFound',
  /** The spec asks for what this release does not act on. */
  NotSupported: 'NotSupported',
  /** The manifest that this object comes from can no longer be read; the last good version stays. */
  SourceInvalid: 'SourceInvalid',
  /** Two manifests claim this name; the one that was first stays. */
  Duplicate: 'Duplicate',
  VolumeInUse: 'VolumeInUse',
  NotInUse: 'NotInUse',
  Bound: 'Bound',
  /** The disk of a volume is being made. */
  Provisioning: 'Provisioning',
  Checking: 'Checking',
  Resizing: 'Resizing',
  /** Grows when no sandbox has the volume. */
  WaitsForDetach: 'WaitsForDetach',
  /** Never checked: it was never left unclean. */
  NeverChecked: 'NeverChecked',
  FileSystemClean: 'FileSystemClean',
  /** It was not unmounted in order, and nothing is lost. */
  FileSystemRecovered: 'FileSystemRecovered',
  /** It was damaged; files may be missing. */
  FileSystemRepaired: 'FileSystemRepaired',
  QuotaExceeded: 'QuotaExceeded',
  Accepted: 'Accepted',
  Programmed: 'Programmed',
} as const;
export type Reason = (typeof REASONS)[keyof typeof REASONS];

/** Longest message of a condition; longer ones are cut. The schema of conditions allows no more. */
export const CONDITION_MESSAGE_MAX = 32768;

/** What a reconciler says of one type; generation and time are filled in by `setCondition`. */
export interface ConditionUpdate<Type extends string = ConditionType> {
  type: Type;
  status: Condition['status'];
  reason: string;
  message: string;
}

/** When and of which generation something is said. */
export interface ConditionContext {
  observedGeneration: number;
  now: Date;
}

/**
 * The conditions with one of them set. The transition time moves only when the status flips. An applicable-only
 * condition that is set to False is removed. Never changes its argument; returns it when nothing changed.
 */
export function setCondition(
  conditions: readonly Condition[],
  update: ConditionUpdate<string>,
  context: ConditionContext,
): readonly Condition[] {
  if (update.status === 'False' && LIFETIMES[update.type] === 'applicable') {
    return removeCondition(conditions, update.type);
  }
  const index = conditions.findIndex((each) => each.type === update.type);
  const former = conditions[index];
  const next: Condition = {
    type: update.type,
    status: update.status,
    reason: update.reason,
    message: update.message.slice(0, CONDITION_MESSAGE_MAX),
    lastTransitionTime:
      former !== undefined && former.status === update.status
        ? former.lastTransitionTime
        : formatTime(context.now),
    observedGeneration: context.observedGeneration,
  };
  if (former === undefined) return [...conditions, next];
  if (
    former.status === next.status &&
    former.reason === next.reason &&
    former.message === next.message &&
    former.observedGeneration === next.observedGeneration
  ) {
    return conditions;
  }
  return conditions.with(index, next);
}

/** The conditions without one of them; the same array when it was not there. */
export function removeCondition(conditions: readonly Condition[], type: string): readonly Condition[] {
  return conditions.some((each) => each.type === type)
    ? conditions.filter((each) => each.type !== type)
    : conditions;
}

export function findCondition(
  conditions: readonly Condition[] | undefined,
  type: ConditionType,
): Condition | undefined {
  return conditions?.find((each) => each.type === type);
}

/** Is the condition there with status True? */
export function isConditionTrue(conditions: readonly Condition[] | undefined, type: ConditionType): boolean {
  return findCondition(conditions, type)?.status === 'True';
}

/** RFC 3339 in UTC with whole seconds, as Kubernetes writes times. */
export function formatTime(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`;
}
