// What makes a daemon the agent of a cluster's node: the objects it sees, the lease that says it lives, the labels that say what
// the node can do.
import { asBulkheadError } from '../api/errors.ts';
import type { Clock } from '../controller/clock.ts';
import { sleep } from '../controller/clock.ts';
import { microTime } from '../controller/leader-election.ts';
import type { Log } from '../controller/log.ts';
import type { Manager } from '../controller/manager.ts';
import { NODE_LEASE_PREFIX } from '../reconcilers/placement/nodes.ts';
import { ApiClient, type RequestObserver } from '../store/cluster/api-client.ts';
import { ClusterStore } from '../store/cluster/cluster-store.ts';
import { FollowedObjects } from '../store/cluster/followed-objects.ts';
import { type ClusterOptions, findApiServer } from '../store/cluster/kube-config.ts';
import { asNode } from '../store/cluster/node-identity.ts';
import { NodeStore } from '../store/cluster/node-store.ts';
import type { HostDrivers } from '../vmm/select.ts';
import type { GuardedMetricsOptions } from './guarded-metrics.ts';

export interface NodeOptions extends ClusterOptions {
  nodeName: string;
  /** Where Bulkhead's own leases are. */
  namespace: string;
  /** For a Prometheus of the cluster; none where absent. */
  guardedMetrics?: GuardedMetricsOptions;
  /** HOST:PORT where the cluster's controllers reach sandboxes; not served where absent. */
  subresourcesAddress?: string;
}

/** On a Node: the driver that runs its VMs, `libkrun` or `software`. */
const DRIVER_LABEL = 'bulkhead.dev/driver';
/** A quarter of the time after which a node counts as lost. */
const RENEW_EVERY_MS = 10_000;
const LEASE_SECONDS = 40;

/** The objects of one node, and those that all nodes share. */
export async function openNodeStore(options: NodeOptions, observe: RequestObserver): Promise<NodeStore> {
  const ours = { fields: `status.nodeName=${options.nodeName}` };
  const server = await findApiServer(options);
  const client = new ApiClient(server, observe);
  const source = { part: 'bulkhead-node', instance: options.nodeName };
  const cluster = clusterStore(client, source, { Sandbox: ours, Volume: ours });
  // By an account of the node's own, which may read what its sandboxes refer to.
  const references = new FollowedObjects({
    source: clusterStore(new ApiClient(asNode(server, client, options), observe), source),
  });
  return new NodeStore(cluster, options.nodeName, references);
}

/** A program of the cluster: its name, and that of one of its kind. */
interface EventOrigin {
  part: string;
  instance: string;
}

type Selectors = ConstructorParameters<typeof ClusterStore>[0]['selectors'];

export function clusterStore(
  client: ApiClient,
  { part, instance }: EventOrigin,
  selectors: Selectors = {},
): ClusterStore {
  return new ClusterStore({
    client,
    // Agents and the controller write the same statuses, in turns.
    fieldManager: 'bulkhead',
    events: { controller: `bulkhead.dev/${part}`, instance },
    selectors,
  });
}

interface NodeParts {
  drivers: Pick<HostDrivers, 'select'>;
  clock: Clock;
  log: Log;
  /** Hears of each request to the API server. */
  observe: RequestObserver;
}

/** Lets the cluster know of this node as long as the daemon runs. */
export function addNodeAgent(
  manager: Manager,
  options: NodeOptions,
  { drivers, clock, log, observe }: NodeParts,
): void {
  const stop = new AbortController();
  let running: Promise<unknown> = Promise.resolve();
  manager.add({
    name: 'node agent',
    async start() {
      const client = new ApiClient(await findApiServer(options), observe);
      const store = clusterStore(client, { part: 'bulkhead-node', instance: options.nodeName });
      running = Promise.all([
        renewLease(store, options, clock, log, stop.signal),
        labelNode(store, options, drivers, clock, log, stop.signal),
      ]);
    },
    async stop() {
      stop.abort();
      await running;
    },
  });
}

async function renewLease(
  store: ClusterStore,
  { namespace, nodeName }: NodeOptions,
  clock: Clock,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const name = `${NODE_LEASE_PREFIX}${nodeName}`;
  const key = { kind: 'Lease', namespace, name };
  while (!signal.aborted) {
    const spec = {
      holderIdentity: nodeName,
      leaseDurationSeconds: LEASE_SECONDS,
      renewTime: microTime(clock.now()),
    };
    try {
      await store.patch(key, { spec }).catch((error: unknown) => {
        if (asBulkheadError(error).code !== 'NOT_FOUND') throw error;
        return store.create({
          ...{ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' },
          metadata: { namespace, name },
          spec,
        });
      });
    } catch (error) {
      log.warn({ error }, 'the lease of this node was not renewed');
    }
    await sleep(clock, RENEW_EVERY_MS, signal);
  }
}

/** Tries the drivers, as at every start, and says on the Node which one works. */
async function labelNode(
  store: ClusterStore,
  { nodeName }: NodeOptions,
  drivers: Pick<HostDrivers, 'select'>,
  clock: Clock,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const { driver } = await drivers.select('Auto', signal);
      const labels = { [DRIVER_LABEL]: driver.name };
      await store.patch({ kind: 'Node', namespace: '', name: nodeName }, { metadata: { labels } });
      return;
    } catch (error) {
      if (!signal.aborted) log.warn({ error }, 'this node was not labelled with its driver');
      await sleep(clock, RENEW_EVERY_MS, signal);
    }
  }
}
