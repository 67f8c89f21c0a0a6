// The folder source of a cluster: keeps the API server at what the YAML in a directory says, as the daemon does with its own store.
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { KINDS } from '../api/kinds.ts';
import { API_GROUP } from '../api/meta.ts';
import { systemClock } from '../controller/clock.ts';
import { Manager } from '../controller/manager.ts';
import { FolderSource } from '../source/source.ts';
import { ApiClient } from '../store/cluster/api-client.ts';
import { ClusterStore } from '../store/cluster/cluster-store.ts';
import { type ClusterOptions, findApiServer } from '../store/cluster/kube-config.ts';

export interface SourceOptions extends ClusterOptions {
  /** Watched folder; may be a link that is renamed over, as git-sync does. */
  manifestsDir: string;
  /** Keeps what was applied, so that what is removed while this program is away is removed in the cluster too. */
  stateDir: string;
  logLevel: string;
}

/** Runs until `signal` aborts. */
export async function runSource(options: SourceOptions, signal: AbortSignal): Promise<void> {
  const log = pino({
    level: options.logLevel,
    base: { component: 'bulkhead-source' },
    serializers: { error: pino.stdSerializers.err },
  });
  const inventoryDir = join(options.stateDir, 'source');
  await mkdir(inventoryDir, { recursive: true, mode: 0o700 });
  const store = new ClusterStore({
    client: new ApiClient(await findApiServer(options)),
    fieldManager: 'bulkhead-source',
    events: { controller: 'bulkhead.dev/bulkhead-source', instance: hostname() },
  });
  await using opened = new AsyncDisposableStack();
  opened.defer(() => store.close());
  const source = new FolderSource({
    ...{ root: options.manifestsDir, store, stateDir: inventoryDir, log },
    // Secrets and ConfigMaps are the cluster's: nothing here needs the right to read them all.
    kinds: KINDS.filter(({ group }) => group === API_GROUP).map(({ kind }) => kind),
  });
  const manager = new Manager({ clock: systemClock, log });
  manager.add({ name: 'folder source', start: () => source.start(), stop: () => source.stop() });
  await manager.run(signal, () => log.info({ manifests: options.manifestsDir }, 'ready'));
}
