// The agent of a node on fake VMs, as a process of its own: store, informers, controllers and reconcilers are those of `bulkhead node`;
// VMs, guests, images, disks and networks are fakes. Each start and end of a VM is a line on standard output, with the machine's
// monotonic time, by which VMs of several nodes are told to have run at once. The line `figures` on standard input is answered.
//   fake-node.ts NODE KUBECONFIG DIR [SKEW-MS]
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const [nodeName = '', kubeconfig = '', dir = '', skew = '0'] = process.argv.slice(2);
/** This machine's clock is off by so much, for whoever asks it. */
skewClock(Number(skew));

function skewClock(ms: number): void {
  if (ms === 0) return;
  const Right = Date;
  globalThis.Date = class extends Right {
    constructor(...given: [] | [number | string | Date]) {
      if (given.length === 0) super(Right.now() + ms);
      else super(given[0]);
    }
    static override now(): number {
      return Right.now() + ms;
    }
  } as DateConstructor;
}

const { systemClock } = await import('../../src/controller/clock.ts');
const { EventRecorder } = await import('../../src/controller/event-recorder.ts');
const { Manager } = await import('../../src/controller/manager.ts');
const { addControllers } = await import('../../src/daemon/controllers.ts');
const { DeferredEnqueuer } = await import('../../src/daemon/deferred-enqueuer.ts');
const { IdleMemory, processHeap } = await import('../../src/daemon/idle-memory.ts');
const { DaemonMetrics } = await import('../../src/daemon/metrics.ts');
const { addNodeAgent, openNodeStore } = await import('../../src/daemon/node.ts');
const { Starts } = await import('../../src/daemon/starts.ts');
const { LeaseReconciler } = await import('../../src/reconcilers/lease/reconciler.ts');
const { createSandboxReconciler } = await import('../../src/reconcilers/sandbox/reconciler.ts');
const { Room } = await import('../../src/reconcilers/sandbox/room.ts');
const { FakeHostPaths } = await import('../../src/reconcilers/testing/fake-host-paths.ts');
const { FakeImages, FakeImageWorld } = await import('../../src/reconcilers/testing/fake-images.ts');
const { HostNetworks } = await import('../../src/network/host-networks.ts');
const { FakeHost, FakeVmmDriver, fakeConnect } = await import('../../src/reconcilers/testing/fake-vmm.ts');
const { FakeDisks, FakeVolumes } = await import('../../src/reconcilers/testing/fake-volumes.ts');
const { Faults } = await import('../../src/reconcilers/testing/faults.ts');
const { FakeProcess } = await import('../../src/reconcilers/testing/process.ts');
const { createVolumeReconciler } = await import('../../src/reconcilers/volume/reconciler.ts');
const { IMAGE } = await import('../../src/reconcilers/testing/world.ts');
const { pino } = await import('pino');
const { SYSTEM } = await import('./control-plane.ts');

const log = pino({ level: process.env.LOG_LEVEL ?? 'warn' }, pino.destination(2));
const clock = systemClock;
const sandboxesDir = join(dir, 'sandboxes');
mkdirSync(sandboxesDir, { recursive: true });

const faults = new Faults(clock);
const host = new FakeHost(clock, faults);
host.networked = true;
host.onChange = (change, { id }) =>
  tell({ [change]: id, at: Number(process.hrtime.bigint() / 1_000n) / 1_000 });
// Without a record of its moments: that would be the test's own memory.
const fake = new FakeProcess(undefined, 0);
const world = new FakeImageWorld(faults);
world.add(IMAGE);
const driver = new FakeVmmDriver(host, fake);
const drivers = { all: [driver], select: async () => ({ driver, reason: 'it is the only one' }) };
const images = new FakeImages(world, fake);
const volumes = new FakeVolumes(new FakeDisks(faults), fake);
const counted = { decisions: {}, egressBytes: 0, ingressBytes: 0, connections: 0 };
const networks = new HostNetworks({
  connect: async () => ({
    attach: async (_uid, _holder, { policy, ports }) => ({
      hash: policy.hash,
      ports: ports.map(({ name, hostIP, hostPort = 40_000 }) => ({ name, hostIP, hostPort })),
    }),
    detach: async () => undefined,
    log: async () => [],
    uses: async () => [],
    refusals: async () => [],
    counters: async () => ({ total: counted, sandboxes: {} }),
    closed: new Promise<void>(() => {}),
    close: () => {},
  }),
  dial: async () => {
    throw new Error('nothing listens');
  },
  authority: async () => ({ certificate: '', key: '' }),
  clock,
  onProblem: (error) => log.warn({ error }, 'no gateway'),
  onRefusals: () => {},
  onUses: () => {},
});

let requests = 0;
const node = { kubeconfig, nodeName, namespace: SYSTEM };
const observe = (): void => {
  requests += 1;
};
const store = await openNodeStore(node, observe);
const metrics = new DaemonMetrics(nodeName);
const recorder = new EventRecorder(store, clock, log);
const deferred = new DeferredEnqueuer();
const deferredVolumes = new DeferredEnqueuer();
const deferredLeases = new DeferredEnqueuer();
const sandboxes = createSandboxReconciler({
  ...{ store, images, volumes, drivers, networks, recorder, log, clock, sandboxesDir, nodeName },
  hostPaths: new FakeHostPaths(),
  copies: { read: () => Promise.resolve(undefined) },
  volumeMeasured: (volume) => deferredVolumes.enqueue(volume),
  connectGuest: fakeConnect(host, fake),
  enqueuer: deferred,
  metrics: new Starts(metrics.lifecycle, undefined, () => clock.now()),
  room: new Room({
    host: {
      memory: async () => ({ totalBytes: 2 ** 50, availableBytes: 2 ** 50 }),
      disk: async () => ({ availableBytes: 2 ** 50, keptBytes: 0 }),
    },
    memoryOvercommit: 1,
    formerly: async () => new Map(),
  }),
  hostMemoryBytes: 2 ** 50,
  random: Math.random,
});
const manager = new Manager({ clock, log });
const heap = processHeap();
if (heap !== undefined) manager.add(new IdleMemory(heap, clock));
addControllers({
  ...{ manager, store, clock, log, metrics, sandboxes, deferred, deferredLeases, deferredVolumes, networks },
  leases: new LeaseReconciler({ store, clock, enqueuer: deferredLeases }),
  volumeReconciler: createVolumeReconciler({
    ...{ store, volumes, attached: sandboxes.disks, enqueuer: deferredVolumes, recorder, log, clock },
    ...{ metrics: metrics.volumes, holdsSandbox: async () => false, random: Math.random },
  }),
});
manager.add({ name: 'networks', start: () => networks.start(), stop: () => networks.stop() });
manager.add({ name: 'sandboxes', start: () => sandboxes.start(), stop: () => sandboxes.close() });
addNodeAgent(manager, node, { drivers, clock, log, observe });

createInterface({ input: process.stdin }).on('line', () => {
  const rss = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;
  tell({ figures: { requests, residentMiB: rss, running: host.running.length, now: Date.now() } });
});

function tell(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const stop = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
await manager.run(stop.signal, () => tell({ ready: nodeName }));
process.exit(0);
