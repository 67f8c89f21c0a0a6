// The composition root of the cluster's controller: of several that run, one leads and places sandboxes on nodes.
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { pino } from 'pino';
import type { StoredObject } from '../api/meta.ts';
import type { DefaultedNetworkPolicy } from '../api/networkpolicy.ts';
import type { DefaultedSandbox } from '../api/sandbox.ts';
import { systemClock } from '../controller/clock.ts';
import { Controller, ignoreStatusChanges } from '../controller/controller.ts';
import { EventRecorder } from '../controller/event-recorder.ts';
import { Informer, type Notification } from '../controller/informer.ts';
import { LeaderElection } from '../controller/leader-election.ts';
import { Manager } from '../controller/manager.ts';
import { reconcileFields } from '../controller/reconcile-context.ts';
import type { Request } from '../controller/reconciler.ts';
import { GrantReconciler } from '../reconcilers/grants/reconciler.ts';
import { sandboxesOf } from '../reconcilers/networkpolicy/reconciler.ts';
import { SANDBOX_UID_LABEL } from '../reconcilers/placement/limits.ts';
import { NodeWatch } from '../reconcilers/placement/nodes.ts';
import { PlacementReconciler } from '../reconcilers/placement/reconciler.ts';
import { UnplacedVolumeReconciler } from '../reconcilers/placement/volume-reconciler.ts';
import { ApiClient } from '../store/cluster/api-client.ts';
import { OUR_SLICES } from '../store/cluster/endpoint-slices.ts';
import { type ClusterOptions, findApiServer } from '../store/cluster/kube-config.ts';
import { NodeGrants } from '../store/cluster/node-grants.ts';
import { ControllerMetrics } from './controller-metrics.ts';
import { type GuardedMetricsOptions, guardedMetrics } from './guarded-metrics.ts';
import { clusterStore } from './node.ts';
import { policySummaryController } from './policy-summary.ts';
import { serviceController } from './service-controller.ts';
import { OUR_REQUESTS, Subresources, type SubresourcesOptions } from './subresources.ts';

const LEADER_LEASE = 'bulkhead-controller';

export interface ControllerOptions extends ClusterOptions {
  /** Where Bulkhead's own leases are. */
  namespace: string;
  /** Of the Pods that hold the places of sandboxes. */
  reservationImage: string;
  logLevel: string;
  /** How long another controller waits for a leader that is silent. */
  leaseDurationMs?: number;
  /** For a Prometheus of the cluster; none where absent. */
  guardedMetrics?: GuardedMetricsOptions;
  /** The API of subresources; not served where absent. */
  subresources?: SubresourcesOptions;
}

/** Runs until `signal` aborts. Throws when leadership is lost: another one leads then. */
export async function runController(options: ControllerOptions, signal: AbortSignal): Promise<void> {
  const log = pino({
    level: options.logLevel,
    base: { component: 'bulkhead-controller' },
    mixin: reconcileFields,
    serializers: { error: pino.stdSerializers.err },
  });
  const clock = systemClock;
  const identity = `${hostname()}_${randomBytes(4).toString('hex')}`;
  const metrics = new ControllerMetrics(LEADER_LEASE);
  const client = new ApiClient(await findApiServer(options), metrics.observeRequest);
  const store = clusterStore(
    client,
    { part: 'bulkhead-controller', instance: identity },
    {
      ...{ Pod: { labels: SANDBOX_UID_LABEL }, EndpointSlice: { labels: OUR_SLICES } },
      // Beside those of agents a cluster has one for each kubelet, renewed every ten seconds.
      Lease: { fields: `metadata.namespace=${options.namespace}` },
      CertificateSigningRequest: { fields: OUR_REQUESTS },
    },
  );
  await using opened = new AsyncDisposableStack();
  opened.defer(() => store.close());
  if (options.guardedMetrics !== undefined) {
    const scraped = { metrics: (accept?: string) => metrics.scrape(accept), healthChecks: [] };
    const serving = guardedMetrics(options.guardedMetrics, options, { ...scraped, clock, log });
    await serving.start(() => undefined);
    opened.defer(() => serving.stop());
  }
  const { namespace } = options;
  const subresources =
    options.subresources === undefined
      ? undefined
      : new Subresources(options.subresources, { client, store, namespace, clock, log });
  subresources?.start();
  opened.defer(() => subresources?.stop());
  const election = new LeaderElection({
    ...{ store, clock, log, identity },
    ...{ namespace: options.namespace, name: LEADER_LEASE },
    ...(options.leaseDurationMs === undefined ? {} : { leaseDurationMs: options.leaseDurationMs }),
  });
  log.info({ identity }, 'waits to lead');
  await election.acquire(signal);
  if (signal.aborted) return;
  log.info({ identity }, 'leads');
  metrics.leads(true);

  const recorder = new EventRecorder(store, clock, log);
  opened.defer(() => recorder.close());
  const informer = (kind: string): Informer => new Informer({ store, kind, clock, log });
  const caches = {
    ...{ sandboxes: informer('Sandbox'), pods: informer('Pod') },
    ...{ volumes: informer('Volume'), policies: informer('NetworkPolicy') },
  };
  const nodeInformer = informer('Node');
  const nodeGrants = new NodeGrants({
    ...{ client, namespace: options.namespace },
    nodeUid: (nodeName) => nodeInformer.get('', nodeName)?.metadata.uid,
  });
  await nodeGrants.load();
  const grants = new GrantReconciler(nodeGrants, caches);
  const nodes = new NodeWatch(clock, (nodeName) => {
    for (const request of reconciler.sandboxesOfNode(nodeName)) controller.enqueue(request);
  });
  opened.defer(() => nodes.close());
  const { reservationImage } = options;
  const grantAccess = (object: DefaultedSandbox, nodeName: string) => grants.grant(object, nodeName);
  const reconciler = new PlacementReconciler(
    { store, clock, recorder, reservationImage, grantAccess },
    caches,
    nodes,
  );
  const controller = new Controller({ reconciler, clock, log, ...metrics.ofController(reconciler.name) });
  controller.watch(caches.sandboxes);
  controller.watch(caches.pods, { requests: (pod) => reconciler.sandboxesOfPod(pod) });
  controller.watch(caches.volumes, { requests: (volume) => reconciler.sandboxesOfVolume(volume) });
  const granting = new Controller({ reconciler: grants, clock, log, ...metrics.ofController(grants.name) });
  granting.watch(caches.sandboxes);
  granting.watch(caches.policies, {
    matters: ignoreStatusChanges,
    requests: (policy) =>
      sandboxesOf(policy as DefaultedNetworkPolicy, (namespace) => caches.sandboxes.list(namespace)).map(
        keyOf,
      ),
  });
  const unplaced = new Controller({
    reconciler: new UnplacedVolumeReconciler(store, clock, caches.volumes),
    ...{ clock, log },
  });
  unplaced.watch(caches.volumes);
  const services = serviceController({
    ...{ client, clock, log, metrics, sandboxes: caches.sandboxes, nodes: nodeInformer },
    ...{ services: informer('Service'), slices: informer('EndpointSlice') },
  });
  const counting = policySummaryController({
    ...{ store, clock, log, metrics, policies: caches.policies, sandboxes: caches.sandboxes },
  });
  const leases = informer('Lease');
  nodeInformer.addHandler(({ type, object }: Notification) =>
    type === 'deleted' ? nodes.forgetNode(object) : nodes.noteNode(object),
  );
  leases.addHandler(({ type, object }: Notification) => {
    if (type !== 'deleted') nodes.noteLease(object);
  });

  const manager = new Manager({ clock, log });
  // What is known of nodes comes first: a sandbox whose node is unknown would count as one whose node is gone.
  for (const each of [nodeInformer, leases, caches.policies, caches.volumes, caches.pods, caches.sandboxes])
    manager.add(each);
  for (const each of [controller, granting, unplaced, counting, ...services]) manager.add(each);
  for (const each of subresources?.signer(metrics) ?? []) manager.add(each);
  const leading = new AbortController();
  let held: Promise<void> | undefined;
  manager.add({
    name: 'leadership',
    async start(fail) {
      held = election.hold(leading.signal).catch((error: unknown) => fail(error as Error));
    },
    async stop() {
      leading.abort();
      await held;
    },
  });
  await manager.run(signal, () => log.info('ready'));
}

function keyOf({ kind, metadata: { namespace, name } }: StoredObject): Request {
  return { kind, namespace, name };
}
