// A whole world for reconciler tests: a store, a host with VMs, images, a clock that only tests move, and daemon
// processes that come, reconcile, and are killed.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { CopyBundle } from '../../api/copies/bundle.ts';
import type { ObjectManifest, StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox, DefaultedSandboxSpec, SandboxStatus } from '../../api/sandbox.ts';
import { silentLog } from '../../controller/log.ts';
import type { Outcome } from '../../controller/reconciler.ts';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { EmbeddedStore } from '../../store/embedded/embedded-store.ts';
import type { ObjectKey, Store } from '../../store/store.ts';
import type { SandboxReconcilerDeps } from '../sandbox/dependencies.ts';
import { memoryOfVms } from '../sandbox/former-vms.ts';
import { createSandboxReconciler, type SandboxReconciler } from '../sandbox/reconciler.ts';
import { Room } from '../sandbox/room.ts';
import { FakeHostPaths } from './fake-host-paths.ts';
import { FakeImages, FakeImageWorld } from './fake-images.ts';
import { FakeSandboxNetworks } from './fake-network-plane.ts';
import { FakeHost, FakeVmmDriver, fakeConnect } from './fake-vmm.ts';
import { FakeDisks, FakeVolumes } from './fake-volumes.ts';
import { Faults } from './faults.ts';
import { FakeProcess } from './process.ts';

/** Turns of the event loop without anything under way after which nothing will happen by itself. */
const QUIET_TURNS = 10;
/** Far more than any chain of effects takes; a turn is about 10 us. */
const MAX_TURNS = 200_000;
/** Retries of outcomes that ask for back-off. */
const RETRY_MS = 1_000;
/** A test that waits for longer than this, in fake time, waits for nothing. */
const PATIENCE_MS = 3_600_000;

/** Files in memory where the host has them: hundreds of worlds would else wait for the disk at each of their fsyncs. */
const MEMORY_DIR = '/dev/shm';

/** Of the host that the worlds pretend to have. */
export const HOST_MEMORY_BYTES = 64 * 1024 ** 3;

export const IMAGE = 'registry.example/app:1';

export class World {
  readonly clock = new FakeClock();
  readonly faults = new Faults(this.clock);
  readonly host = new FakeHost(this.clock, this.faults);
  readonly images = new FakeImageWorld(this.faults);
  readonly disks = new FakeDisks(this.faults);
  /** Content of copies by digest. */
  readonly copies = new Map<string, CopyBundle>();
  readonly hostPaths = new FakeHostPaths();
  /** Volumes whose usage a guest has told. */
  readonly measured: string[] = [];
  readonly dir = mkdtempSync(join(existsSync(MEMORY_DIR) ? MEMORY_DIR : tmpdir(), 'bulkhead-reconciler-'));
  readonly sandboxesDir = join(this.dir, 'sandboxes');
  readonly store: EmbeddedStore;
  freeMemoryBytes = 2 * HOST_MEMORY_BYTES;
  freeDiskBytes = 2 ** 40;
  /** Status writes by object name. */
  readonly statusWrites = new Map<string, SandboxStatus[]>();
  readonly events: { name: string; reason: string; message: string }[] = [];
  /** Machine steps of all daemons, `from > to`. */
  readonly steps = new Set<string>();
  readonly daemons: Daemon[] = [];

  constructor() {
    mkdirSync(this.sandboxesDir);
    this.store = EmbeddedStore.open({ path: join(this.dir, 'store.db'), now: () => this.clock.now() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const daemon of this.daemons) daemon.process.kill();
    await this.store.close();
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Starts a daemon that takes up everything that is there. */
  async daemon(killAt?: number): Promise<Daemon> {
    const daemon = new Daemon(this, new FakeProcess(killAt));
    this.daemons.push(daemon);
    void daemon.reconciler.start();
    for (const item of (await this.store.list('Sandbox')).items) daemon.wake(keyOf(item));
    await this.settle();
    return daemon;
  }

  async create(
    name: string,
    spec: Partial<DefaultedSandboxSpec> = {},
    metadata: Partial<StoredObject['metadata']> = {},
  ): Promise<DefaultedSandbox> {
    const object = await this.store.create(sandboxManifest(name, spec, metadata));
    this.changed(keyOf(object));
    return object as DefaultedSandbox;
  }

  async patch(name: string, patch: unknown): Promise<void> {
    await this.store.patch(sandboxKey(name), patch);
    this.changed(sandboxKey(name));
  }

  async delete(name: string): Promise<void> {
    await this.store.delete(sandboxKey(name));
    this.changed(sandboxKey(name));
  }

  async get(name: string): Promise<DefaultedSandbox | undefined> {
    return (await this.store.get(sandboxKey(name))) as DefaultedSandbox | undefined;
  }

  async status(name: string): Promise<SandboxStatus> {
    return (await this.get(name))?.status ?? {};
  }

  async condition(name: string, type: string): Promise<string | undefined> {
    const found = (await this.status(name)).conditions?.find((each) => each.type === type);
    return found === undefined ? undefined : `${found.status}/${found.reason}`;
  }

  async dirOf(name: string): Promise<string> {
    return join(this.sandboxesDir, (await this.get(name))?.metadata.uid ?? '');
  }

  /** Tells every living daemon of a change in the store, as its informer would. */
  changed(key: ObjectKey): void {
    for (const daemon of this.daemons) daemon.wake(key);
  }

  /** Directories of sandboxes on the disk. */
  get directories(): string[] {
    return readdirSync(this.sandboxesDir);
  }

  /** Lets everything that is under way come to rest; no time passes. */
  async settle(): Promise<void> {
    let turns = 0;
    for (let quiet = 0; quiet < QUIET_TURNS; ) {
      turns += 1;
      if (turns > MAX_TURNS) throw new Error('never comes to rest: something wakes itself again and again');
      await new Promise((resolve) => setImmediate(resolve));
      const working =
        this.daemons.some((daemon) => daemon.busy) ||
        process.getActiveResourcesInfo().some((kind) => kind.startsWith('FSReq') || kind === 'CloseReq');
      quiet = working ? 0 : quiet + 1;
    }
  }

  /** Lets time pass, timer by timer, with everything that follows from each. */
  async advance(ms: number): Promise<void> {
    const end = this.clock.monotonic() + ms;
    await this.settle();
    for (;;) {
      const [next] = this.clock.pending;
      const left = end - this.clock.monotonic();
      if (next === undefined || next > left) break;
      await this.clock.advance(next);
      await this.settle();
    }
    await this.clock.advance(end - this.clock.monotonic());
    await this.settle();
  }

  /** Lets time pass until something holds. Fails when nothing is left that could bring it about. */
  async until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
    const start = this.clock.monotonic();
    await this.settle();
    while (!(await holds())) {
      const [next] = this.clock.pending;
      if (next === undefined || this.clock.monotonic() + next - start > PATIENCE_MS) {
        throw new Error(`never happened: ${what}`);
      }
      await this.clock.advance(next);
      await this.settle();
    }
  }

  untilPhase(name: string, phase: SandboxStatus['phase']): Promise<void> {
    return this.until(`${name} is ${phase}`, async () => (await this.status(name)).phase === phase);
  }

  untilGone(name: string): Promise<void> {
    return this.until(`${name} is gone`, async () => (await this.get(name)) === undefined);
  }
}

/** One daemon process: the reconciler, and a controller's loop around it. */
export class Daemon {
  readonly process: FakeProcess;
  readonly volumes: FakeVolumes;
  readonly networks = new FakeSandboxNetworks();
  readonly reconciler: SandboxReconciler;
  readonly outcomes: Outcome[] = [];
  readonly #world: World;
  readonly #queue = new Map<string, ObjectKey>();
  readonly #active = new Set<string>();
  readonly #timers = new Map<string, { at: number; cancel: () => void }>();

  constructor(world: World, process: FakeProcess) {
    this.#world = world;
    this.process = process;
    this.volumes = new FakeVolumes(world.disks, process);
    this.reconciler = createSandboxReconciler(this.#deps());
  }

  get busy(): boolean {
    return !this.process.dead && (this.#queue.size > 0 || this.#active.size > 0);
  }

  wake(key: ObjectKey): void {
    if (this.process.dead) return;
    this.#queue.set(idOf(key), key);
    setImmediate(() => this.#work());
  }

  #work(): void {
    for (const [id, key] of this.#queue) {
      if (this.#active.has(id) || this.process.dead) continue;
      this.#queue.delete(id);
      this.#active.add(id);
      void this.#reconcile(key).finally(() => {
        this.#active.delete(id);
        if (this.#queue.has(id)) setImmediate(() => this.#work());
      });
    }
  }

  async #reconcile(key: ObjectKey): Promise<void> {
    const { signal } = new AbortController();
    const outcome = await Promise.race([
      this.reconciler.reconcile(key, signal).catch(
        (error: unknown): Outcome => ({
          type: 'transient',
          error: error instanceof Error ? error : new Error(String(error)),
        }),
      ),
      this.process.death,
    ]);
    if (outcome === undefined || this.process.dead) return;
    this.outcomes.push(outcome);
    if (outcome.type === 'requeue') this.#wakeAfter(key, outcome.afterMs);
    if (outcome.type === 'transient') this.#wakeAfter(key, RETRY_MS);
  }

  #wakeAfter(key: ObjectKey, ms: number): void {
    const id = idOf(key);
    const at = this.#world.clock.monotonic() + ms;
    const former = this.#timers.get(id);
    if (former !== undefined && former.at <= at) return;
    former?.cancel();
    const cancel = this.#world.clock.after(ms, () => {
      this.#timers.delete(id);
      this.wake(key);
    });
    this.#timers.set(id, { at, cancel });
  }

  #deps(): SandboxReconcilerDeps {
    const { clock, host, images, sandboxesDir, steps, events } = this.#world;
    const driver = new FakeVmmDriver(host, this.process);
    return {
      store: this.#store(),
      images: new FakeImages(images, this.process),
      volumes: this.volumes,
      hostPaths: this.#world.hostPaths,
      copies: { read: (digest) => Promise.resolve(this.#world.copies.get(digest)) },
      volumeMeasured: ({ name }) => this.#world.measured.push(name),
      drivers: {
        all: [driver],
        select: () =>
          this.process.call('drivers.select', async () => {
            await host.faults.pass('select');
            return { driver, reason: 'it is the only one' };
          }),
      },
      connectGuest: fakeConnect(host, this.process),
      networks: this.networks,
      enqueuer: {
        enqueue: (key) => this.wake(key),
        enqueueAfter: (key, ms) => this.#wakeAfter(key, ms),
      },
      recorder: {
        event: (object, _type, reason, message) => {
          if (!this.process.dead) events.push({ name: object.metadata.name, reason, message });
        },
      },
      metrics: { started: () => {}, startFailed: () => {}, terminated: () => {}, orphans: () => {} },
      log: silentLog,
      clock,
      sandboxesDir,
      hostMemoryBytes: HOST_MEMORY_BYTES,
      room: new Room({
        host: {
          memory: () =>
            Promise.resolve({ totalBytes: HOST_MEMORY_BYTES, availableBytes: this.#world.freeMemoryBytes }),
          disk: () => Promise.resolve({ availableBytes: this.#world.freeDiskBytes, keptBytes: 2 ** 30 }),
        },
        memoryOvercommit: 1,
        formerly: async () => memoryOfVms((await this.#world.store.list('Sandbox')).items),
      }),
      nodeName: 'node-a',
      random: () => 0.5,
      onStep: (from, to) => {
        for (const state of to.states) steps.add(`${from} > ${state}`);
      },
    };
  }

  /** The world's store as this process reaches it: its writes come back as changes, and kills fall between its calls. */
  #store(): Store {
    const world = this.#world;
    const call = <T>(name: string, work: () => Promise<T>): Promise<T> =>
      this.process.call(`store.${name}`, async () => {
        await world.faults.pass(`store.${name}`);
        return work();
      });
    const writing = async (key: ObjectKey, write: Promise<StoredObject>): Promise<StoredObject> => {
      const object = await write;
      world.changed(key);
      return object;
    };
    const { store } = world;
    return {
      get: (key) => call('get', () => store.get(key)),
      list: (kind, options) => call('list', () => store.list(kind, options)),
      watch: (kind, options) => store.watch(kind, options),
      create: (manifest) => call('create', () => store.create(manifest)),
      update: (manifest) => call('update', () => store.update(manifest)),
      patch: (key, patch) => call('patch', () => writing(key, store.patch(key, patch))),
      updateStatus: (key, status, version) =>
        call('updateStatus', async () => {
          const object = await writing(key, store.updateStatus(key, status, version));
          const writes = world.statusWrites.get(key.name) ?? [];
          writes.push(status as SandboxStatus);
          world.statusWrites.set(key.name, writes);
          return object;
        }),
      delete: (key, preconditions) => call('delete', () => writing(key, store.delete(key, preconditions))),
      recordEvent: (event) => store.recordEvent(event),
      listEvents: (options) => store.listEvents(options),
      watchEvents: (signal) => store.watchEvents(signal),
      close: async () => {},
    };
  }
}

export function sandboxKey(name: string): ObjectKey {
  return { kind: 'Sandbox', namespace: 'default', name };
}

/** A Sandbox as it comes out of defaulting. */
export function sandboxManifest(
  name: string,
  spec: Partial<DefaultedSandboxSpec> = {},
  metadata: Partial<StoredObject['metadata']> = {},
): ObjectManifest<DefaultedSandboxSpec> {
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name, namespace: 'default', ...metadata },
    spec: {
      image: IMAGE,
      imagePullPolicy: 'IfNotPresent',
      operatingMode: 'Running',
      driver: 'Auto',
      resources: { cpus: 1, memory: '256Mi', disk: '1Gi' },
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 10,
      updateStrategy: 'Refuse',
      ...spec,
    },
  };
}

function keyOf({ kind, metadata }: StoredObject): ObjectKey {
  return { kind, namespace: metadata.namespace, name: metadata.name };
}

function idOf({ namespace, name }: ObjectKey): string {
  return `${namespace}/${name}`;
}
