import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UNHELD_ANNOTATION } from '../../api/annotations.ts';
import type { Request } from '../../controller/reconciler.ts';
import { World } from '../testing/world.ts';
import { LeaseReconciler, UNHELD_GRACE_MS } from './reconciler.ts';

const KEY = { kind: 'Sandbox', namespace: 'default', name: 'box' };

async function start(world: World, action?: string) {
  const woken: Request[] = [];
  const enqueuer = { enqueue: (request: Request) => woken.push(request), enqueueAfter: () => {} };
  const reconciler = new LeaseReconciler({ store: world.store, clock: world.clock, enqueuer });
  const { metadata } = await world.store.create({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: {
      ...{ name: 'box', namespace: 'default', finalizers: ['test/keep'] },
      annotations: action === undefined ? {} : { [UNHELD_ANNOTATION]: action },
    },
    spec: { image: 'busybox' },
  });
  const held = { namespace: 'default', name: 'box', uid: metadata.uid };
  const step = () => reconciler.reconcile(KEY);
  const isDeleted = async () => (await world.store.get(KEY))?.metadata.deletionTimestamp !== undefined;
  return { reconciler, held, step, isDeleted, woken };
}

test('a sandbox that does not ask for it is never ended', async () => {
  await using world = new World();
  const { reconciler, held, step, isDeleted } = await start(world);
  reconciler.hold(held)();
  assert.deepEqual(await step(), { type: 'done' });
  await world.clock.advance(UNHELD_GRACE_MS * 10);
  assert.deepEqual(await step(), { type: 'done' });
  assert.equal(await isDeleted(), false);
});

test('it lives while it is held, by one or by several, and for the grace after that', async () => {
  await using world = new World();
  const { reconciler, held, step, isDeleted, woken } = await start(world, 'Delete');
  const [first, second] = [reconciler.hold(held), reconciler.hold(held)];
  await world.clock.advance(UNHELD_GRACE_MS * 10);
  assert.deepEqual(await step(), { type: 'done' });
  first();
  first();
  assert.deepEqual(woken, []);
  second();
  assert.deepEqual(woken, [KEY]);
  assert.deepEqual(await step(), { type: 'requeue', afterMs: UNHELD_GRACE_MS });
  await world.clock.advance(UNHELD_GRACE_MS - 1);
  assert.deepEqual(await step(), { type: 'requeue', afterMs: 1 });
  assert.equal(await isDeleted(), false);
  await world.clock.advance(1);
  assert.deepEqual(await step(), { type: 'done' });
  assert.equal(await isDeleted(), true);
});

test('a client that comes back in time keeps it', async () => {
  await using world = new World();
  const { reconciler, held, step, isDeleted } = await start(world, 'Delete');
  // As after a restart of the daemon: nobody holds yet.
  assert.equal((await step()).type, 'requeue');
  await world.clock.advance(UNHELD_GRACE_MS - 1);
  const release = reconciler.hold(held);
  await world.clock.advance(UNHELD_GRACE_MS);
  assert.deepEqual(await step(), { type: 'done' });
  release();
  assert.deepEqual(await step(), { type: 'requeue', afterMs: UNHELD_GRACE_MS });
  assert.equal(await isDeleted(), false);
});

test('Suspend keeps the object, its disks and its next start', async () => {
  await using world = new World();
  const { step } = await start(world, 'Suspend');
  await step();
  await world.clock.advance(UNHELD_GRACE_MS);
  await step();
  const object = await world.store.get(KEY);
  assert.deepEqual(object?.metadata.deletionTimestamp, undefined);
  assert.deepEqual(object?.spec, { image: 'busybox', operatingMode: 'Suspended' });
  assert.equal(object?.metadata.annotations?.[UNHELD_ANNOTATION], undefined);
});

test('another sandbox of the same name is another one', async () => {
  await using world = new World();
  const { step, isDeleted } = await start(world, 'Delete');
  await step();
  await world.clock.advance(UNHELD_GRACE_MS - 1);
  await world.store.delete(KEY);
  await world.store.patch(KEY, { metadata: { finalizers: [] } });
  await world.store.create({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name: 'box', namespace: 'default', annotations: { [UNHELD_ANNOTATION]: 'Delete' } },
    spec: { image: 'busybox' },
  });
  await world.clock.advance(1);
  assert.deepEqual(await step(), { type: 'requeue', afterMs: UNHELD_GRACE_MS });
  assert.equal(await isDeleted(), false);
});

test('an unknown value of the annotation is not acted on', async () => {
  await using world = new World();
  const { step, isDeleted } = await start(world, 'Explode');
  await step();
  await world.clock.advance(UNHELD_GRACE_MS * 2);
  assert.deepEqual(await step(), { type: 'done' });
  assert.equal(await isDeleted(), false);
});
