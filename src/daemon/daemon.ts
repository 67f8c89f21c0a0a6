// The composition root of the standalone daemon: opens every part, wires them, runs until told to stop.
// Stopping ends what this process does; VMs go on, and the next daemon takes them up.
import { mkdir, rm } from 'node:fs/promises';
import { hostname, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { type Logger, pino } from 'pino';
import { BulkheadError } from '../api/errors.ts';
import { systemClock } from '../controller/clock.ts';
import { EventRecorder } from '../controller/event-recorder.ts';
import { Manager, type Runnable } from '../controller/manager.ts';
import { reconcileFields } from '../controller/reconcile-context.ts';
import { openCopies } from '../copies/open-copies.ts';
import { connectGuest } from '../guest/client.ts';
import { openImages } from '../images/cache/open-images.ts';
import { openRegistries } from '../images/registry/client.ts';
import type { RegistryOptions } from '../images/registry/hosts.ts';
import { AuthorityFile } from '../network/intercept/authority-file.ts';
import { LeaseReconciler } from '../reconcilers/lease/reconciler.ts';
import { memoryOfVms } from '../reconcilers/sandbox/former-vms.ts';
import { createSandboxReconciler } from '../reconcilers/sandbox/reconciler.ts';
import { Room } from '../reconcilers/sandbox/room.ts';
import type { HealthCheck } from '../server/contracts.ts';
import { checkAddresses } from '../server/listen.ts';
import { apiRules } from '../server/rules.ts';
import { createServer } from '../server/server.ts';
import { FolderSource } from '../source/source.ts';
import type { Store } from '../store/store.ts';
import type { StartTraces } from '../tracing/start-traces.ts';
import { loadHostLibrary } from '../vmm/ffi.ts';
import { OpenHostPaths } from '../vmm/host-paths.ts';
import { openLibkrunDriver } from '../vmm/libkrun/driver.ts';
import { openLostVms } from '../vmm/lost-vms.ts';
import { type AllowedDrivers, HostDrivers } from '../vmm/select.ts';
import { openSoftwareDriver } from '../vmm/software/driver.ts';
import { parseBody } from './body.ts';
import { sandboxCommits } from './commit.ts';
import { addControllers } from './controllers.ts';
import { DeferredEnqueuer } from './deferred-enqueuer.ts';
import { daemonChecks } from './doctor.ts';
import { GarbageCollector } from './garbage/collector.ts';
import { garbageSources } from './garbage/sources.ts';
import { guardedMetrics } from './guarded-metrics.ts';
import { HostFigures } from './host-room.ts';
import { IdleMemory, processHeap } from './idle-memory.ts';
import { DaemonMetrics } from './metrics.ts';
import { openNetworks, tellRefusal } from './networks.ts';
import { addNodeAgent, type NodeOptions } from './node.ts';
import { openObjects } from './objects.ts';
import { policyAccess } from './policy-access.ts';
import { PortUses } from './port-uses.ts';
import { sandboxAccess } from './sandbox-access.ts';
import { Starts } from './starts.ts';
import { agentSubresources } from './subresources.ts';
import { untilUnused } from './until-unused.ts';
import { PRODUCT_VERSION } from './version.ts';
import { volumeAccess } from './volume-access.ts';
import { daemonVolumeReconciler, exists, openDaemonVolumes, volumeFigures } from './volumes.ts';

export interface DaemonOptions {
  /** Everything the daemon keeps; made with mode 0700 when it does not exist. */
  stateDir: string;
  /** Disks of volumes; made with mode 0700 when it does not exist. */
  volumeDir: string;
  /** Directories of the host below which sandboxes may have some of it; none where absent. */
  hostPathRoots?: readonly string[];
  /** Unix socket of the API. */
  socketPath: string;
  /** Watched folder of manifests; without one objects come from the API alone. */
  manifestsDir?: string;
  /** HOST:PORT of /metrics, /healthz and /readyz; not served when absent. */
  metricsAddress?: string;
  /** Every condition and all that guests tell, in up to twice the series. */
  metricsDetail?: boolean;
  /** Of an OpenTelemetry collector (OTLP over HTTP); no traces when absent. */
  traceEndpoint?: URL;
  /** PEM: the operator's own authority for TLS that the gateway opens. Absent: one is made in the state directory. */
  gatewayAuthority?: string;
  /** What may run VMs; `auto` tries libkrun with a VM of its own and takes the software driver where that fails. */
  driver: AllowedDrivers;
  /** Memory that sandboxes may be given in all, as a multiple of what the host has. */
  memoryOvercommit: number;
  /** Nothing starts when less than that would be free on the state directory's disk. Absent: by the size of the disk. */
  minFreeDiskBytes?: number;
  logLevel: string;
  /** Ends by itself once no client asks anything and no sandbox runs. */
  untilUnused?: boolean;
  /** Mirrors, plain http and authorities of image registries. */
  registries?: RegistryOptions;
  /** The node of a cluster that this daemon serves; standalone where absent. */
  node?: NodeOptions;
}

/** Where `make build` puts kernel, initramfs, libvmm and launcher. */
const BUILD_DIR = resolve(import.meta.dirname, '..', '..', 'build');

/** Runs until `signal` aborts. Throws when a part cannot start or go on. */
export async function runDaemon(options: DaemonOptions, signal: AbortSignal): Promise<void> {
  const log = pino({
    level: options.logLevel,
    base: { component: 'bulkhead' },
    mixin: reconcileFields,
    serializers: { error: pino.stdSerializers.err },
  });
  const clock = systemClock;
  const paths = {
    sandboxes: join(options.stateDir, 'sandboxes'),
    images: join(options.stateDir, 'images'),
    vmm: join(options.stateDir, 'vmm'),
    uploads: join(options.stateDir, 'uploads'),
    source: join(options.stateDir, 'source'),
    network: join(options.stateDir, 'network'),
    copies: join(options.stateDir, 'copies'),
  };
  // Before anything is made, so that a start that is refused leaves nothing.
  await checkAddresses(options.socketPath, options.metricsAddress);
  await makeStateDir(options.stateDir);
  await using opened = new AsyncDisposableStack();

  const nodeName = options.node?.nodeName ?? hostname();
  const metrics = new DaemonMetrics(nodeName, { detail: options.metricsDetail === true });
  // The store's lock keeps a second daemon out, so it comes before anything is cleaned up.
  const objects = await openObjects(options, metrics.observeRequest);
  const { store } = objects;
  opened.defer(() => store.close());
  await rm(paths.uploads, { recursive: true, force: true });
  for (const dir of [paths.sandboxes, paths.uploads, paths.source, paths.network])
    await mkdir(dir, { recursive: true, mode: 0o700 });

  const registries = openRegistries(options.registries ?? {});
  opened.defer(() => registries.close());
  const images = await openImages({
    ...{ folder: paths.images, registries },
    keptFreeBytes: () => new HostFigures(paths.images, options.minFreeDiskBytes).keptFromWhatCanWait(),
  });
  opened.defer(() => images.close());
  const drivers = await openDrivers(options.driver, paths.vmm, log);
  opened.defer(() => drivers.close());

  const copies = await openCopies(paths.copies);
  const traces = await openTraces(options.traceEndpoint, nodeName, log);
  opened.defer(() => traces?.close());
  const starts = new Starts(metrics.lifecycle, traces, () => clock.now());
  const recorder = new EventRecorder(store, clock, log);
  opened.defer(() => recorder.close());
  const volumes = await openDaemonVolumes({
    ...{ dir: options.volumeDir, buildDir: BUILD_DIR },
    keptFreeBytes: () => new HostFigures(options.volumeDir, options.minFreeDiskBytes).keptFromWhatCanWait(),
  });
  opened.defer(() => volumes.close());
  const library = loadHostLibrary(BUILD_DIR);
  // It holds the Secrets, as the gateway does.
  library.forbidDumps();
  const hostPaths = opened.use(
    new OpenHostPaths({
      library,
      roots: options.hostPathRoots ?? [],
      kept: [options.stateDir, options.volumeDir],
    }),
  );
  const authority = new AuthorityFile({
    path: options.gatewayAuthority ?? join(paths.network, 'authority.pem'),
    isOwn: options.gatewayAuthority !== undefined,
    now: () => clock.now(),
  });
  const portUses = new PortUses((uid) => sandboxes.live.get(uid)?.use());
  const networks = openNetworks({
    ...{ dir: paths.network, buildDir: BUILD_DIR, authority, clock, log },
    onRefusal: (uid, message) => {
      const key = sandboxes.live.get(uid)?.key;
      if (key !== undefined) void tellRefusal(store, recorder, key, uid, message);
    },
    onUses: (uids) => portUses.told(uids),
  });
  const deferred = new DeferredEnqueuer();
  const deferredVolumes = new DeferredEnqueuer();
  const sandboxes = createSandboxReconciler({
    store,
    images,
    volumes,
    hostPaths,
    copies,
    volumeMeasured: (volume) => deferredVolumes.enqueue(volume),
    drivers,
    connectGuest: (handle, abort) =>
      connectGuest((dialling) => handle.dialAgent(dialling), { signal: abort }),
    networks,
    enqueuer: deferred,
    recorder,
    metrics: starts,
    log,
    clock,
    sandboxesDir: paths.sandboxes,
    room: new Room({
      host: new HostFigures(paths.sandboxes, options.minFreeDiskBytes),
      memoryOvercommit: options.memoryOvercommit,
      formerly: async () => memoryOfVms((await store.list('Sandbox')).items),
    }),
    hostMemoryBytes: totalmem() * Math.min(1, options.memoryOvercommit),
    nodeName,
    random: Math.random,
  });
  const deferredLeases = new DeferredEnqueuer();
  const leases = new LeaseReconciler({ store, clock, enqueuer: deferredLeases });
  const volumeReconciler = daemonVolumeReconciler(paths.sandboxes, {
    ...{ store, volumes, attached: sandboxes.disks, enqueuer: deferredVolumes, recorder, log, clock },
    metrics: metrics.volumes,
  });
  const source =
    options.manifestsDir === undefined
      ? undefined
      : new FolderSource({ root: options.manifestsDir, store, stateDir: paths.source, log, copies });

  const manager = new Manager({ clock, log });
  manager.add(
    runnable(
      'networks',
      () => networks.start(),
      () => networks.stop(),
    ),
  );
  const heap = processHeap();
  if (heap !== undefined) manager.add(new IdleMemory(heap, clock));
  const informers = addControllers({
    ...{ manager, store, clock, log, metrics },
    ...{ sandboxes, deferred, leases, deferredLeases, volumeReconciler, deferredVolumes, networks },
  });
  metrics.observe({
    live: sandboxes.live,
    gateway: () => networks.counters(),
    sandboxes: informers.sandboxes,
    volumes: () => volumeFigures(informers.volumes, nodeName),
    images,
    node: {
      memoryOvercommit: options.memoryOvercommit,
      storage: { state: options.stateDir, volumes: options.volumeDir },
    },
    ...(source === undefined ? {} : { source }),
  });
  manager.add(
    runnable(
      'volumes',
      () => volumeReconciler.start(),
      () => volumeReconciler.close(),
    ),
  );
  manager.add(
    runnable(
      'sandboxes',
      () => sandboxes.start(),
      () => sandboxes.close(),
    ),
  );

  const garbage = new GarbageCollector(
    garbageSources({
      sandboxes: async () => (await store.list('Sandbox')).items,
      hasDirectory: (uid) => exists(join(paths.sandboxes, uid)),
      orphans: () => sandboxes.orphans(),
      lostVms: await openLostVms({ stateDir: paths.vmm, buildDir: BUILD_DIR }),
      ...{ images, volumes, copies },
    }),
    log,
    clock,
  );
  manager.add(
    runnable(
      'garbage',
      () => garbage.start(),
      () => garbage.stop(),
    ),
  );

  const healthChecks: HealthCheck[] = [
    { name: 'store', kind: 'live', check: () => checkStore(store) },
    { name: 'store writes', kind: 'ready', check: () => objects.checkWritable() },
  ];
  const rules = apiRules(parseBody);
  const server = createServer({
    store,
    rules,
    sandboxes: sandboxAccess(store, sandboxes, networks, starts),
    holds: leases,
    images,
    imageExporter: images,
    volumes: volumeAccess(store, volumes, rules),
    copies,
    garbage,
    commits: sandboxCommits({
      ...{ store, live: sandboxes.live, images, workDir: paths.uploads },
      sparseCopy: (source, target) => library.sparseCopy(source, target),
      keptFreeBytes: () => new HostFigures(paths.uploads, options.minFreeDiskBytes).keptFromWhatCanWait(),
    }),
    policies: policyAccess(store, networks),
    metrics: (accept) => metrics.scrape(accept),
    healthChecks,
    doctor: () =>
      daemonChecks({
        drivers,
        store: {
          list: (kind, asked) => store.list(kind, asked),
          checkWritable: () => objects.checkWritable(),
        },
        images,
        networks,
        ...(source === undefined ? {} : { source }),
      }),
    uploadsDir: paths.uploads,
    version: PRODUCT_VERSION,
    logger: log,
  });
  const { socketPath, metricsAddress } = options;
  const listen = (): Promise<void> =>
    server.listen({ socketPath, ...(metricsAddress === undefined ? {} : { metricsAddress }) });
  manager.add(runnable('server', listen, () => server.close()));
  if (source !== undefined)
    manager.add(
      runnable(
        'folder source',
        () => source.start(),
        () => source.stop(),
      ),
    );

  if (options.node !== undefined) {
    addNodeAgent(manager, options.node, { drivers, clock, log, observe: metrics.observeRequest });
    const scraped = { metrics: (accept?: string) => metrics.scrape(accept), healthChecks };
    if (options.node.guardedMetrics !== undefined)
      manager.add(guardedMetrics(options.node.guardedMetrics, options.node, { ...scraped, clock, log }));
    const { subresourcesAddress: address } = options.node;
    if (address !== undefined)
      manager.add(
        agentSubresources({ cluster: options.node, address, listener: server.forCluster, clock, log }),
      );
  }
  const unused = new AbortController();
  if (options.untilUnused === true)
    manager.add(
      untilUnused({
        clock,
        idleMs: () => server.idleMs,
        sandboxes: async () => (await store.list('Sandbox')).items,
        end: () => {
          log.info('nobody needs this daemon any more');
          unused.abort();
        },
      }),
    );

  await manager.run(AbortSignal.any([signal, unused.signal]), () => {
    log.info({ socket: socketPath, manifests: options.manifestsDir }, 'ready');
    void tryDrivers(drivers, signal, log);
  });
}

async function makeStateDir(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    const { message } = error as NodeJS.ErrnoException;
    throw new BulkheadError('STATE_DIR_UNUSABLE', `the state directory ${path} cannot be made: ${message}`, {
      cause: error,
    });
  }
}

/** The SDK is loaded only where somebody wants traces. */
async function openTraces(
  endpoint: URL | undefined,
  node: string,
  log: Logger,
): Promise<StartTraces | undefined> {
  if (endpoint === undefined) return undefined;
  const { openStartTraces } = await import('../tracing/start-traces.ts');
  return openStartTraces({
    endpoint,
    version: PRODUCT_VERSION,
    node,
    onState: (error) => {
      if (error === undefined) log.info('the collector takes traces again');
      else log.warn({ error }, 'the collector takes no traces; those that it misses are dropped');
    },
  });
}

/** Finds out now which driver works, so that the first sandbox does not wait for a trial VM. */
async function tryDrivers(drivers: HostDrivers, signal: AbortSignal, log: Logger): Promise<void> {
  try {
    const { usable, message } = await drivers.probe(signal);
    log[usable ? 'info' : 'warn'](message);
  } catch (error) {
    if (!signal.aborted) log.warn({ error }, 'the drivers could not be tried');
  }
}

async function openDrivers(allowed: AllowedDrivers, stateDir: string, log: Logger): Promise<HostDrivers> {
  const options = (driver: string) => ({
    ...{ stateDir, buildDir: BUILD_DIR },
    onWarning: (message: string) => log.warn({ driver }, message),
  });
  const software = await openSoftwareDriver(options('software'));
  const libkrun = await openLibkrunDriver(options('libkrun'));
  return new HostDrivers({ libkrun, software }, allowed);
}

function runnable(name: string, start: () => Promise<void>, stop: () => Promise<void>): Runnable {
  return { name, start, stop };
}

async function checkStore(store: Store): Promise<void> {
  await store.list('Sandbox', { namespace: 'default', fieldSelector: 'metadata.name=health' });
}
