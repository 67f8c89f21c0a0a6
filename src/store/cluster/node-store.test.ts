// What the agent of one node sees; the cluster's store is played by an embedded one, which has the same contract.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { BulkheadError } from '../../api/errors.ts';
import { EmbeddedStore } from '../embedded/embedded-store.ts';
import { sandbox, temporaryDirectory } from '../embedded/testing.ts';
import type { Store } from '../store.ts';
import { FollowedObjects } from './followed-objects.ts';
import { NodeStore } from './node-store.ts';

const KEY = { kind: 'Sandbox', namespace: 'default', name: 'apple' };
const DISRUPTED = {
  type: 'DisruptionTarget',
  status: 'True',
  lastTransitionTime: '2026-01-01T00:00:00Z',
};

let dir: Awaited<ReturnType<typeof temporaryDirectory>>;
let cluster: EmbeddedStore;
let node: NodeStore;

beforeEach(async () => {
  dir = await temporaryDirectory();
  cluster = EmbeddedStore.open({ path: `${dir.path}/store.db` });
  node = new NodeStore(cluster, 'node1', new FollowedObjects({ source: cluster }));
});

afterEach(async () => {
  await cluster.close();
  await dir[Symbol.asyncDispose]();
});

test('a sandbox of another node, or of none, is not there', async () => {
  await cluster.create(sandbox('apple'));
  assert.equal(await node.get(KEY), undefined);
  assert.deepEqual((await node.list('Sandbox')).items, []);
  await cluster.updateStatus(KEY, { nodeName: 'node2' });
  assert.deepEqual((await node.list('Sandbox')).items, []);
  await cluster.updateStatus(KEY, { nodeName: 'node1' });
  assert.equal((await node.list('Sandbox')).items.length, 1);
});

test('a sandbox whose place was taken away is shown as deleted until the node lets go of it, then not at all', async () => {
  await cluster.create(sandbox('apple', {}, { finalizers: ['bulkhead.dev/vm'] }));
  await cluster.updateStatus(KEY, { nodeName: 'node1', conditions: [DISRUPTED] });
  const shown = await node.get(KEY);
  assert.equal(shown?.metadata.deletionTimestamp, DISRUPTED.lastTransitionTime);
  await node.patch(KEY, { metadata: { finalizers: [] } });
  assert.equal(await node.get(KEY), undefined);
  assert.ok(await cluster.get(KEY), 'the object itself stays');
});

test('a watch tells a sandbox that was moved away as deleted', async () => {
  await cluster.create(sandbox('apple'));
  const { resourceVersion } = await node.list('Sandbox');
  await cluster.updateStatus(KEY, { nodeName: 'node1' });
  await cluster.updateStatus(KEY, { nodeName: 'node2' });
  const seen: string[] = [];
  const stop = new AbortController();
  for await (const event of node.watch('Sandbox', { resourceVersion, signal: stop.signal })) {
    if (event.type !== 'BOOKMARK') seen.push(event.type);
    if (seen.length === 2) stop.abort();
  }
  assert.deepEqual(seen, ['MODIFIED', 'DELETED']);
  assert.equal(await node.get(KEY), undefined);
});

test('what the node wrote it reads at once, though a watch still tells of what was before', async () => {
  await cluster.create(sandbox('apple'));
  await cluster.updateStatus(KEY, { nodeName: 'node1' });
  const { items, resourceVersion } = await node.list('Sandbox');
  assert.equal(items.length, 1);
  const written = await node.updateStatus(KEY, { nodeName: 'node1', phase: 'Running' });
  assert.deepEqual(await node.get(KEY), written);
  const behind = node.watch('Sandbox', { resourceVersion, signal: AbortSignal.timeout(10_000) });
  for await (const event of behind) {
    assert.equal(event.type, 'MODIFIED');
    break;
  }
  assert.deepEqual(await node.get(KEY), written);
});

test('an object made anew under the name of a deleted one is another object', async () => {
  await cluster.create(sandbox('apple'));
  await cluster.updateStatus(KEY, { nodeName: 'node1' });
  await node.list('Sandbox');
  await cluster.delete(KEY);
  const second = await cluster.create(sandbox('apple'));
  await cluster.updateStatus(KEY, { nodeName: 'node1' });
  await node.list('Sandbox');
  assert.equal((await node.get(KEY))?.metadata.uid, second.metadata.uid);
});

test('after a conflict the node reads what is there, also while its watch is silent', async () => {
  await cluster.create(sandbox('apple'));
  await cluster.updateStatus(KEY, { nodeName: 'node1' });
  const [seen] = (await node.list('Sandbox')).items;
  await cluster.patch(KEY, { metadata: { labels: { team: 'a' } } });
  const version = seen?.metadata.resourceVersion;
  await assert.rejects(node.updateStatus(KEY, { nodeName: 'node1' }, version), { code: 'CONFLICT' });
  assert.deepEqual((await node.get(KEY))?.metadata.labels, { team: 'a' });
});

test('where the history is gone the node forgets it: what comes next counts, also with a lower version', async () => {
  await cluster.create(sandbox('apple'));
  await cluster.updateStatus(KEY, { nodeName: 'node1' });
  const older = await cluster.get(KEY);
  assert.ok(older);
  await cluster.updateStatus(KEY, { nodeName: 'node1', phase: 'Running' });
  await node.list('Sandbox');
  // A database that was restored from an older state.
  const restored = new Proxy<Store>(cluster, {
    get(target, name: keyof Store) {
      if (name === 'list') return async () => ({ items: [older], resourceVersion: '1' });
      if (name === 'watch')
        return async function* () {
          yield* [];
          throw new BulkheadError('EXPIRED', 'restored');
        };
      return target[name].bind(target);
    },
  });
  const after = new NodeStore(restored, 'node1', new FollowedObjects({ source: cluster }));
  await after.updateStatus(KEY, { nodeName: 'node1', phase: 'Running' });
  const watch = after.watch('Sandbox', { resourceVersion: '9', signal: new AbortController().signal });
  await assert.rejects(async () => {
    for await (const event of watch) assert.fail(event.type);
  }, /restored/);
  await after.list('Sandbox');
  assert.deepEqual((await after.get(KEY))?.status, older.status);
});
