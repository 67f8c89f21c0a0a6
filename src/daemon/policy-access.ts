// The server's way from a Sandbox's name to what holds for its network.
import { BulkheadError } from '../api/errors.ts';
import type { DefaultedSandbox } from '../api/sandbox.ts';
import type { NetworkPlane } from '../network/network-plane.ts';
import { readPolicies } from '../reconcilers/networkpolicy/policies.ts';
import type { PolicyAccess } from '../server/contracts.ts';
import type { Store } from '../store/store.ts';

/** `stateOf` tells what the gateway has in force. */
export function policyAccess(store: Store, stateOf: NetworkPlane['stateOf']): PolicyAccess {
  return {
    async ofSandbox(namespace, name) {
      const sandbox = (await store.get({ kind: 'Sandbox', namespace, name })) as DefaultedSandbox | undefined;
      if (sandbox === undefined)
        throw new BulkheadError('NOT_FOUND', `sandboxes.bulkhead.dev "${name}" not found`);
      // Read anew: the answer holds for what was applied just before.
      const effective = (await readPolicies(store, namespace)).effectiveOf(sandbox);
      const acknowledged = stateOf(sandbox.metadata.uid)?.acknowledged;
      return { effective, ...(acknowledged === undefined ? {} : { acknowledged }) };
    },
  };
}
