// The status of a NetworkPolicy, computed in one place.
import { isDeepStrictEqual } from 'node:util';
import { type NetworkPolicyConditionType, REASONS, setCondition } from '../../api/conditions.ts';
import { type BulkheadError, ERRORS } from '../../api/errors.ts';
import type { Condition } from '../../api/meta.ts';
import type { DefaultedNetworkPolicy, NetworkPolicyStatus } from '../../api/networkpolicy.ts';

export interface PolicyObservation {
  policy: DefaultedNetworkPolicy;
  /** What is known of it where nothing is known against it. */
  accepted?: string;
  /** Why it cannot be put into force. */
  problem?: BulkheadError;
  /** Sandboxes that it selects. */
  selected: number;
  /** Those of them that have a network, and so need it in force. */
  networks: number;
  /** Those of them whose gateway acknowledged what holds for them. */
  programmed: number;
  now: number;
}

const ACCEPTED = 'It is valid and all that it refers to is there.';

type Update = [type: NetworkPolicyConditionType, holds: boolean, reason: string, message: string];

const sandboxes = (count: number) => (count === 1 ? '1 sandbox' : `${count} sandboxes`);

function programmedUpdate({ problem, networks, programmed }: PolicyObservation): Update {
  if (problem !== undefined)
    return [
      'Programmed',
      false,
      problem.row.reason,
      'Sandboxes that it selects send nothing until it can be read.',
    ];
  if (programmed === networks) {
    const message =
      networks === 0
        ? 'No sandbox that it selects has a network now.'
        : `In force in ${sandboxes(networks)} that ${networks === 1 ? 'has' : 'have'} a network.`;
    return ['Programmed', true, REASONS.Programmed, message];
  }
  const message = `In force in ${programmed} of ${sandboxes(networks)} that have a network; the others are closed, or still under what held before.`;
  return ['Programmed', false, REASONS.Progressing, message];
}

function conditionsOf(observation: PolicyObservation): Update[] {
  const { problem, networks, programmed, accepted = ACCEPTED } = observation;
  const inForce = programmedUpdate(observation);
  const [, isInForce, reason, message] = inForce;
  const stalled = problem !== undefined && ERRORS[problem.code].terminal;
  return [
    problem === undefined
      ? ['Accepted', true, REASONS.Accepted, accepted]
      : ['Accepted', false, problem.row.reason, problem.message],
    inForce,
    problem === undefined
      ? ['Ready', isInForce, isInForce ? REASONS.Ready : reason, message]
      : ['Ready', false, problem.row.reason, problem.message],
    ['Reconciling', !stalled && (problem !== undefined || programmed < networks), reason, message],
    ['Stalled', stalled, problem?.row.reason ?? reason, problem?.message ?? ''],
  ];
}

/** What the status is to say; the former one itself when nothing changed. */
export function computeStatus(observation: PolicyObservation): NetworkPolicyStatus {
  const { policy, selected, programmed, now } = observation;
  const former = policy.status;
  const { generation } = policy.metadata;
  const context = { observedGeneration: generation, now: new Date(now) };
  let conditions: readonly Condition[] = former?.conditions ?? [];
  for (const [type, holds, reason, message] of conditionsOf(observation)) {
    conditions = setCondition(
      conditions,
      { type, status: holds ? 'True' : 'False', reason, message },
      context,
    );
  }
  const status = { observedGeneration: generation, selected, programmed, conditions: [...conditions] };
  return former !== undefined && isDeepStrictEqual(status, { ...former }) ? former : status;
}
