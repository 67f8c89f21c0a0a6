import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import type { Store } from '../store/store.ts';
import { Informer } from './informer.ts';
import { silentLog } from './log.ts';
import { FakeClock, settle } from './testing/fake-clock.ts';
import { changeOf, FakeStore, storedObject } from './testing/fake-store.ts';

interface SetUp {
  store: FakeStore;
  clock: FakeClock;
  informer: Informer;
  seen: string[];
}

function setUp(): SetUp {
  const store = new FakeStore();
  const clock = new FakeClock();
  const informer = new Informer({
    store: store as unknown as Store,
    kind: 'Sandbox',
    clock,
    log: silentLog,
    resyncMs: 600_000,
    backoff: { baseMs: 1000, maxMs: 8000, jitter: 0.5 },
    random: () => 0,
  });
  const seen: string[] = [];
  informer.addHandler(({ type, object, initial }) => {
    seen.push(`${type} ${object.metadata.name}${initial ? ' (initial)' : ''}`);
  });
  return { store, clock, informer, seen };
}

const EXPIRED = new BulkheadError('EXPIRED', 'gone');

test('start resolves with the first list in the cache, and tells it as initial', async () => {
  const { store, informer, seen } = setUp();
  store.objects = [storedObject('a', 1), storedObject('b', 2, { namespace: 'other' })];
  assert.equal(informer.hasSynced, false);
  await informer.start();
  assert.equal(informer.hasSynced, true);
  assert.deepEqual(seen, ['added a (initial)', 'added b (initial)']);
  assert.equal(informer.get('default', 'a'), store.objects[0]);
  assert.deepEqual(
    informer.list('other').map(({ metadata }) => metadata.name),
    ['b'],
  );
  assert.equal(informer.list().length, 2);
  await informer.stop();
});

test('changes reach the cache and the handlers, updates with what was before', async () => {
  const { store, informer, seen } = setUp();
  const previous: (string | undefined)[] = [];
  informer.addHandler((notification) => previous.push(notification.previous?.metadata.resourceVersion));
  await informer.start();
  await settle();
  const [watch] = store.watches;
  assert.equal(watch?.from, '100');
  watch.send(changeOf('ADDED', storedObject('a', 101)));
  watch.send(changeOf('MODIFIED', storedObject('a', 102)));
  watch.send({ type: 'BOOKMARK', resourceVersion: '150' });
  watch.send(changeOf('DELETED', storedObject('a', 151)));
  watch.send(changeOf('DELETED', storedObject('never-seen', 152)));
  await settle();
  assert.deepEqual(seen, ['added a', 'updated a', 'deleted a']);
  assert.deepEqual(previous, [undefined, '101', undefined]);
  assert.deepEqual(informer.list(), []);
  await informer.stop();
});

test('a watch that breaks goes on from the last version, without a new list', async () => {
  const { store, clock, informer, seen } = setUp();
  await informer.start();
  await settle();
  store.watches[0]?.send(changeOf('ADDED', storedObject('a', 101)));
  store.watches[0]?.send({ type: 'BOOKMARK', resourceVersion: '130' });
  await settle();
  store.watches[0]?.end(new Error('connection reset'));
  await settle();
  assert.equal(store.watches.length, 0);
  await clock.advance(1000);
  assert.equal(store.watches[0]?.from, '130');
  assert.equal(store.lists, 1);
  store.watches[0]?.send(changeOf('MODIFIED', storedObject('a', 131)));
  await settle();
  assert.deepEqual(seen, ['added a', 'updated a']);
  await informer.stop();
});

test('a watch that keeps failing is tried at growing intervals up to the ceiling', async () => {
  const { store, clock, informer } = setUp();
  await informer.start();
  const delays: number[] = [];
  for (let i = 0; i < 6; i += 1) {
    await settle();
    store.watches[0]?.end(new Error('refused'));
    await settle();
    delays.push(clock.pending[0] ?? 0);
    await clock.advance(delays.at(-1) ?? 0);
  }
  assert.deepEqual(delays, [1000, 2000, 4000, 8000, 8000, 8000]);
  await informer.stop();
});

test('a watch that held for long and ended is taken up again soon', async () => {
  const { store, clock, informer } = setUp();
  await informer.start();
  for (let i = 0; i < 5; i += 1) {
    await settle();
    await clock.advance(60_000);
    store.watches[0]?.end();
    await settle();
    assert.equal(clock.pending[0], 1000);
    await clock.advance(1000);
  }
  await informer.stop();
});

test('EXPIRED lists again at once and tells exactly the difference', async () => {
  const { store, informer, seen } = setUp();
  store.objects = [
    storedObject('gone', 1),
    storedObject('same', 2),
    storedObject('moved', 3),
    storedObject('anew', 4),
  ];
  await informer.start();
  await settle();
  seen.length = 0;
  store.objects = [
    storedObject('same', 2),
    storedObject('moved', 203),
    storedObject('anew', 204, { uid: 'another' }),
    storedObject('new', 205),
  ];
  store.version = 205;
  store.watches[0]?.end(EXPIRED);
  await settle();
  assert.deepEqual(seen.toSorted(), [
    'added anew',
    'added new',
    'deleted anew',
    'deleted gone',
    'updated moved',
  ]);
  assert.ok(seen.indexOf('deleted anew') < seen.indexOf('added anew'));
  assert.equal(store.watches[0]?.from, '205');
  await informer.stop();
});

test('EXPIRED again and again does not list without pause', async () => {
  const { store, clock, informer } = setUp();
  await informer.start();
  await settle();
  store.watches[0]?.end(EXPIRED);
  await settle();
  assert.equal(store.lists, 2);
  store.watches[0]?.end(EXPIRED);
  await settle();
  assert.equal(store.lists, 2);
  await clock.advance(2000);
  assert.equal(store.lists, 3);
  await informer.stop();
});

test('start outlasts a store that cannot list at first', async () => {
  const { store, clock, informer } = setUp();
  store.listErrors = [new Error('down'), new Error('down')];
  store.objects = [storedObject('a', 1)];
  const started = informer.start();
  await clock.advance(1000);
  assert.equal(informer.hasSynced, false);
  await clock.advance(2000);
  await started;
  assert.equal(informer.list().length, 1);
  await informer.stop();
});

test('a list that fails after EXPIRED leaves the cache as it was', async () => {
  const { store, clock, informer, seen } = setUp();
  store.objects = [storedObject('a', 1)];
  await informer.start();
  await settle();
  store.listErrors = [new Error('down')];
  store.watches[0]?.end(EXPIRED);
  await settle();
  assert.equal(informer.list().length, 1);
  await clock.advance(10_000);
  assert.equal(store.watches.length, 1);
  assert.deepEqual(seen, ['added a (initial)']);
  await informer.stop();
});

test('a resync tells every object again, period after period', async () => {
  const { store, clock, informer, seen } = setUp();
  store.objects = [storedObject('a', 1)];
  await informer.start();
  seen.length = 0;
  await clock.advance(600_000);
  assert.deepEqual(seen, ['resync a']);
  await clock.advance(600_000);
  assert.deepEqual(seen, ['resync a', 'resync a']);
  await informer.stop();
  assert.deepEqual(clock.pending, []);
});

test('a handler that throws keeps nothing from the others', async () => {
  const { store, informer } = setUp();
  const seen: string[] = [];
  informer.addHandler(() => {
    throw new Error('defect');
  });
  informer.addHandler(({ object }) => seen.push(object.metadata.name));
  store.objects = [storedObject('a', 1), storedObject('b', 2)];
  await informer.start();
  assert.deepEqual(seen, ['a', 'b']);
  await informer.stop();
});

test('stop ends a start that still waits for the store', async () => {
  const { store, clock, informer } = setUp();
  store.listErrors = Array.from({ length: 100 }, () => new Error('down'));
  const started = informer.start();
  await settle();
  await informer.stop();
  await started;
  assert.deepEqual(clock.pending, []);
});

test('whatever the watch does, the cache ends equal to the store', async () => {
  for (let round = 0; round < 30; round += 1) {
    const { store, clock, informer } = setUp();
    await informer.start();
    const objects = new Map<string, ReturnType<typeof storedObject>>();
    for (let step = 0; step < 60; step += 1) {
      await settle();
      const name = `s${Math.floor(Math.random() * 5)}`;
      store.version += 1;
      const object = storedObject(name, store.version, {
        uid: objects.get(name)?.metadata.uid ?? `uid-${store.version}`,
      });
      const known = objects.has(name);
      const type = known ? (Math.random() < 0.3 ? 'DELETED' : 'MODIFIED') : 'ADDED';
      if (type === 'DELETED') objects.delete(name);
      else objects.set(name, object);
      store.objects = [...objects.values()];
      const watch = store.watches[0];
      if (watch !== undefined && Math.random() < 0.7) watch.send(changeOf(type, object));
      else watch?.end(EXPIRED);
    }
    store.watches[0]?.end(EXPIRED);
    await clock.advance(30_000);
    assert.deepEqual(
      informer
        .list()
        .map(({ metadata }) => `${metadata.uid} ${metadata.resourceVersion}`)
        .sort(),
      store.objects.map(({ metadata }) => `${metadata.uid} ${metadata.resourceVersion}`).sort(),
    );
    await informer.stop();
  }
});
