import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { test } from 'node:test';
import type { BulkheadError } from '../api/errors.ts';
import { DaemonEndpoint } from '../client/endpoint.ts';
import { Transport } from '../client/transport.ts';
import { API_CONNECTION_LIMITS, CLOSE_TIMEOUT_MS, MONITORING_CONNECTION_LIMITS } from './limits.ts';
import { freePort, startHarness } from './testing/harness.ts';

const SILENT = 100;
const HALF = 100;
const PIPELINING = 20;
/** Far more than the kernel's buffers hold of the answers. */
const PIPELINED_REQUESTS = 2_000;
const BODY = 'x'.repeat(256 * 1024);
const SCRAPE = 'GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n';

/** Clients that mean no good; they vanish when disposed. */
class HostileClients {
  readonly #sockets: Socket[] = [];

  async open(count: number, to: NetConnectOpts, text: string): Promise<Socket[]> {
    const opened = Array.from({ length: count }, () => {
      const socket = connect(to);
      // Being thrown out is what they came for.
      socket.on('error', () => {});
      socket.pause();
      if (text !== '') socket.write(text);
      return socket;
    });
    this.#sockets.push(...opened);
    // One that is refused closes instead.
    await Promise.all(opened.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])));
    return opened;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const open = this.#sockets.filter((socket) => !socket.closed);
    const closed = open.map((socket) => once(socket, 'close'));
    for (const socket of open) socket.destroy();
    await Promise.all(closed);
  }
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

/** The whole of what a client is sent until its connection ends. */
async function readToEnd(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  return text;
}

test('silent, half and unread requests on both listeners keep nobody out and leave nothing behind', async () => {
  const port = await freePort();
  let scrapes = 0;
  await using harness = await startHarness({
    metricsAddress: `127.0.0.1:${port}`,
    dependencies: {
      metrics: async () => {
        scrapes++;
        return { contentType: 'text/plain', body: BODY };
      },
    },
  });
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  await transport.request('GET', '/version');
  const before = openFiles();
  {
    await using hostile = new HostileClients();
    for (const to of [{ path: harness.socketPath }, { host: '127.0.0.1', port }]) {
      await hostile.open(PIPELINING, to, SCRAPE.repeat(PIPELINED_REQUESTS));
      await hostile.open(SILENT, to, '');
      await hostile.open(HALF, to, 'GET /metrics HTTP/1.1\r\nhost: loc');
    }
    assert.equal((await transport.request('GET', '/apis/bulkhead.dev/v1alpha1/sandboxes')).status, 200);
    assert.equal((await fetch(`http://127.0.0.1:${port}/metrics`)).status, 200);
    const bound = 2 * PIPELINING * API_CONNECTION_LIMITS.requestsPerConnection + 1;
    assert.ok(scrapes <= bound, `${scrapes} scrapes were made, ${bound} are allowed`);
  }
  transport.close();
  const again = new Transport(new DaemonEndpoint(harness.socketPath));
  await again.request('GET', '/version');
  while (openFiles() > before) await new Promise((resolve) => setImmediate(resolve));
  again.close();
});

test('requests beyond the limit of a connection are refused with a Status, and the connection ends', async () => {
  await using harness = await startHarness();
  await using hostile = new HostileClients();
  const [socket] = await hostile.open(1, { path: harness.socketPath }, SCRAPE.repeat(PIPELINED_REQUESTS));
  assert.ok(socket !== undefined);
  const answers = (await readToEnd(socket)).split('HTTP/1.1 ').slice(1);
  assert.equal(answers.length, API_CONNECTION_LIMITS.requestsPerConnection + 1);
  assert.match(answers.pop() ?? '', /^429 .*"reason":"TooManyRequests"/s);
  for (const answer of answers) assert.match(answer, /^200 /);
});

test('a full listener drops who waits for longest without a request, not who has one', async () => {
  const port = await freePort();
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  await using _harness = await startHarness({
    metricsAddress: `127.0.0.1:${port}`,
    dependencies: {
      metrics: async () => {
        await held;
        return { contentType: 'text/plain', body: 'up 1\n' };
      },
    },
  });
  await using hostile = new HostileClients();
  const to = { host: '127.0.0.1', port };
  const asking = fetch(`http://127.0.0.1:${port}/metrics`);
  const [oldest] = await hostile.open(1, to, '');
  assert.ok(oldest !== undefined);
  const dropped = once(oldest.resume(), 'close');
  await hostile.open(MONITORING_CONNECTION_LIMITS.connections, to, '');
  await dropped;
  release();
  assert.equal((await asking).status, 200);
});

test('who neither sends nor reads for long is closed, a quiet watch is not', async () => {
  await using harness = await startHarness({ apiLimits: { ...API_CONNECTION_LIMITS, stallMs: 300 } });
  await using hostile = new HostileClients();
  const to = { path: harness.socketPath };
  const collection = '/apis/bulkhead.dev/v1alpha1/sandboxes';
  const [watch] = await hostile.open(1, to, `GET ${collection}?watch=1 HTTP/1.1\r\nhost: a\r\n\r\n`);
  assert.ok(watch !== undefined);
  await once(watch.resume(), 'data');
  const begun = 'host: a\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{';
  const stalled = [
    ...(await hostile.open(1, to, '')),
    ...(await hostile.open(1, to, `POST ${collection} HTTP/1.1\r\n${begun}`)),
  ];
  await Promise.all(stalled.map((socket) => once(socket.resume(), 'close')));
  assert.equal(watch.closed, false);
});

test('answers that nobody reads hold others up only until their connection is closed', async () => {
  await using harness = await startHarness({
    apiLimits: { ...API_CONNECTION_LIMITS, unreadBytes: 1, stallMs: 1_000 },
    dependencies: { metrics: async () => ({ contentType: 'text/plain', body: 'x'.repeat(8 * 1024 * 1024) }) },
  });
  await using hostile = new HostileClients();
  await hostile.open(1, { path: harness.socketPath }, SCRAPE);
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  const answer = () =>
    transport.request('GET', '/version').then(
      () => 'ok',
      (error: BulkheadError) => error.code,
    );
  while ((await answer()) !== 'TOO_MANY_REQUESTS');
  while ((await answer()) !== 'ok');
  transport.close();
});

test('closing waits for nobody beyond its bound, a refused upgrade included', async () => {
  await using harness = await startHarness();
  await using hostile = new HostileClients();
  const to = { path: harness.socketPath };
  const upgrade = 'host: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n';
  await hostile.open(10, to, `GET /nowhere HTTP/1.1\r\n${upgrade}`);
  await hostile.open(10, to, SCRAPE.repeat(PIPELINED_REQUESTS));
  await hostile.open(10, to, 'GET /metrics HTTP/1.1\r\nhost: loc');
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  await transport.request('GET', '/version');
  transport.close();
  const late = setTimeout(() => assert.fail('closing takes for ever'), 20 * CLOSE_TIMEOUT_MS);
  await harness.server.close();
  clearTimeout(late);
});
