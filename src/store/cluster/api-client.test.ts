// What a server without room gets: the same request again, when it said, and not for ever.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { ApiClient } from './api-client.ts';

async function answering(answer: (response: ServerResponse, request: number) => void) {
  let requests = 0;
  const server = createServer((_request, response) => {
    requests += 1;
    answer(response, requests);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = new ApiClient({ url, credentials: async () => ({ headers: {}, dispatcher: undefined }) });
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { client, asked: () => requests, [Symbol.dispose]: close };
}

const refuse = (response: ServerResponse, headers: Record<string, string>) =>
  response.writeHead(429, headers).end('{"kind":"Status","message":"too many requests"}');

test('a request that is refused for want of room is sent again when the server said', async () => {
  using api = await answering((response, request) => {
    if (request < 3) refuse(response, { 'retry-after': '0' });
    else response.end('{"kind":"Pod"}');
  });
  assert.deepEqual(await api.client.send({ method: 'POST', path: '/x', body: {} }), { kind: 'Pod' });
  assert.equal(api.asked(), 3);
});

test('a server that never has room is asked four times, one that does not say when but once', async () => {
  using always = await answering((response) => refuse(response, { 'retry-after': '0' }));
  await assert.rejects(always.client.send({ method: 'GET', path: '/x' }), { code: 'TOO_MANY_REQUESTS' });
  assert.equal(always.asked(), 4);
  using silent = await answering((response) => refuse(response, {}));
  await assert.rejects(silent.client.send({ method: 'GET', path: '/x' }), { code: 'TOO_MANY_REQUESTS' });
  assert.equal(silent.asked(), 1);
});

test('who waits for a server without room stops when it is told to', async () => {
  using api = await answering((response) => refuse(response, { 'retry-after': '5' }));
  const stop = new AbortController();
  const sent = api.client.send({ method: 'GET', path: '/x', signal: stop.signal });
  const failed = assert.rejects(sent, { code: 'API_SERVER_UNAVAILABLE' });
  while (api.asked() === 0) await new Promise((resolve) => setImmediate(resolve));
  stop.abort();
  await failed;
  assert.equal(api.asked(), 1);
});
