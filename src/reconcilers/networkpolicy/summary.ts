// Says of each NetworkPolicy of a cluster whom it selects and where it is in force: counted from what the node of each sandbox says
// of that sandbox. So a node has a say in its own sandboxes alone, and one place knows the whole.
import { asBulkheadError } from '../../api/errors.ts';
import type { DefaultedNetworkPolicy } from '../../api/networkpolicy.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { Clock } from '../../controller/clock.ts';
import type { Informer } from '../../controller/informer.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import { revisionOf, revisionsDigest } from '../../network/policy/compile.ts';
import type { Store } from '../../store/store.ts';
import { referencesOf } from './policies.ts';
import { policiesOf, sandboxesOf } from './reconciler.ts';
import { computeStatus } from './status.ts';

type Caches = Readonly<Record<'sandboxes' | 'policies', Pick<Informer, 'get' | 'list'>>>;

export class PolicySummaryReconciler implements Reconciler {
  readonly name = 'networkpolicy';
  readonly kind = 'NetworkPolicy';
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #caches: Caches;

  constructor(store: Store, clock: Clock, caches: Caches) {
    this.#store = store;
    this.#clock = clock;
    this.#caches = caches;
  }

  async reconcile(request: Request): Promise<Outcome> {
    const { policies, sandboxes } = this.#caches;
    const policy = policies.get(request.namespace, request.name) as DefaultedNetworkPolicy | undefined;
    if (policy === undefined) return { type: 'done' };
    const selected = sandboxesOf(policy, (namespace) => sandboxes.list(namespace));
    const networks = selected.filter(({ status }) => status?.network !== undefined);
    const digestOf = this.#digests(policies.list(request.namespace) as DefaultedNetworkPolicy[]);
    const status = computeStatus({
      policy,
      selected: selected.length,
      networks: networks.length,
      programmed: networks.filter((each) => each.status?.network?.policiesDigest === digestOf(each)).length,
      accepted:
        referencesOf(policy).length === 0
          ? 'It is valid.'
          : 'It is valid. What it refers to, the node of each sandbox reads.',
      now: this.#clock.now(),
    });
    if (status === policy.status) return { type: 'done' };
    try {
      await this.#store.updateStatus(request, status, policy.metadata.resourceVersion);
    } catch (error) {
      const { code } = asBulkheadError(error);
      // The change that came between wakes the key.
      if (code !== 'CONFLICT' && code !== 'NOT_FOUND') throw error;
    }
    return { type: 'done' };
  }

  /** What is to be in force in a sandbox; computed once for all that the same policies select. */
  #digests(policies: readonly DefaultedNetworkPolicy[]): (sandbox: DefaultedSandbox) => string {
    const known = new Map<string, string>();
    const named = policies.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    return (sandbox) => {
      const selecting = policiesOf(sandbox, named).map(({ metadata }) => ({
        name: `${metadata.namespace}/${metadata.name}`,
        revision: revisionOf(metadata),
      }));
      const id = selecting.map(({ revision }) => revision).join();
      const digest = known.get(id) ?? revisionsDigest(selecting);
      known.set(id, digest);
      return digest;
    };
  }
}
