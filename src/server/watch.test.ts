import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { ListQuery, WatchChange } from '../client/client.ts';
import { DaemonEndpoint } from '../client/endpoint.ts';
import { Transport } from '../client/transport.ts';
import { FOLLOWERS_MAX } from './limits.ts';
import { type Harness, sandboxDocument, startHarness } from './testing/harness.ts';
import { admitFollower } from './watch.ts';

/** The next `count` changes that are no bookmarks, as `TYPE name`. */
async function take(changes: AsyncGenerator<WatchChange>, count: number): Promise<string[]> {
  const taken: string[] = [];
  while (taken.length < count) {
    const { value, done } = await changes.next();
    if (done) break;
    if (value.type !== 'BOOKMARK') taken.push(`${value.type} ${value.object.metadata.name}`);
  }
  return taken;
}

function watch(harness: Harness, query: ListQuery & { resourceVersion?: string } = {}) {
  const leave = new AbortController();
  return { changes: harness.client.watch(SANDBOX_KIND, { ...query, signal: leave.signal }), leave };
}

test('a watch without a version begins with what is there and goes on with changes', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const { changes, leave } = watch(harness);
  assert.deepEqual(await take(changes, 1), ['ADDED a']);
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('b'));
  await client.patch(SANDBOX_KIND, 'default', 'a', { spec: { hostname: 'x' } });
  await client.delete(SANDBOX_KIND, 'default', 'b');
  assert.deepEqual(await take(changes, 3), ['ADDED b', 'MODIFIED a', 'DELETED b']);
  leave.abort();
  assert.deepEqual(await take(changes, 1), []);
});

test('a watch from a version misses nothing that happened after it', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const { metadata } = await client.list(SANDBOX_KIND);
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('b'));
  const { changes, leave } = watch(harness, { resourceVersion: metadata.resourceVersion ?? '' });
  assert.deepEqual(await take(changes, 1), ['ADDED b']);
  leave.abort();
});

test('a watch selects by namespace and label', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  const { changes, leave } = watch(harness, { namespace: 'default', labelSelector: 'team=x' });
  await client.create(SANDBOX_KIND, 'other', sandboxDocument('elsewhere', {}, { team: 'x' }));
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('unlabelled'));
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('wanted', {}, { team: 'x' }));
  assert.deepEqual(await take(changes, 1), ['ADDED wanted']);
  leave.abort();
});

test('a version from the future or the distant past is an error that says list again', async () => {
  await using harness = await startHarness();
  const { changes } = watch(harness, { resourceVersion: '999999' });
  await assert.rejects(take(changes, 1), (error) => {
    assert.ok(error instanceof BulkheadError);
    assert.ok(['EXPIRED', 'BAD_REQUEST', 'INVALID'].includes(error.code), error.code);
    return true;
  });
});

test('a watch ends when its time is up', async () => {
  await using harness = await startHarness();
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  const lines = transport.lines('GET', '/apis/bulkhead.dev/v1alpha1/sandboxes', {
    query: { watch: true, timeoutSeconds: 1 },
  });
  assert.equal((await lines.next()).done, true);
  transport.close();
});

test('closing the server ends its watches', async () => {
  const harness = await startHarness();
  const { changes } = watch(harness);
  const ended = take(changes, 1);
  await harness.client.list(SANDBOX_KIND);
  await harness.server.close();
  assert.deepEqual(await ended, []);
  await harness[Symbol.asyncDispose]();
});

test('there is a limit for open watches, and leaving makes room', () => {
  const host = { closing: new AbortController().signal, followers: FOLLOWERS_MAX - 1 };
  const done = admitFollower(host);
  assert.throws(() => admitFollower(host), /open already/);
  done();
  done();
  assert.equal(host.followers, FOLLOWERS_MAX - 1);
});
