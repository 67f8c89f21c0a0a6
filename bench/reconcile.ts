// Launches, resyncs and rests with 10,000 sandboxes on fake VMs: how fast, and what memory the daemon's parts take. Store,
// informer, queue, event recorder, metrics and reconciler are the daemon's own; VMs, guests and images are fakes in this
// same process. Usage: node --expose-gc bench/reconcile.ts [COUNT] [--json].

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isConditionTrue } from '../src/api/conditions.ts';
import type { DefaultedSandbox } from '../src/api/sandbox.ts';
import { systemClock } from '../src/controller/clock.ts';
import { Controller, ignoreStatusChanges } from '../src/controller/controller.ts';
import { EventRecorder } from '../src/controller/event-recorder.ts';
import { Informer } from '../src/controller/informer.ts';
import { silentLog } from '../src/controller/log.ts';
import type { Outcome, Reconciler, Request } from '../src/controller/reconciler.ts';
import { IdleMemory, processHeap } from '../src/daemon/idle-memory.ts';
import { DaemonMetrics } from '../src/daemon/metrics.ts';
import { Starts } from '../src/daemon/starts.ts';
import { createSandboxReconciler, type SandboxReconciler } from '../src/reconcilers/sandbox/reconciler.ts';
import { Room } from '../src/reconcilers/sandbox/room.ts';
import { FakeHostPaths } from '../src/reconcilers/testing/fake-host-paths.ts';
import { FakeImages, FakeImageWorld } from '../src/reconcilers/testing/fake-images.ts';
import { FakeSandboxNetworks } from '../src/reconcilers/testing/fake-network-plane.ts';
import { FakeHost, FakeVmmDriver, fakeConnect } from '../src/reconcilers/testing/fake-vmm.ts';
import { FakeDisks, FakeVolumes } from '../src/reconcilers/testing/fake-volumes.ts';
import { Faults } from '../src/reconcilers/testing/faults.ts';
import { FakeProcess } from '../src/reconcilers/testing/process.ts';
import { IMAGE, sandboxManifest } from '../src/reconcilers/testing/world.ts';
import { EmbeddedStore } from '../src/store/embedded/embedded-store.ts';
import { countArgument, Report } from './report.ts';

const COUNT = countArgument(10_000);
const RESYNCS = 5;
/** What the project wants to reach. */
const AIM = { resyncSeconds: { max: 2 }, residentMiB: { max: 300 } };
/** Long enough for what a start leaves behind to be collected; as the daemon's bench waits. */
const IDLE_MS = 30_000;
const SAMPLES = 5;
const SAMPLE_INTERVAL_MS = 1_000;
const POLL_MS = 200;
/** Creates that are sent at once. */
const CREATES = 100;

/** Passes every call on and counts those that ended. */
class Counting implements Reconciler {
  readonly name = 'bench';
  readonly kind: string;
  readonly #reconciler: SandboxReconciler;
  #left = 0;
  #ended: () => void = () => {};

  constructor(reconciler: SandboxReconciler) {
    this.kind = reconciler.kind;
    this.#reconciler = reconciler;
  }

  /** Resolves after so many reconciles. */
  next(count: number): Promise<void> {
    this.#left = count;
    return new Promise((resolve) => {
      this.#ended = resolve;
    });
  }

  async reconcile(request: Request, signal: AbortSignal): Promise<Outcome> {
    const outcome = await this.#reconciler.reconcile(request, signal);
    this.#left -= 1;
    if (this.#left === 0) this.#ended();
    return outcome;
  }
}

/** Kibibyte fields of /proc/self/status, in MiB: `VmRSS` now, `VmHWM` at its highest. */
function memory(field: 'VmRSS' | 'VmHWM'): number {
  const text = readFileSync('/proc/self/status', 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024;
}

async function sampleIdle(): Promise<number[]> {
  await sleep(IDLE_MS);
  const samples: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    samples.push(memory('VmRSS'));
    await sleep(SAMPLE_INTERVAL_MS);
  }
  return samples;
}

async function run(dir: string): Promise<void> {
  const sandboxesDir = join(dir, 'sandboxes');
  mkdirSync(sandboxesDir);
  const clock = systemClock;
  const faults = new Faults(clock);
  const host = new FakeHost(clock, faults);
  // Without a record of its moments: that would be the bench's own memory.
  const fake = new FakeProcess(undefined, 0);
  const world = new FakeImageWorld(faults);
  world.add(IMAGE);
  const driver = new FakeVmmDriver(host, fake);
  const images = new FakeImages(world, fake);
  const store = EmbeddedStore.open({ path: join(dir, 'store.db') });
  const metrics = new DaemonMetrics('bench');
  const recorder = new EventRecorder(store, clock, silentLog);
  const sandboxes = createSandboxReconciler({
    store,
    images,
    volumes: new FakeVolumes(new FakeDisks(faults), fake),
    room: new Room({
      host: {
        memory: async () => ({ totalBytes: 2 ** 50, availableBytes: 2 ** 50 }),
        disk: async () => ({ availableBytes: 2 ** 50, keptBytes: 0 }),
      },
      memoryOvercommit: 1,
      formerly: async () => new Map(),
    }),
    hostPaths: new FakeHostPaths(),
    copies: { read: () => Promise.resolve(undefined) },
    volumeMeasured: () => {},
    drivers: { all: [driver], select: async () => ({ driver, reason: 'it is a bench' }) },
    connectGuest: fakeConnect(host, fake),
    networks: new FakeSandboxNetworks(),
    enqueuer: {
      enqueue: (request) => controller.enqueue(request),
      enqueueAfter: (request, ms) => controller.enqueueAfter(request, ms),
    },
    recorder,
    metrics: new Starts(metrics.lifecycle, undefined, () => systemClock.now()),
    log: silentLog,
    clock,
    sandboxesDir,
    hostMemoryBytes: totalmem(),
    nodeName: 'bench',
    random: Math.random,
  });
  const counting = new Counting(sandboxes);
  const informer = new Informer({ store, kind: 'Sandbox', clock, log: silentLog });
  const controller = new Controller({
    ...{ reconciler: counting, clock, log: silentLog },
    ...metrics.ofController(sandboxes.name),
  });
  controller.watch(informer, { matters: ignoreStatusChanges });
  metrics.observe({
    live: sandboxes.live,
    sandboxes: informer,
    images,
    node: { memoryOvercommit: 2, storage: { state: dir } },
  });

  const report = new Report(`${COUNT} sandboxes on fake VMs`);
  report.series('resident before the first of them', 'MiB', [memory('VmRSS')]);
  await informer.start();
  await controller.start();
  await sandboxes.start();
  // As the daemon does, where the collector can be asked.
  const heap = processHeap();
  const memoryKeeper = heap === undefined ? undefined : new IdleMemory(heap, clock);
  await memoryKeeper?.start();

  const launched = performance.now();
  const names = Array.from({ length: COUNT }, (_, index) => `s${index}`);
  for (let at = 0; at < COUNT; at += CREATES) {
    await Promise.all(names.slice(at, at + CREATES).map((name) => store.create(sandboxManifest(name))));
  }
  const ready = (): boolean =>
    informer.list().every((object) => {
      const { status } = object as DefaultedSandbox;
      return isConditionTrue(status?.conditions, 'Ready');
    });
  while (informer.list().length < COUNT || !ready()) await sleep(POLL_MS);
  report.series('from the first create until all are Ready', 's', [(performance.now() - launched) / 1_000]);
  report.series('resident at its highest until then', 'MiB', [memory('VmHWM')]);
  report.series(`resident after ${IDLE_MS / 1_000} s of rest`, 'MiB', await sampleIdle(), AIM.residentMiB);

  const times: number[] = [];
  for (let round = 0; round < RESYNCS; round += 1) {
    const began = performance.now();
    const all = counting.next(COUNT);
    for (const name of names) controller.enqueue({ kind: 'Sandbox', namespace: 'default', name });
    await all;
    times.push((performance.now() - began) / 1_000);
  }
  report.series('resync of all', 's', times, AIM.resyncSeconds);
  report.series('resident right after the resyncs', 'MiB', [memory('VmRSS')]);
  report.series(
    `resident ${IDLE_MS / 1_000} s after the resyncs`,
    'MiB',
    await sampleIdle(),
    AIM.residentMiB,
  );
  const began = performance.now();
  const { body } = await metrics.scrape();
  report.series('scrape of the metrics', 's', [(performance.now() - began) / 1_000]);
  report.note(`The scrape is ${(body.length / 2 ** 20).toFixed(1)} MiB of text.`);
  report.note('The fakes live in the process that is measured; a real VM is a process of its own.');
  await memoryKeeper?.stop();
  await controller.stop();
  await sandboxes.close();
  await informer.stop();
  await recorder.close();
  await store.close();
  report.print();
}

const dir = mkdtempSync(join(tmpdir(), 'bulkhead-bench-'));
try {
  await run(dir);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
