import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { BulkheadClient } from '../client/client.ts';
import { sandboxDocument, startHarness } from '../server/testing/harness.ts';
import { removeEnded } from './removal.ts';

/** What is said on standard error from now on. */
function listen(t: TestContext): () => string {
  const write = t.mock.method(process.stderr, 'write', () => true);
  return () => write.mock.calls.map((call) => String(call.arguments[0])).join('');
}

test('a sandbox whose clean-up never ends is waited for so long, and said to be left', async (t) => {
  await using harness = await startHarness();
  const created = await harness.client.create(SANDBOX_KIND, 'default', {
    ...sandboxDocument('stuck'),
    metadata: { name: 'stuck', finalizers: ['bulkhead.dev/vm'] },
  });
  const said = listen(t);
  await removeEnded(harness.client, created, 100);
  assert.equal(
    said(),
    'warning: sandbox stuck is not removed yet\n' +
      'error: it was not removed within 0.1 s; `bulkhead describe` says why\n',
  );
  const { metadata } = await harness.client.get(SANDBOX_KIND, 'default', 'stuck');
  assert.ok(metadata.deletionTimestamp, 'it goes as soon as it can');
});

test('a daemon that never answers is waited for no longer', async (t) => {
  await using harness = await startHarness();
  const created = await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('deaf'));
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-deaf-'));
  const server = createServer(() => {}).listen(join(dir, 's'));
  await once(server, 'listening');
  const client = new BulkheadClient({ socketPath: join(dir, 's') });
  try {
    const said = listen(t);
    await removeEnded(client, created, 100);
    assert.match(said(), /deaf is not removed yet\nerror: it was not removed within 0\.1 s/);
  } finally {
    client.close();
    server.closeAllConnections();
    server.close();
    await rm(dir, { recursive: true });
  }
});

test('one that is gone already, or has a successor of the same name, is left alone without a word', async (t) => {
  await using harness = await startHarness();
  const created = await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('gone'));
  await harness.client.delete(SANDBOX_KIND, 'default', 'gone');
  const said = listen(t);
  await removeEnded(harness.client, created, 60_000);
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('gone'));
  await removeEnded(harness.client, created, 60_000);
  assert.equal(said(), '');
  await harness.client.get(SANDBOX_KIND, 'default', 'gone');
});
