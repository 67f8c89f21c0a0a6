// Says of each NetworkPolicy whom it selects and where it is in force. What it takes effect by is the programmer's.
import { asBulkheadError } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedNetworkPolicy } from '../../api/networkpolicy.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import { selectsLabels } from '../../network/policy/compile.ts';
import type { ObjectKey } from '../../store/store.ts';
import type { NetworkPolicyReconcilerDeps } from './dependencies.ts';
import { type Policies, referencesOf } from './policies.ts';
import { computeStatus } from './status.ts';

/** Sandboxes that a policy selects: those that a change of it concerns. */
export function sandboxesOf(
  { metadata, spec }: DefaultedNetworkPolicy,
  sandboxes: (namespace: string) => readonly StoredObject[],
): DefaultedSandbox[] {
  const all = sandboxes(metadata.namespace) as readonly DefaultedSandbox[];
  return all.filter((each) => selectsLabels(spec, each.metadata.labels));
}

/** Policies that select a sandbox: those whose counts a change of it concerns. */
export function policiesOf(
  sandbox: StoredObject,
  policies: readonly StoredObject[],
): DefaultedNetworkPolicy[] {
  const { namespace, labels } = sandbox.metadata;
  return (policies as readonly DefaultedNetworkPolicy[]).filter(
    ({ metadata, spec }) => metadata.namespace === namespace && selectsLabels(spec, labels),
  );
}

/** Policies that refer to a Secret or ConfigMap. */
export function policiesReferringTo(
  { kind, namespace, name }: ObjectKey,
  policies: readonly StoredObject[],
): DefaultedNetworkPolicy[] {
  return (policies as readonly DefaultedNetworkPolicy[]).filter((policy) =>
    referencesOf(policy).some(
      (each) => each.kind === kind && each.namespace === namespace && each.name === name,
    ),
  );
}

/** To be woken by changes of the policy, of the sandboxes that it selects, and by the programmer. */
export class NetworkPolicyReconciler implements Reconciler {
  readonly name = 'networkpolicy';
  readonly kind = 'NetworkPolicy';
  readonly #deps: NetworkPolicyReconcilerDeps;

  constructor(deps: NetworkPolicyReconcilerDeps) {
    this.#deps = deps;
  }

  async reconcile(request: Request): Promise<Outcome> {
    const { store, clock, plane, sandboxes } = this.#deps;
    const policy = (await store.get(request)) as DefaultedNetworkPolicy | undefined;
    if (policy === undefined) return { type: 'done' };
    const policies = await this.#policiesWith(policy);
    const problem = policies.problemOf(policy);
    const selected = sandboxesOf(policy, sandboxes);
    const states = selected.flatMap((sandbox) => {
      const state = plane.stateOf(sandbox.metadata.uid);
      return state === undefined ? [] : [{ sandbox, state }];
    });
    const programmed = states.filter(
      ({ sandbox, state }) => state.acknowledged === policies.effectiveOf(sandbox).hash,
    ).length;
    const status = computeStatus({
      policy,
      selected: selected.length,
      networks: states.length,
      programmed: problem === undefined ? programmed : 0,
      now: clock.now(),
      ...(problem === undefined ? {} : { problem }),
    });
    if (status === policy.status) return { type: 'done' };
    try {
      await store.updateStatus(request, status, policy.metadata.resourceVersion);
    } catch (error) {
      const { code } = asBulkheadError(error);
      // The change that came between wakes the key.
      if (code !== 'CONFLICT' && code !== 'NOT_FOUND') throw error;
    }
    return { type: 'done' };
  }

  /** The policies, this version of this one among them. */
  async #policiesWith(policy: DefaultedNetworkPolicy): Promise<Policies> {
    const { book } = this.#deps;
    const policies = await book.read();
    if (policies.holds(policy)) return policies;
    book.changed();
    return book.read();
  }
}
