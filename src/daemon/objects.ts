// Where the daemon's objects are: its own store, or what a cluster has placed on this node.
import { hostname } from 'node:os';
import { join } from 'node:path';
import { EmbeddedStore } from '../store/embedded/embedded-store.ts';
import type { Store } from '../store/store.ts';
import { type NodeOptions, openNodeStore } from './node.ts';

export interface Objects {
  store: Store;
  nodeName: string;
  /** Fails with DISK_UNWRITABLE while writes of the store do. */
  checkWritable(): Promise<void>;
}

/** Opens the store; `node` is absent where the daemon stands alone. */
export async function openObjects({
  stateDir,
  node,
}: {
  stateDir: string;
  node?: NodeOptions;
}): Promise<Objects> {
  if (node === undefined) {
    const store = EmbeddedStore.open({ path: join(stateDir, 'store.db') });
    const checkWritable = () => store.checkWritable();
    return { store, nodeName: hostname(), checkWritable };
  }
  const store = await openNodeStore(node);
  return { store, nodeName: node.nodeName, checkWritable: async () => undefined };
}
