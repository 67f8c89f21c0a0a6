// The part of a sandbox's status that says where it is placed. What runs on the node, its agent says.
import { REASONS, setCondition } from '../../api/conditions.ts';
import type { Condition } from '../../api/meta.ts';
import type { DefaultedSandbox, SandboxStatus } from '../../api/sandbox.ts';
import type { Pod } from './observation.ts';

/** What Kubernetes says of a Pod for which a ResourceQuota has no room. */
const QUOTA_REFUSAL = 'exceeded quota';

type Update = Parameters<typeof setCondition>[1];

/** Of a Pod that was taken from its node: by what, as Kubernetes says it. */
export interface Disruption {
  reason: string;
  message: string;
}

function withConditions(object: DefaultedSandbox, updates: readonly Update[], now: number): Condition[] {
  const context = { observedGeneration: object.metadata.generation, now: new Date(now) };
  let conditions: readonly Condition[] = object.status?.conditions ?? [];
  for (const update of updates) conditions = setCondition(conditions, update, context);
  return [...conditions];
}

function working(reason: string, message: string): Update[] {
  return [
    { type: 'Ready', status: 'False', reason, message },
    { type: 'Reconciling', status: 'True', reason, message },
    { type: 'Stalled', status: 'False', reason, message },
  ];
}

/** Waits for the scheduler, which may have said why it cannot place it. */
export function schedulingStatus(
  object: DefaultedSandbox,
  pod: Pod | undefined,
  volumeNodes: readonly string[],
  now: number,
): SandboxStatus {
  const told = pod?.status?.conditions?.find(
    ({ type, status }) => type === 'PodScheduled' && status === 'False',
  );
  const disks = volumeNodes.length === 0 ? '' : ` Its volumes are on ${volumeNodes.join(', ')}.`;
  const reason = told === undefined ? REASONS.Pending : REASONS.Unschedulable;
  const message = `${told?.message || 'Waits to be placed on a node.'}${disks}`;
  return unscheduledStatus(object, reason, message, now);
}

/** The cluster takes no reservation for it: a quota is used up, or a rule of the namespace does not let it. */
export function refusedStatus(object: DefaultedSandbox, refusal: string, now: number): SandboxStatus {
  const reason = refusal.includes(QUOTA_REFUSAL) ? REASONS.QuotaExceeded : REASONS.ReservationRefused;
  const message = `Its place cannot be reserved, and is asked for again: ${refusal}`;
  return unscheduledStatus(object, reason, message, now);
}

function unscheduledStatus(
  object: DefaultedSandbox,
  reason: string,
  message: string,
  now: number,
): SandboxStatus {
  return {
    ...object.status,
    observedGeneration: object.metadata.generation,
    phase: 'Pending',
    conditions: withConditions(
      object,
      [...working(reason, message), { type: 'Scheduled', status: 'False', reason, message }],
      now,
    ),
  };
}

export function boundStatus(
  object: DefaultedSandbox,
  { nodeName, reservation }: { nodeName: string; reservation: string },
  now: number,
): SandboxStatus {
  const message = `Placed on ${nodeName}.`;
  return {
    ...object.status,
    ...{ observedGeneration: object.metadata.generation, phase: 'Pending', nodeName, reservation },
    conditions: withConditions(
      object,
      [
        ...working(REASONS.Scheduled, `${message} Its agent starts it.`),
        { type: 'Scheduled', status: 'True', reason: REASONS.Scheduled, message },
      ],
      now,
    ),
  };
}

/** Of a sandbox that runs on without a change, but whose place is no longer needed. */
export function vacantStatus(object: DefaultedSandbox): SandboxStatus {
  const { reservation: _reservation, ...status } = object.status ?? {};
  return status;
}

export function disruptionOf(pod: Pod | undefined): Disruption {
  const told = pod?.status?.conditions?.find(
    ({ type, status }) => type === 'DisruptionTarget' && status === 'True',
  );
  if (told !== undefined) return { reason: told.reason, message: told.message };
  const { phase, reason, message } = pod?.status ?? {};
  if (phase === 'Failed' || phase === 'Succeeded')
    return {
      reason: reason ?? 'ReservationEnded',
      message: message ?? `Its reservation has ended: ${phase}.`,
    };
  return { reason: 'ReservationDeleted', message: 'The Pod that held its place was deleted.' };
}

export function disruptedStatus(
  object: DefaultedSandbox,
  { reason, message }: Disruption,
  now: number,
): SandboxStatus {
  const text = `${message} Its VM stops, then it is placed anew.`;
  return {
    ...object.status,
    conditions: withConditions(
      object,
      [{ type: 'DisruptionTarget', status: 'True', reason, message }, ...working(reason, text)],
      now,
    ),
  };
}

export function nodeLostStatus(object: DefaultedSandbox, now: number): SandboxStatus {
  const node = object.status?.nodeName ?? '';
  const message =
    `Node ${node} has not been heard of; the sandbox may still run there, so it is not started elsewhere. ` +
    `Bring the node back, delete its Node object, or give it the taint node.kubernetes.io/out-of-service.`;
  return {
    ...object.status,
    phase: 'Unknown',
    conditions: withConditions(
      object,
      [{ type: 'Ready', status: 'Unknown', reason: REASONS.NodeLost, message }],
      now,
    ),
  };
}

/** As if it had never been placed; what was said of runs that are over stays. */
export function unplacedStatus(object: DefaultedSandbox, now: number): SandboxStatus {
  const { restarts, lastTermination, lastHandledReconcileAt } = object.status ?? {};
  return schedulingStatus(
    {
      ...object,
      status: {
        ...(restarts === undefined ? {} : { restarts }),
        ...(lastTermination === undefined ? {} : { lastTermination }),
        ...(lastHandledReconcileAt === undefined ? {} : { lastHandledReconcileAt }),
      },
    },
    undefined,
    [],
    now,
  );
}
