// The server's way from a Sandbox's name to what holds for its network.
import { BulkheadError } from '../api/errors.ts';
import type { DefaultedSandbox } from '../api/sandbox.ts';
import type { HostNetworks } from '../network/host-networks.ts';
import { readPolicies } from '../reconcilers/networkpolicy/policies.ts';
import type { PolicyAccess } from '../server/contracts.ts';
import type { Store } from '../store/store.ts';

export function policyAccess(store: Store, networks: Pick<HostNetworks, 'stateOf' | 'log'>): PolicyAccess {
  const find = async (namespace: string, name: string): Promise<DefaultedSandbox> => {
    const sandbox = await store.get({ kind: 'Sandbox', namespace, name });
    if (sandbox === undefined)
      throw new BulkheadError('NOT_FOUND', `sandboxes.bulkhead.dev "${name}" not found`);
    return sandbox as DefaultedSandbox;
  };
  return {
    async ofSandbox(namespace, name) {
      const sandbox = await find(namespace, name);
      // Read anew: the answer holds for what was applied just before.
      const effective = (await readPolicies(store, namespace)).effectiveOf(sandbox);
      const acknowledged = networks.stateOf(sandbox.metadata.uid)?.acknowledged;
      return { effective, ...(acknowledged === undefined ? {} : { acknowledged }) };
    },
    async log(namespace, name) {
      return networks.log((await find(namespace, name)).metadata.uid);
    },
  };
}
