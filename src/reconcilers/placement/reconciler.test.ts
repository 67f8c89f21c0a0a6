// Placement over a whole life, with a store of its own, and the scheduler and the node's agent played by the test.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { BulkheadError } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox, DefaultedSandboxSpec, SandboxStatus } from '../../api/sandbox.ts';
import type { Volume } from '../../api/volume.ts';
import type { Outcome } from '../../controller/reconciler.ts';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { storedObject } from '../../controller/testing/fake-store.ts';
import { EmbeddedStore } from '../../store/embedded/embedded-store.ts';
import { temporaryDirectory } from '../../store/embedded/testing.ts';
import type { Store } from '../../store/store.ts';
import { sandboxManifest } from '../testing/world.ts';
import type { NodeHealth, Pod } from './observation.ts';
import { PlacementReconciler } from './reconciler.ts';
import { reservationName } from './reservation.ts';

const KEY = { kind: 'Sandbox', namespace: 'default', name: 'agent' };

let dir: Awaited<ReturnType<typeof temporaryDirectory>>;
let world: World;

beforeEach(async () => {
  dir = await temporaryDirectory();
  world = new World(EmbeddedStore.open({ path: `${dir.path}/store.db` }));
});

afterEach(async () => {
  await world.store.close();
  await dir[Symbol.asyncDispose]();
});

function refusing(store: EmbeddedStore, refusal: () => BulkheadError | undefined): Store {
  const create: Store['create'] = async (manifest) => {
    const error = refusal();
    if (error !== undefined) throw error;
    return store.create(manifest);
  };
  return new Proxy<Store>(store, {
    get: (target, name: keyof Store) => (name === 'create' ? create : target[name].bind(target)),
  });
}

class World {
  readonly store: EmbeddedStore;
  readonly events: string[] = [];
  readonly granted: string[] = [];
  readonly health = new Map<string, NodeHealth>();
  readonly clock = new FakeClock();
  #objects: StoredObject[] = [];
  #refusal: BulkheadError | undefined;
  readonly #reconciler: PlacementReconciler;

  constructor(store: EmbeddedStore) {
    this.store = store;
    const cache = (kind: string) => ({
      get: (namespace: string, name: string) =>
        this.#objects.find(
          (each) =>
            each.kind === kind && each.metadata.namespace === namespace && each.metadata.name === name,
        ),
      list: () => this.#objects.filter((each) => each.kind === kind),
    });
    this.#reconciler = new PlacementReconciler(
      {
        ...{ store: refusing(store, () => this.#refusal), clock: this.clock, reservationImage: 'pause' },
        recorder: { event: (_object, _type, reason) => void this.events.push(reason) },
        grantAccess: async (object, nodeName) => {
          this.granted.push(`${nodeName}, placed on ${object.status?.nodeName}`);
        },
      },
      { sandboxes: cache('Sandbox'), pods: cache('Pod'), volumes: cache('Volume') },
      { health: (node) => this.health.get(node) ?? 'Healthy' },
    );
  }

  async sandbox(spec: Partial<DefaultedSandboxSpec> = {}): Promise<void> {
    await this.store.create(sandboxManifest('agent', spec, { labels: { team: 'a' } }));
  }

  /** Steps until nothing changes. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 10; turn += 1) {
      const before = JSON.stringify(await this.refresh());
      await this.#reconciler.reconcile(KEY);
      if (JSON.stringify(await this.refresh()) === before) return;
    }
    assert.fail('placement does not settle');
  }

  /** What the cluster says from now on of each new Pod. */
  refuse(refusal: BulkheadError | undefined): void {
    this.#refusal = refusal;
  }

  reconcile(): Promise<Outcome> {
    return this.#reconciler.reconcile(KEY);
  }

  async refresh(): Promise<StoredObject[]> {
    const lists = await Promise.all(['Sandbox', 'Pod', 'Volume'].map((kind) => this.store.list(kind)));
    this.#objects = lists.flatMap(({ items }) => items);
    return this.#objects;
  }

  async get(): Promise<DefaultedSandbox> {
    const object = await this.store.get(KEY);
    assert.ok(object);
    return object as DefaultedSandbox;
  }

  async status(): Promise<SandboxStatus> {
    return (await this.get()).status ?? {};
  }

  async condition(type: string): Promise<string | undefined> {
    const found = (await this.status()).conditions?.find((each) => each.type === type);
    return found === undefined ? undefined : `${found.status} ${found.reason}`;
  }

  async pods(): Promise<Pod[]> {
    return (await this.store.list('Pod')).items as Pod[];
  }

  async pod(): Promise<Pod> {
    const [pod, ...others] = await this.pods();
    assert.ok(pod);
    assert.deepEqual(others, []);
    return pod;
  }

  /** What the scheduler does. */
  async schedule(nodeName: string): Promise<void> {
    const { metadata } = await this.pod();
    await this.store.patch(
      { kind: 'Pod', namespace: 'default', name: metadata.name },
      { spec: { nodeName } },
    );
    await this.settle();
  }

  /** What the node's agent does first, and says once the guest is up. */
  async nodeStarts(): Promise<void> {
    await this.store.patch(KEY, { metadata: { finalizers: ['bulkhead.dev/vm'] } });
    const { metadata, status } = await this.get();
    await this.store.updateStatus(KEY, {
      ...status,
      phase: 'Running',
      observedGeneration: metadata.generation,
    });
    await this.settle();
  }

  /** What the node's agent does last. */
  async nodeLetsGo(): Promise<void> {
    await this.store.patch(KEY, { metadata: { finalizers: [] } });
    await this.settle();
  }

  async deletePod(): Promise<void> {
    const { metadata } = await this.pod();
    await this.store.delete({ kind: 'Pod', namespace: 'default', name: metadata.name });
    await this.settle();
  }
}

test('a new sandbox gets a reservation with its requests, and says that it waits', async () => {
  await world.sandbox({ resources: { cpus: 2, memory: '512Mi', disk: '1Gi' } });
  await world.settle();
  const pod = await world.pod();
  const { containers } = pod.spec as unknown as { containers: { resources: { requests: object } }[] };
  assert.deepEqual(containers[0]?.resources.requests, { cpu: '2', memory: '576Mi' });
  assert.equal(pod.metadata.labels?.team, 'a');
  assert.equal(pod.metadata.ownerReferences?.[0]?.uid, (await world.get()).metadata.uid);
  assert.deepEqual(await world.status(), {}, 'the scheduler has a moment before anything is said');
  await world.clock.advance(1_000);
  await world.settle();
  assert.equal(await world.condition('Ready'), 'False Pending');
  assert.equal(await world.condition('Reconciling'), 'True Pending');
});

test('a cache that is behind is no reason to ask again and again', async () => {
  await world.sandbox();
  await world.refresh();
  world.refuse(new BulkheadError('CONFLICT', 'somebody was quicker'));
  assert.equal((await world.reconcile()).type, 'transient');
});

test('what the scheduler says of a reservation that fits nowhere, the sandbox says', async () => {
  await world.sandbox();
  await world.settle();
  const { metadata } = await world.pod();
  const told = {
    type: 'PodScheduled',
    status: 'False',
    reason: 'Unschedulable',
    message: '0/1 nodes are available.',
  };
  await world.store.updateStatus(
    { kind: 'Pod', namespace: 'default', name: metadata.name },
    { conditions: [told] },
  );
  await world.settle();
  assert.equal(await world.condition('Scheduled'), 'False Unschedulable');
  assert.match(JSON.stringify(await world.status()), /0\/1 nodes are available/);
});

test('why the cluster takes no reservation, the sandbox says, once', async () => {
  await world.sandbox();
  const refusal = 'pods "agent" is forbidden: exceeded quota: small, requested: memory=1, limited: memory=0';
  world.refuse(new BulkheadError('FORBIDDEN', refusal));
  await world.refresh();
  await assert.rejects(world.reconcile(), { code: 'FORBIDDEN' });
  assert.equal(await world.condition('Scheduled'), 'False QuotaExceeded');
  assert.equal(await world.condition('Ready'), 'False QuotaExceeded');
  const { resourceVersion } = (await world.get()).metadata;
  await world.refresh();
  await assert.rejects(world.reconcile());
  assert.equal((await world.get()).metadata.resourceVersion, resourceVersion);
  world.refuse(undefined);
  await world.settle();
  await world.clock.advance(1_000);
  await world.settle();
  assert.equal(await world.condition('Scheduled'), 'False Pending');
});

test('where its reservation is bound, there it is placed', async () => {
  await world.sandbox();
  await world.settle();
  await world.schedule('node1');
  const { nodeName, reservation } = await world.status();
  assert.deepEqual([nodeName, reservation], ['node1', (await world.pod()).metadata.name]);
  assert.equal(await world.condition('Scheduled'), 'True Scheduled');
  assert.equal(await world.condition('Ready'), 'False Scheduled');
  assert.deepEqual(world.granted, ['node1, placed on undefined'], 'it may read before it is asked to start');
});

test('an evicted sandbox stops first, and only then is placed elsewhere', async () => {
  await world.sandbox();
  await world.settle();
  await world.schedule('node1');
  await world.nodeStarts();
  await world.deletePod();
  assert.equal(await world.condition('DisruptionTarget'), 'True ReservationDeleted');
  assert.equal((await world.status()).nodeName, 'node1', 'as long as the node holds its VM');
  assert.ok((await world.pod()).metadata.deletionTimestamp, 'who drains waits for the VM');
  await world.nodeLetsGo();
  assert.equal((await world.status()).nodeName, undefined);
  assert.equal(await world.condition('DisruptionTarget'), undefined);
  assert.equal((await world.pod()).metadata.deletionTimestamp, undefined, 'another one');
  await world.schedule('node2');
  assert.equal((await world.status()).nodeName, 'node2');
});

test('a node that is lost keeps its sandboxes; one that is gone loses them', async () => {
  await world.sandbox();
  await world.settle();
  await world.schedule('node1');
  await world.nodeStarts();
  world.health.set('node1', 'Lost');
  await world.settle();
  assert.equal(await world.condition('Ready'), 'Unknown NodeLost');
  assert.equal((await world.pods()).length, 1);
  await world.deletePod();
  assert.equal((await world.status()).nodeName, 'node1', 'also when the cluster evicts what ran there');
  world.health.set('node1', 'Gone');
  await world.settle();
  assert.equal((await world.status()).nodeName, undefined);
  assert.equal((await world.get()).metadata.finalizers, undefined);
  assert.ok(world.events.includes('NodeGone'));
});

test('a deleted sandbox of a lost node stays until the node is back or gone', async () => {
  await world.sandbox();
  await world.settle();
  await world.schedule('node1');
  await world.nodeStarts();
  world.health.set('node1', 'Lost');
  await world.store.delete(KEY);
  await world.settle();
  assert.ok(await world.store.get(KEY));
  world.health.set('node1', 'Gone');
  await world.settle();
  assert.equal(await world.store.get(KEY), undefined);
  await world.settle();
  assert.deepEqual(await world.pods(), []);
});

test('suspended or finished, it gives its place back when its VM has ended, and not before', async () => {
  await world.sandbox();
  await world.settle();
  await world.schedule('node1');
  await world.nodeStarts();
  await world.store.patch(KEY, { spec: { operatingMode: 'Suspended' } });
  await world.settle();
  assert.equal((await world.pods()).length, 1, 'the VM still stops');
  const { metadata, status } = await world.get();
  await world.store.updateStatus(KEY, {
    ...status,
    phase: 'Suspended',
    observedGeneration: metadata.generation,
  });
  await world.settle();
  assert.deepEqual(await world.pods(), []);
  const rested = await world.status();
  assert.deepEqual([rested.nodeName, rested.reservation], ['node1', undefined], 'its disks are there');
  await world.store.patch(KEY, { spec: { operatingMode: 'Running' } });
  await world.settle();
  assert.match(
    JSON.stringify((await world.pod()).spec),
    /"matchFields":\[\{"key":"metadata.name","operator":"In","values":\["node1"\]/,
  );
});

test('the disks of its volumes pin a sandbox to their node', async () => {
  const volume = {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Volume',
    metadata: { name: 'data' },
    spec: { capacity: '64Mi', accessMode: 'ReadWriteOnce', reclaimPolicy: 'Retain' },
  };
  await world.store.create(volume);
  await world.sandbox({
    volumes: [{ name: 'data', volume: { name: 'data' } }],
    volumeMounts: [{ name: 'data', mountPath: '/data' }],
  });
  await world.settle();
  await world.schedule('node1');
  const placed = (await world.store.get({ kind: 'Volume', namespace: 'default', name: 'data' })) as Volume;
  assert.equal(placed.status?.nodeName, 'node1');
  await world.deletePod();
  assert.match(JSON.stringify((await world.pod()).spec), /"values":\["node1"\]/);
  await world.clock.advance(1_000);
  await world.settle();
  assert.match(JSON.stringify(await world.status()), /Its volumes are on node1/);
});

test('of a sandbox that is gone the reservation goes', async () => {
  await world.sandbox();
  await world.settle();
  await world.store.delete(KEY);
  await world.settle();
  assert.deepEqual(await world.pods(), []);
});

test("names of reservations are a Pod's, whatever the sandbox's", () => {
  const metadata = { ...storedObject('x', 1).metadata, uid: '0a1b2c3d-0000-4000-8000-000000000000' };
  const named = (name: string) => reservationName({ metadata: { ...metadata, name } });
  for (const name of ['a', 'a.b', 'x'.repeat(253), `${'x'.repeat(49)}.y`]) {
    assert.match(named(name), /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, name);
  }
});
