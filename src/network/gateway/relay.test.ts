// One connection through the gateway, between sockets of this process.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../controller/clock.ts';
import { LeafCache } from '../intercept/leaf-cache.ts';
import type { FlowVerdict } from '../policy/flow.ts';
import { effectiveOf, flow } from '../testing/policies.ts';
import { EgressRate } from './egress-rate.ts';
import { Interceptor } from './interceptor.ts';
import { Relay } from './relay.ts';

const MODE = { kind: 'Mode', mode: 'AllowAll' } as const;
const ALLOW: FlowVerdict = { allowed: true, by: MODE, inspect: false };
const INSPECT: FlowVerdict = { ...ALLOW, inspect: true };
const DENY: FlowVerdict = { allowed: false, by: MODE, inspect: false };

async function listen(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const server: Server = createServer({ allowHalfOpen: true }, serve).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A guest's socket whose other end is relayed to a server that gives back, at the end, all that it got. */
async function relayed(t: TestContext, decide: (seen: { httpHost?: string | null }) => FlowVerdict) {
  const interceptor = new Interceptor(new LeafCache(Date.now), effectiveOf({}));
  const rate = new EgressRate(systemClock);
  const received: Buffer[] = [];
  const reports: string[] = [];
  const port = await listen(t, (socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => received.push(chunk));
    socket.on('end', () => socket.end(Buffer.concat(received)));
  });
  const { promise, resolve } = Promise.withResolvers<{ relay: Relay; closed: Promise<void> }>();
  const front = await listen(t, (client) => {
    const { promise: closed, resolve: close } = Promise.withResolvers<void>();
    const relay = new Relay({
      ...{ client, flow: flow('20.0.0.10'), target: { host: '127.0.0.1', port }, decide, rate, interceptor },
      report: (result) => reports.push(result),
      count: () => {},
      closed: close,
    });
    relay.start();
    resolve({ relay, closed });
  });
  const guest = connect({ port: front, host: '127.0.0.1', allowHalfOpen: true });
  guest.on('error', () => {});
  const got: Buffer[] = [];
  guest.on('data', (chunk) => got.push(chunk));
  const text = () => Buffer.concat(got).toString();
  return { guest, rate, reports, received, text, ...(await promise) };
}

test('what the server says after the guest closed its side arrives', async (t) => {
  const { guest, text, closed, reports } = await relayed(t, () => ALLOW);
  guest.end('all of it');
  await closed;
  assert.equal(text(), 'all of it');
  assert.deepEqual(reports, ['Flow/Allowed']);
});

test('no byte of the guest passes before the name in it is decided', async (t) => {
  const { guest, received, closed, reports } = await relayed(t, ({ httpHost }) =>
    httpHost === undefined ? INSPECT : DENY,
  );
  guest.write('GET / HTTP/1.1\r\nHo');
  guest.write('st: b.example\r\n\r\n');
  await closed;
  assert.deepEqual(received, []);
  assert.deepEqual(reports, ['Flow/Denied']);
});

test('bytes that were held back pass whole when the name is allowed', async (t) => {
  const { guest, text, closed } = await relayed(t, ({ httpHost }) =>
    httpHost === undefined ? INSPECT : ALLOW,
  );
  const request = 'GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nand a body';
  guest.end(request);
  await closed;
  assert.equal(text(), request);
});

test('a later request on the same connection is decided by its own host', async (t) => {
  const { guest, received, closed, reports } = await relayed(t, ({ httpHost }) =>
    httpHost === undefined ? INSPECT : httpHost === 'a.example' ? ALLOW : DENY,
  );
  const request = (host: string) => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  guest.write(request('a.example'));
  guest.write(request('a.example'));
  guest.write(request('b.example'));
  await closed;
  assert.equal(Buffer.concat(received).toString().includes('b.example'), false);
  assert.deepEqual(reports, ['Flow/Allowed', 'Flow/Denied']);
});

test('bytes that hide their name are refused where a name decides', async (t) => {
  const { guest, received, closed, reports } = await relayed(t, () => INSPECT);
  guest.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  await closed;
  assert.deepEqual(received, []);
  assert.deepEqual(reports, ['Flow/Denied']);
});

test('a flow that another policy forbids is cut', async (t) => {
  let verdict = ALLOW;
  const { guest, relay, closed, reports } = await relayed(t, () => verdict);
  relay.reconsider();
  assert.deepEqual(reports, ['Flow/Allowed']);
  verdict = DENY;
  const { promise: gone, resolve: close } = Promise.withResolvers<void>();
  guest.on('close', () => close());
  relay.reconsider();
  await closed;
  await gone;
  assert.deepEqual(reports, ['Flow/Allowed', 'Flow/Cut']);
});

test('a rate that comes while a connection stands holds what it sends from then on', async (t) => {
  const { guest, relay, rate, received, closed } = await relayed(t, () => ALLOW);
  const bytes = () => received.reduce((sum, { length }) => sum + length, 0);
  guest.write(Buffer.alloc(1_000));
  while (bytes() < 1_000) await new Promise((resolve) => setTimeout(resolve, 5));
  rate.set(100_000);
  relay.applyRate();
  const began = performance.now();
  guest.end(Buffer.alloc(100_000));
  await closed;
  assert.equal(bytes(), 101_000);
  // What was saved up is a quarter of a second's worth.
  assert.ok(performance.now() - began > 500);
});
