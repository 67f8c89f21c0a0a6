// A world for tests of the Volume reconciler: a store, disks, a clock that only tests move, and daemon processes that
// come, reconcile, and are killed.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DefaultedVolume, VolumeStatus } from '../../api/volume.ts';
import { Controller, ignoreStatusChanges } from '../../controller/controller.ts';
import { Informer } from '../../controller/informer.ts';
import { silentLog } from '../../controller/log.ts';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { EmbeddedStore } from '../../store/embedded/embedded-store.ts';
import type { Store } from '../../store/store.ts';
import type { VolumeUsage } from '../../volumes/volumes.ts';
import type { AttachedDisks } from '../volume/dependencies.ts';
import { createVolumeReconciler, type VolumeReconciler } from '../volume/reconciler.ts';
import { FakeDisks, FakeVolumes } from './fake-volumes.ts';
import { Faults } from './faults.ts';
import { FakeProcess } from './process.ts';

/** Files in memory where the host has them. */
const MEMORY_DIR = '/dev/shm';
/** Turns of the event loop without a change after which nothing will happen by itself. */
const QUIET_TURNS = 30;
const MAX_TURNS = 100_000;
/** A test that waits for longer than this, in fake time, waits for nothing. */
const PATIENCE_MS = 3_600_000;

export class VolumeWorld {
  readonly clock = new FakeClock();
  readonly faults = new Faults(this.clock);
  readonly disks = new FakeDisks(this.faults);
  readonly dir = mkdtempSync(join(existsSync(MEMORY_DIR) ? MEMORY_DIR : tmpdir(), 'bulkhead-volumes-'));
  readonly store: EmbeddedStore;
  readonly events: string[] = [];
  readonly metrics: string[] = [];
  /** Disks in VMs, by uid: what their guests tell, and whether they grow there. */
  readonly live = new Map<string, { usage?: VolumeUsage; grows: boolean }>();
  readonly attached: AttachedDisks = {
    usage: (uid) => this.live.get(uid)?.usage,
    canGrow: (uid) => this.live.get(uid)?.grows ?? false,
    grow: async (uid, _sandbox, sizeBytes) => {
      const disk = this.disks.disks.get(uid);
      if (disk === undefined || !this.live.get(uid)?.grows) throw new Error('no VM grows it');
      disk.sizeBytes = sizeBytes;
      disk.fileSystemBytes = sizeBytes;
    },
  };
  /** Sandboxes of which the host still has something. */
  readonly sandboxesOnHost = new Set<string>();
  readonly daemons: VolumeDaemon[] = [];
  statusWrites = 0;

  constructor() {
    this.store = EmbeddedStore.open({ path: join(this.dir, 'store.db'), now: () => this.clock.now() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const daemon of this.daemons) await daemon.end();
    await this.store.close();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async daemon(killAt?: number): Promise<VolumeDaemon> {
    const daemon = new VolumeDaemon(this, new FakeProcess(killAt));
    this.daemons.push(daemon);
    await daemon.start();
    await this.settle();
    return daemon;
  }

  async create(spec: Partial<DefaultedVolume['spec']> = {}, name = 'data'): Promise<DefaultedVolume> {
    const object = await this.store.create({
      apiVersion: 'bulkhead.dev/v1alpha1',
      kind: 'Volume',
      metadata: { name, namespace: 'default' },
      spec: { capacity: '64Mi', accessMode: 'ReadWriteOnce', reclaimPolicy: 'Retain', ...spec },
    });
    await this.settle();
    return object as DefaultedVolume;
  }

  async patch(patch: unknown, name = 'data'): Promise<void> {
    await this.store.patch(key(name), patch);
    await this.settle();
  }

  async delete(name = 'data'): Promise<void> {
    await this.store.delete(key(name));
    await this.settle();
  }

  async get(name = 'data'): Promise<DefaultedVolume | undefined> {
    return (await this.store.get(key(name))) as DefaultedVolume | undefined;
  }

  async status(name = 'data'): Promise<VolumeStatus> {
    return (await this.get(name))?.status ?? {};
  }

  /** `Status/Reason` of a condition; `undefined` where there is none. */
  async condition(type: string, name = 'data'): Promise<string | undefined> {
    const found = (await this.status(name)).conditions?.find((each) => each.type === type);
    return found === undefined ? undefined : `${found.status}/${found.reason}`;
  }

  /** Lets everything that is under way come to rest; no time passes. */
  async settle(): Promise<void> {
    let turns = 0;
    let former = '';
    for (let quiet = 0; quiet < QUIET_TURNS; quiet += 1) {
      turns += 1;
      if (turns > MAX_TURNS) throw new Error('never comes to rest');
      await new Promise((resolve) => setImmediate(resolve));
      const now = this.daemons.map(({ process, calls }) => `${process.moments.length} ${calls}`).join();
      if (now !== former) quiet = 0;
      former = now;
    }
  }

  /** Lets time pass until something holds. Fails when nothing is left that could bring it about. */
  async until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
    const start = this.clock.monotonic();
    await this.settle();
    while (!(await holds())) {
      const [next] = this.clock.pending;
      if (next === undefined || this.clock.monotonic() + next - start > PATIENCE_MS)
        throw new Error(`never happened: ${what}; ${JSON.stringify(await this.status())}`);
      await this.clock.advance(next);
      await this.settle();
    }
  }

  untilReady(name = 'data'): Promise<void> {
    return this.until(`${name} is ready`, async () => (await this.condition('Ready', name)) === 'True/Ready');
  }

  untilGone(name = 'data'): Promise<void> {
    return this.until(`${name} is gone`, async () => (await this.get(name)) === undefined);
  }
}

/** One daemon process: the reconciler in a real controller. */
export class VolumeDaemon {
  readonly process: FakeProcess;
  readonly volumes: FakeVolumes;
  readonly reconciler: VolumeReconciler;
  calls = 0;
  readonly #world: VolumeWorld;
  readonly #informer: Informer;
  readonly #controller: Controller;

  constructor(world: VolumeWorld, process: FakeProcess) {
    this.#world = world;
    this.process = process;
    this.volumes = new FakeVolumes(world.disks, process);
    this.reconciler = createVolumeReconciler({
      store: this.#store(),
      volumes: this.volumes,
      enqueuer: {
        enqueue: (request) => {
          if (!process.dead) this.#controller.enqueue(request);
        },
        enqueueAfter: (request, ms) => this.#controller.enqueueAfter(request, ms),
      },
      recorder: {
        event: (_object, _type, reason) => {
          if (!process.dead) world.events.push(reason);
        },
      },
      metrics: {
        checked: (result) => void world.metrics.push(result),
        quotaExceeded: () => void world.metrics.push('QuotaExceeded'),
      },
      log: silentLog,
      clock: world.clock,
      attached: world.attached,
      holdsSandbox: async (uid) => world.sandboxesOnHost.has(uid),
      random: () => 0.5,
    });
    this.#informer = new Informer({ store: world.store, kind: 'Volume', clock: world.clock, log: silentLog });
    this.#controller = new Controller({ reconciler: this.reconciler, clock: world.clock, log: silentLog });
    this.#controller.watch(this.#informer, { matters: ignoreStatusChanges });
  }

  async start(): Promise<void> {
    await this.#informer.start();
    await this.#controller.start();
    void this.reconciler.start();
  }

  /** What the kernel does with a killed process: nothing of it goes on. */
  async end(): Promise<void> {
    this.process.kill();
    await this.#informer.stop();
  }

  /** The world's store as this process reaches it: kills fall between its calls. */
  #store(): Store {
    const { store, faults } = this.#world;
    const call = <T>(name: string, work: () => Promise<T>): Promise<T> =>
      this.process.call(`store.${name}`, async () => {
        this.calls += 1;
        await faults.pass(`store.${name}`);
        return work();
      });
    return {
      get: (each) => call('get', () => store.get(each)),
      list: (kind, options) => call('list', () => store.list(kind, options)),
      watch: (kind, options) => store.watch(kind, options),
      create: (manifest) => call('create', () => store.create(manifest)),
      update: (manifest) => call('update', () => store.update(manifest)),
      patch: (each, patch) => call('patch', () => store.patch(each, patch)),
      updateStatus: (each, status, version) => {
        this.#world.statusWrites += 1;
        return call('updateStatus', () => store.updateStatus(each, status, version));
      },
      delete: (each, preconditions) => call('delete', () => store.delete(each, preconditions)),
      recordEvent: (event) => store.recordEvent(event),
      listEvents: (options) => store.listEvents(options),
      watchEvents: (signal) => store.watchEvents(signal),
      close: async () => {},
    };
  }
}

function key(name: string) {
  return { kind: 'Volume', namespace: 'default', name };
}
