// Where the daemon's objects are: its own store, or what a cluster has placed on this node.
import { join } from 'node:path';
import type { RequestObserver } from '../store/cluster/api-client.ts';
import { EmbeddedStore } from '../store/embedded/embedded-store.ts';
import type { Store } from '../store/store.ts';
import { type NodeOptions, openNodeStore } from './node.ts';

export interface Objects {
  store: Store;
  /** Fails with DISK_UNWRITABLE while writes of the store do. */
  checkWritable(): Promise<void>;
}

/** Opens the store; `node` is absent where the daemon stands alone. `observe` hears of each request to an API server. */
export async function openObjects(
  { stateDir, node }: { stateDir: string; node?: NodeOptions },
  observe: RequestObserver,
): Promise<Objects> {
  if (node === undefined) {
    const store = EmbeddedStore.open({ path: join(stateDir, 'store.db') });
    const checkWritable = () => store.checkWritable();
    return { store, checkWritable };
  }
  const store = await openNodeStore(node, observe);
  return { store, checkWritable: async () => undefined };
}
