// Where a sandbox runs, and how the agent there is reached.
import { findCondition } from '../api/conditions.ts';
import { BulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { SandboxStatus } from '../api/sandbox.ts';
import type { Store } from '../store/store.ts';

export interface Place {
  nodeName: string;
  /** Address of the node within the cluster. */
  host: string;
}

export type Locate = (namespace: string, name: string) => Promise<Place>;

interface NodeStatus {
  addresses?: readonly { type: string; address: string }[];
}

/**
 * Asks the API server each time: what a controller that does not lead knows of sandboxes would be a copy of all of them. Fails
 * with NOT_FOUND, SANDBOX_NOT_RUNNING, NODE_LOST or NODE_UNREACHABLE.
 */
export function locateIn(store: Pick<Store, 'get'>): Locate {
  return async (namespace, name) => {
    const sandbox = await store.get({ kind: 'Sandbox', namespace, name });
    if (sandbox === undefined)
      throw new BulkheadError('NOT_FOUND', `sandboxes.bulkhead.dev "${name}" not found`);
    const nodeName = nodeOf(sandbox);
    const node = await store.get({ kind: 'Node', namespace: '', name: nodeName });
    if (node === undefined)
      throw new BulkheadError('NODE_LOST', `Node "${nodeName}" of sandbox "${name}" is gone.`);
    const { addresses = [] } = (node.status ?? {}) as NodeStatus;
    const host = addresses.find(({ type }) => type === 'InternalIP')?.address;
    if (host === undefined) throw new BulkheadError('NODE_UNREACHABLE', `Node "${nodeName}" has no address.`);
    return { nodeName, host };
  };
}

function nodeOf({ status }: StoredObject): string {
  const { nodeName, conditions } = (status ?? {}) as Partial<SandboxStatus>;
  const ready = findCondition(conditions, 'Ready');
  if (nodeName === undefined) {
    const why = findCondition(conditions, 'Scheduled')?.message ?? 'It has no place yet.';
    throw new BulkheadError('SANDBOX_NOT_RUNNING', `The sandbox has no running VM. ${why}`);
  }
  if (ready?.reason === 'NodeLost') throw new BulkheadError('NODE_LOST', ready.message);
  return nodeName;
}
