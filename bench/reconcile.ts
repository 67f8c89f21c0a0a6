// How fast the Sandbox reconciler takes up, resyncs and deletes 10,000 sandboxes on fake VMs, and what memory it takes.
// Run: node --expose-gc bench/reconcile.ts [count]
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ObjectManifest, StoredObject } from '../src/api/meta.ts';
import { systemClock } from '../src/controller/clock.ts';
import { silentLog } from '../src/controller/log.ts';
import { createSandboxReconciler } from '../src/reconcilers/sandbox/reconciler.ts';
import { FakeImages, FakeImageWorld } from '../src/reconcilers/testing/fake-images.ts';
import { FakeHost, FakeVmmDriver, fakeConnect } from '../src/reconcilers/testing/fake-vmm.ts';
import { Faults } from '../src/reconcilers/testing/faults.ts';
import { FakeProcess } from '../src/reconcilers/testing/process.ts';
import { IMAGE, sandboxManifest } from '../src/reconcilers/testing/world.ts';
import type { ObjectKey, Store } from '../src/store/store.ts';

const count = Number(process.argv[2] ?? 10_000);
/** Reconciles at once, as the controller does. */
const WORKERS = 8;
const RESYNCS = 5;

/** Objects in memory: what is measured is the reconciler, not a database. */
class MemoryStore implements Pick<Store, 'get' | 'list' | 'patch' | 'updateStatus'> {
  readonly objects = new Map<string, StoredObject>();
  #version = 0;

  add(manifest: ObjectManifest): ObjectKey {
    const { name } = manifest.metadata;
    this.#version += 1;
    const uid = `00000000-0000-4000-8000-${String(this.#version).padStart(12, '0')}`;
    this.#put({
      apiVersion: manifest.apiVersion,
      kind: manifest.kind,
      metadata: {
        name,
        namespace: 'default',
        uid,
        resourceVersion: String(this.#version),
        generation: 1,
        creationTimestamp: new Date().toISOString(),
      },
      spec: manifest.spec,
    });
    return { kind: 'Sandbox', namespace: 'default', name };
  }

  async get(key: ObjectKey): Promise<StoredObject | undefined> {
    return this.objects.get(key.name);
  }

  async list() {
    return { items: [...this.objects.values()], resourceVersion: String(this.#version) };
  }

  async patch(key: ObjectKey, patch: unknown): Promise<StoredObject> {
    const object = this.#known(key);
    const { metadata } = patch as { metadata: Partial<StoredObject['metadata']> };
    return this.#put({ ...object, metadata: { ...object.metadata, ...metadata } });
  }

  async updateStatus(key: ObjectKey, status: unknown): Promise<StoredObject> {
    return this.#put({ ...this.#known(key), status });
  }

  #known(key: ObjectKey): StoredObject {
    const object = this.objects.get(key.name);
    if (object === undefined) throw new Error(`there is no ${key.name}`);
    return object;
  }

  #put(object: StoredObject): StoredObject {
    this.#version += 1;
    const next = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#version) } };
    this.objects.set(object.metadata.name, next);
    return next;
  }
}

const dir = mkdtempSync(join(tmpdir(), 'bulkhead-bench-'));
try {
  await run(join(dir, 'sandboxes'));
} finally {
  rmSync(dir, { recursive: true, force: true });
}

async function run(sandboxesDir: string): Promise<void> {
  mkdirSync(sandboxesDir);
  const faults = new Faults(systemClock);
  const host = new FakeHost(systemClock, faults);
  // Without a record of its moments: that would be the bench's own memory.
  const fake = new FakeProcess(undefined, 0);
  const world = new FakeImageWorld(faults);
  world.add(IMAGE);
  const store = new MemoryStore();
  const driver = new FakeVmmDriver(host, fake);
  const pending = new Set<string>();
  const keyOf = (name: string): ObjectKey => ({ kind: 'Sandbox', namespace: 'default', name });
  const reconciler = createSandboxReconciler({
    store: store as unknown as Store,
    images: new FakeImages(world, fake),
    drivers: { all: [driver], select: async () => ({ driver, reason: 'it is a bench' }) },
    connectGuest: fakeConnect(host, fake),
    enqueuer: { enqueue: ({ name }) => pending.add(name), enqueueAfter: () => {} },
    recorder: { event: () => {} },
    metrics: { started: () => {}, startFailed: () => {}, terminated: () => {} },
    log: silentLog,
    clock: systemClock,
    sandboxesDir,
    nodeName: 'bench',
    random: Math.random,
  });
  const { signal } = new AbortController();
  const reconcileAll = async (names: readonly string[]): Promise<void> => {
    const queue = names.values();
    const worker = async (): Promise<void> => {
      for (const name of queue) await reconciler.reconcile(keyOf(name), signal);
    };
    await Promise.all(Array.from({ length: WORKERS }, worker));
  };

  const names: string[] = [];
  for (let index = 0; index < count; index += 1) names.push(store.add(sandboxManifest(`s${index}`)).name);
  const before = process.memoryUsage.rss();
  const launched = performance.now();
  await reconcileAll(names);
  const isReady = (): boolean => host.running.length === count && pending.size === 0;
  for (let quiet = 0; quiet < 3; ) {
    const woken = [...pending];
    pending.clear();
    await reconcileAll(woken);
    await new Promise((resolve) => setTimeout(resolve, 5));
    quiet = isReady() ? quiet + 1 : 0;
  }
  const launchMs = performance.now() - launched;

  const times: number[] = [];
  for (let round = 0; round < RESYNCS; round += 1) {
    const began = performance.now();
    await reconcileAll(names);
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  const [min = 0, , median = 0] = times;
  const max = times.at(-1) ?? 0;
  globalThis.gc?.();
  const rss = process.memoryUsage.rss();
  // An ordinary collection keeps half-empty pages for the next burst; this one shows what is really held.
  globalThis.gc?.({ type: 'major', flavor: 'last-resort', execution: 'sync' });
  const heap = process.memoryUsage().heapUsed;
  const figures = {
    sandboxes: count,
    launchSeconds: launchMs / 1_000,
    resyncSeconds: { min: min / 1_000, median: median / 1_000, max: max / 1_000, n: RESYNCS },
    keysPerSecond: Math.round(count / (median / 1_000)),
    heapHeldMiB: Math.round(heap / 2 ** 20),
    rssMiB: Math.round(rss / 2 ** 20),
    rssHeldMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
    rssBeforeMiB: Math.round(before / 2 ** 20),
  };
  console.log(JSON.stringify(figures, undefined, 2));
  await reconciler.close();
}
