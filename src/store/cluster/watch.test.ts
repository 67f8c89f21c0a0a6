import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { ApiClient } from './api-client.ts';
import { watchCollection } from './watch.ts';

/** An API server that ends each watch when it has sent the next of these lines; after the last it holds one open. */
async function serving(connections: readonly object[][], newest = '9') {
  const asked: string[] = [];
  const checks: string[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://api');
    if (url.searchParams.get('watch') === null) {
      checks.push(url.search);
      response.end(JSON.stringify({ items: [], metadata: { resourceVersion: newest } }));
      return;
    }
    asked.push(url.searchParams.get('resourceVersion') ?? '');
    const lines = connections[asked.length - 1];
    response.writeHead(200).flushHeaders();
    for (const line of lines ?? []) response.write(`${JSON.stringify(line)}\n`);
    if (lines !== undefined) response.end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = new ApiClient({ url, credentials: async () => ({ headers: {}, dispatcher: undefined }) });
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { client, asked, checks, [Symbol.dispose]: close };
}

const added = (version: string) => ({
  type: 'ADDED',
  object: { metadata: { name: 'a', resourceVersion: version } },
});

test('a watch that the server ends after events goes on from the last one', async () => {
  using api = await serving([[added('5')], [added('6')]]);
  const stop = new AbortController();
  const seen: string[] = [];
  for await (const event of watchCollection(api.client, '/x', {}, '4', stop.signal)) {
    seen.push(event.resourceVersion);
    if (seen.length === 2) stop.abort();
  }
  assert.deepEqual(seen, ['5', '6']);
  assert.deepEqual(api.asked, ['4', '5']);
});

test('a watch that the server ends at once fails, so that whoever follows it backs off', async () => {
  using api = await serving([[], []]);
  const events = watchCollection(api.client, '/x', {}, '4', new AbortController().signal);
  await assert.rejects(events.next(), { code: 'API_SERVER_UNAVAILABLE', message: /ended a watch at once/ });
  assert.deepEqual(api.asked, ['4']);
});

test('a server whose database was restored from an older state is not waited for', async () => {
  using api = await serving([], '9');
  const one = { fieldSelector: 'name=a' };
  const ahead = watchCollection(api.client, '/x', one, '10', new AbortController().signal);
  await assert.rejects(ahead.next(), { code: 'EXPIRED', message: /at version 9, before 10/ });
  assert.deepEqual(api.asked, []);
  assert.deepEqual(
    api.checks,
    ['?fieldSelector=name%3Da&limit=1'],
    'whoever may see one object alone may ask so',
  );
});

test('a watch that begins right after a list asks for nothing beside; one that goes on does', async () => {
  using api = await serving([[added('5')], [added('6')]]);
  const stop = new AbortController();
  for await (const event of watchCollection(api.client, '/x', {}, '4', stop.signal, true)) {
    assert.equal(api.checks.length, event.resourceVersion === '5' ? 0 : 1);
    if (event.resourceVersion === '6') stop.abort();
  }
  assert.deepEqual(api.checks, ['?limit=1']);
});
