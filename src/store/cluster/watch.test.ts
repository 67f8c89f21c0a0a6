import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { ApiClient } from './api-client.ts';
import { watchCollection } from './watch.ts';

/** An API server that ends each watch when it has sent the next of these lines; after the last it holds one open. */
async function serving(connections: readonly object[][]) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://api');
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
  return { client, asked, [Symbol.dispose]: close };
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
