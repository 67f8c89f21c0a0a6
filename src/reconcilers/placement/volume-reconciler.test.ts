// What is said of volumes that no sandbox has mounted yet.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import type { StoredObject } from '../../api/meta.ts';
import type { VolumeStatus } from '../../api/volume.ts';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { EmbeddedStore } from '../../store/embedded/embedded-store.ts';
import { temporaryDirectory } from '../../store/embedded/testing.ts';
import { UnplacedVolumeReconciler } from './volume-reconciler.ts';

const KEY = { kind: 'Volume', namespace: 'default', name: 'notes' };

let dir: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: EmbeddedStore;
let cached: StoredObject | undefined;

beforeEach(async () => {
  dir = await temporaryDirectory();
  store = EmbeddedStore.open({ path: `${dir.path}/store.db` });
  const metadata = { namespace: 'default', name: 'notes' };
  cached = await store.create({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Volume',
    metadata,
    spec: { capacity: '1Gi' },
  });
});

afterEach(async () => {
  await store.close();
  await dir[Symbol.asyncDispose]();
});

async function reconcile(): Promise<StoredObject> {
  const reconciler = new UnplacedVolumeReconciler(store, new FakeClock(), { get: () => cached });
  assert.deepEqual(await reconciler.reconcile(KEY), { type: 'done' });
  const object = await store.get(KEY);
  assert.ok(object);
  return object;
}

test('a volume without a node waits for its first sandbox, said once', async () => {
  cached = await reconcile();
  const { phase, observedGeneration, conditions = [] } = cached.status as VolumeStatus;
  assert.deepEqual([phase, observedGeneration], ['Pending', 1]);
  assert.deepEqual(conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`).sort(), [
    'Bound False WaitForFirstConsumer',
    'Ready False WaitForFirstConsumer',
  ]);
  assert.equal((await reconcile()).metadata.resourceVersion, cached.metadata.resourceVersion);
});

test('one that was placed is left to its node, even where the cache does not show it yet', async () => {
  await store.updateStatus(KEY, { nodeName: 'node1' });
  assert.deepEqual((await reconcile()).status, { nodeName: 'node1' });
  cached = await store.get(KEY);
  assert.deepEqual((await reconcile()).status, { nodeName: 'node1' });
});
