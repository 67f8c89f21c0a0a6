import assert from 'node:assert/strict';
import { chmod, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { MAX_OBJECT_BYTES, MAX_OBJECT_DEPTH } from '../object-rules.ts';
import { testStoreContract, withCode } from '../store.contract.ts';
import type { WatchEvent } from '../store.ts';
import { EmbeddedStore } from './embedded-store.ts';
import { collect, sandbox, temporaryDirectory } from './testing.ts';
import { BOOKMARK_EVERY_CHANGES } from './watch.ts';

const APPLE = { kind: 'Sandbox', namespace: 'default', name: 'apple' };

testStoreContract('embedded store', async () => {
  const directory = await temporaryDirectory();
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db') });
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store.close();
      await directory[Symbol.asyncDispose]();
    },
  };
});

test('objects, versions, events and history survive a restart', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  const first = EmbeddedStore.open({ path });
  const { resourceVersion } = await first.list('Sandbox');
  const apple = await first.create(sandbox('apple', { a: [1, 'é', null] }, { labels: { team: 'a' } }));
  await first.create(sandbox('banana'));
  await first.delete({ ...APPLE, name: 'banana' });
  const regarding = { ...APPLE, uid: apple.metadata.uid };
  await first.recordEvent({ regarding, type: 'Normal', reason: 'Started', message: 'up' });
  const latest = (await first.list('Sandbox')).resourceVersion;
  await first.close();

  const second = EmbeddedStore.open({ path });
  assert.deepEqual(await second.get(APPLE), apple);
  assert.equal((await second.list('Sandbox')).resourceVersion, latest);
  assert.equal((await second.listEvents())[0]?.reason, 'Started');
  const seen: string[] = [];
  for await (const event of second.watch('Sandbox', {
    resourceVersion,
    signal: AbortSignal.timeout(30_000),
  })) {
    if (event.type !== 'BOOKMARK') seen.push(`${event.type} ${event.object.metadata.name}`);
    if (seen.length === 3) break;
  }
  assert.deepEqual(seen, ['ADDED apple', 'ADDED banana', 'DELETED banana']);
  const next = await second.create(sandbox('cherry'));
  assert.ok(Number(next.metadata.resourceVersion) > Number(latest));
  await second.close();
});

test('a store made anew hands out versions above those of the former one', async () => {
  await using directory = await temporaryDirectory();
  const first = EmbeddedStore.open({ path: join(directory.path, 'first.db'), now: () => 1_000_000 });
  for (let i = 0; i < 10; i += 1) await first.create(sandbox(`a${i}`));
  const { resourceVersion } = await first.list('Sandbox');
  await first.close();
  const second = EmbeddedStore.open({ path: join(directory.path, 'second.db'), now: () => 2_000_000 });
  await second.create(sandbox('apple'));
  const watch = second.watch('Sandbox', { resourceVersion, signal: AbortSignal.timeout(30_000) });
  await assert.rejects(collect(watch), withCode('EXPIRED'));
  await second.close();
});

test("the store's files are for their owner only, also when an existing one was not", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  const modeOf = async (file: string): Promise<number> => (await stat(file)).mode & 0o777;
  let store = EmbeddedStore.open({ path });
  await store.create(sandbox('apple'));
  assert.equal(await modeOf(path), 0o600);
  assert.equal(await modeOf(`${path}-wal`), 0o600);
  await store.close();
  await chmod(path, 0o644);
  store = EmbeddedStore.open({ path });
  await store.create(sandbox('banana'));
  assert.equal(await modeOf(path), 0o600);
  assert.equal(await modeOf(`${path}-wal`), 0o600);
  await store.close();
});

test('a watch older than the history kept is EXPIRED, one from the future too', async () => {
  await using directory = await temporaryDirectory();
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db'), maxHistoryChanges: 5 });
  const { resourceVersion } = await store.list('Sandbox');
  const watch = (from: string): Promise<WatchEvent[]> =>
    collect(store.watch('Sandbox', { resourceVersion: from, signal: AbortSignal.timeout(30_000) }));
  for (let i = 0; i < 6; i += 1) await store.create(sandbox(`a${i}`));
  await assert.rejects(watch(resourceVersion), withCode('EXPIRED'));
  await assert.rejects(watch(String(Number(resourceVersion) + 1000)), withCode('EXPIRED'));
  await assert.rejects(watch('abc'), withCode('BAD_REQUEST'));
  await store.close();
});

test('a watcher that does not keep up is EXPIRED while writers go on', async () => {
  await using directory = await temporaryDirectory();
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db'), maxHistoryChanges: 10 });
  const { resourceVersion } = await store.list('Sandbox');
  const signal = AbortSignal.timeout(30_000);
  const watcher = store.watch('Sandbox', { resourceVersion, signal })[Symbol.asyncIterator]();
  await store.create(sandbox('apple'));
  assert.equal((await watcher.next()).value?.type, 'ADDED');
  await Promise.all(Array.from({ length: 50 }, (_, i) => store.updateStatus(APPLE, { i })));
  await assert.rejects(watcher.next(), withCode('EXPIRED'));
  await store.close();
});

test('history is bounded by bytes too', async () => {
  await using directory = await temporaryDirectory();
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db'), maxHistoryBytes: 10_000 });
  const { resourceVersion } = await store.list('Sandbox');
  await store.create(sandbox('apple', { text: 'x'.repeat(6000) }));
  const middle = (await store.list('Sandbox')).resourceVersion;
  await store.create(sandbox('banana', { text: 'x'.repeat(6000) }));
  const signal = AbortSignal.timeout(30_000);
  await assert.rejects(collect(store.watch('Sandbox', { resourceVersion, signal })), withCode('EXPIRED'));
  for await (const event of store.watch('Sandbox', { resourceVersion: middle, signal })) {
    assert.equal(event.type, 'ADDED');
    break;
  }
  await store.close();
});

test('a watch of a quiet kind gets bookmarks, so that its position does not expire', async () => {
  await using directory = await temporaryDirectory();
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db') });
  const { resourceVersion } = await store.list('Volume');
  const signal = AbortSignal.timeout(30_000);
  const first = store.watch('Volume', { resourceVersion, signal })[Symbol.asyncIterator]().next();
  await store.create(sandbox('apple'));
  await Promise.all(
    Array.from({ length: BOOKMARK_EVERY_CHANGES }, (_, i) => store.updateStatus(APPLE, { i })),
  );
  const bookmark = await first;
  assert.deepEqual(bookmark.value, {
    type: 'BOOKMARK',
    resourceVersion: String(Number(resourceVersion) + BOOKMARK_EVERY_CHANGES),
  });
  await store.close();
});

test('an object above the size or depth limit is refused, and the rest of its group is not', async () => {
  await using directory = await temporaryDirectory();
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db') });
  let deep: unknown = {};
  for (let i = 0; i < MAX_OBJECT_DEPTH; i += 1) deep = { deep };
  const outcomes = await Promise.allSettled([
    store.create(sandbox('apple')),
    store.create(sandbox('large', { text: 'x'.repeat(MAX_OBJECT_BYTES) })),
    store.create(sandbox('deep', deep)),
    store.patch(APPLE, { spec: deep }),
    store.create(sandbox('banana')),
  ]);
  const codes = outcomes.map((o) => (o.status === 'fulfilled' ? 'ok' : o.reason.code));
  assert.deepEqual(codes, ['ok', 'TOO_LARGE', 'INVALID', 'BAD_REQUEST', 'ok']);
  assert.equal((await store.list('Sandbox')).items.length, 2);
  await store.close();
});

test('an object at the size limit can still be deleted', async () => {
  await using directory = await temporaryDirectory();
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db') });
  const metadata = { finalizers: ['bulkhead.dev/vm'] };
  const empty = await store.create(sandbox('probe', { text: '' }, metadata));
  const room = MAX_OBJECT_BYTES - JSON.stringify(empty).length;
  await store.create(sandbox('apple', { text: 'x'.repeat(room) }, metadata));
  assert.ok((await store.delete(APPLE)).metadata.deletionTimestamp);
  await store.close();
});

test('owners in a ring, and a long chain of owners, are deleted to the end', async () => {
  await using directory = await temporaryDirectory();
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db') });
  const owned = (name: string, uid: string): object => ({
    ownerReferences: [{ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox', name, uid }],
  });
  const links = 2_000;
  let { uid } = (await store.create(sandbox('link-0'))).metadata;
  const { uid: firstUid } = (await store.get({ ...APPLE, name: 'link-0' }))?.metadata ?? { uid: '' };
  for (let i = 1; i < links; i += 1) {
    uid = (await store.create(sandbox(`link-${i}`, {}, owned(`link-${i - 1}`, uid)))).metadata.uid;
  }
  await store.patch({ ...APPLE, name: 'link-0' }, { metadata: owned(`link-${links - 1}`, uid) });
  await store.delete({ ...APPLE, name: 'link-0' }, { uid: firstUid });
  assert.deepEqual((await store.list('Sandbox')).items, []);
  await store.close();
});

test('an owner that does not exist is refused', async () => {
  await using directory = await temporaryDirectory();
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db') });
  const metadata = {
    ownerReferences: [{ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox', name: 'gone', uid: 'gone' }],
  };
  await assert.rejects(store.create(sandbox('apple', {}, metadata)), withCode('INVALID'));
  await store.close();
});

test('a full store refuses writes with STORE_FULL, keeps what it has, and works again when there is room', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  let store = EmbeddedStore.open({ path, maxStoreBytes: 512 * 1024 });
  const acknowledged: string[] = [];
  const fill = async (): Promise<void> => {
    for (let i = 0; ; i += 1) {
      acknowledged.push((await store.create(sandbox(`a${i}`, { text: 'x'.repeat(50_000) }))).metadata.uid);
    }
  };
  await assert.rejects(fill(), withCode('STORE_FULL'));
  assert.ok(acknowledged.length > 1);
  const uids = async (): Promise<string[]> =>
    (await store.list('Sandbox')).items.map(({ metadata }) => metadata.uid).sort();
  assert.deepEqual(await uids(), acknowledged.toSorted());
  await store.close();

  store = EmbeddedStore.open({ path });
  assert.deepEqual(await uids(), acknowledged.toSorted());
  await store.create(sandbox('more', { text: 'x'.repeat(50_000) }));
  assert.equal((await uids()).length, acknowledged.length + 1);
  await store.close();
});

test('closing commits what is waiting, ends watches, and refuses later writes', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  const store = EmbeddedStore.open({ path });
  const { resourceVersion } = await store.list('Sandbox');
  const signal = AbortSignal.timeout(30_000);
  const watch = collect(store.watch('Volume', { resourceVersion, signal }));
  const created = store.create(sandbox('apple'));
  await store.close();
  await store.close();
  assert.equal((await created).metadata.name, 'apple');
  assert.deepEqual(await watch, []);
  await assert.rejects(store.create(sandbox('banana')), withCode('INTERNAL'));
  const again = EmbeddedStore.open({ path });
  assert.ok(await again.get(APPLE));
  await again.close();
});
