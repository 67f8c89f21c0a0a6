// What a guest sends over UDP, between sockets of this process.
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import type { FlowVerdict } from '../policy/flow.ts';
import { flow } from '../testing/policies.ts';
import { DatagramRelay, type DatagramRelayOptions } from './datagram-relay.ts';
import { DatagramSession, type Endpoint } from './datagram-session.ts';
import { EgressRate } from './egress-rate.ts';
import { UDP_IDLE_MS, UDP_REFUSED_MS, UDP_SWEEP_MS, UDP_UNANSWERED_MS } from './limits.ts';

const SESSIONS_MAX = 8;
const MODE = { kind: 'Mode', mode: 'AllowAll' } as const;
const ALLOW: FlowVerdict = { allowed: true, by: MODE, inspect: false };
const DENY: FlowVerdict = { allowed: false, by: MODE, inspect: false };

async function bound(t: TestContext): Promise<Socket> {
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

/** A guest's socket, and a relay whose every destination is one server. */
async function world(
  t: TestContext,
  more: Partial<DatagramRelayOptions> = {},
  { perSecond, target }: { perSecond?: number; target?: Endpoint } = {},
) {
  const clock = new FakeClock();
  const rate = new EgressRate(clock);
  rate.set(perSecond);
  const [guest, server] = [await bound(t), await bound(t)];
  const reports: string[] = [];
  const told: string[] = [];
  const counted = { egress: 0, ingress: 0 };
  const relay = new DatagramRelay({
    clock,
    sessionsMax: SESSIONS_MAX,
    open: (from, _destination, closed) =>
      new DatagramSession({
        ...{ rate, closed, guest: from, now: () => clock.monotonic() },
        socket: createSocket('udp6').bind(0),
        target: target ?? { host: '127.0.0.1', port: server.address().port },
        count: (egress, ingress) => {
          counted.egress += egress;
          counted.ingress += ingress;
        },
      }),
    flowTo: ({ host, port }) => flow(host, { protocol: 'UDP', port }),
    decide: () => ALLOW,
    mayOpen: () => true,
    report: ({ host, port }, result) => reports.push(`${result} ${host} ${port}`),
    unreachable: ({ port }, destination, why) =>
      told.push(`${why} ${port === guest.address().port} ${destination.host} ${destination.port}`),
    ...more,
  });
  t.after(() => relay.close());
  const send = (text: string, destination = '20.0.0.10 9999') =>
    relay.take(`127.0.0.1 ${guest.address().port} ${destination}`, Buffer.from(text));
  const received = async (socket: Socket) => {
    const [payload, from] = (await once(socket, 'message')) as [Buffer, { port: number }];
    return { text: payload.toString(), port: from.port };
  };
  return { clock, relay, guest, server, reports, told, counted, send, received };
}

test('datagrams go to the destination and its answers come back, each counted', async (t) => {
  const { send, received, guest, server, reports, counted } = await world(t);
  send('question');
  const { text, port } = await received(server);
  assert.equal(text, 'question');
  server.send('an answer', port, '127.0.0.1');
  assert.equal((await received(guest)).text, 'an answer');
  assert.deepEqual(reports, ['Flow/Allowed 20.0.0.10 9999']);
  assert.deepEqual(counted, { egress: 8, ingress: 9 });
});

test('one flow keeps its socket, another has one of its own', async (t) => {
  const { relay, send, received, server } = await world(t);
  send('a');
  const first = await received(server);
  send('b');
  assert.equal((await received(server)).port, first.port);
  send('c', '20.0.0.11 9999');
  assert.notEqual((await received(server)).port, first.port);
  assert.equal(relay.size, 2);
});

test('what is refused is told once, and again when that may have changed', async (t) => {
  const { clock, relay, send, reports, told } = await world(t, { decide: () => DENY });
  send('a');
  send('b');
  assert.deepEqual(reports, ['Flow/Denied 20.0.0.10 9999']);
  assert.deepEqual(told, ['Denied true 20.0.0.10 9999']);
  relay.reconsider();
  send('c');
  assert.equal(reports.length, 2);
  await clock.advance(UDP_REFUSED_MS);
  send('d');
  assert.equal(reports.length, 3);
  assert.equal(relay.size, 0);
});

test('a session that a changed policy forbids is cut', async (t) => {
  let verdict = ALLOW;
  const { relay, send, received, server, reports } = await world(t, { decide: () => verdict });
  send('a');
  await received(server);
  verdict = DENY;
  relay.reconsider();
  assert.equal(relay.size, 0);
  send('b');
  assert.deepEqual(reports, [
    'Flow/Allowed 20.0.0.10 9999',
    'Flow/Cut 20.0.0.10 9999',
    'Flow/Denied 20.0.0.10 9999',
  ]);
});

test('sessions without an answer are forgotten sooner than those with', async (t) => {
  const { clock, relay, send, received, guest, server } = await world(t);
  send('unanswered');
  await received(server);
  await clock.advance(UDP_UNANSWERED_MS);
  assert.equal(relay.size, 0);
  send('answered');
  server.send('yes', (await received(server)).port, '127.0.0.1');
  await received(guest);
  await clock.advance(UDP_UNANSWERED_MS + UDP_SWEEP_MS);
  assert.equal(relay.size, 1);
  await clock.advance(UDP_IDLE_MS);
  assert.equal(relay.size, 0);
  assert.deepEqual(clock.pending, []);
});

test('sessions are bounded, and those that the sandbox may not open are refused', async (t) => {
  let free = true;
  const { relay, send, reports } = await world(t, { mayOpen: () => free });
  for (let port = 1; port <= SESSIONS_MAX; port += 1) send('x', `20.0.0.10 ${port}`);
  send('x', '20.0.0.11 1');
  assert.equal(relay.size, SESSIONS_MAX);
  assert.equal(reports.at(-1), 'Flow/Limited 20.0.0.11 1');
  relay.close();
  assert.equal(relay.size, 0);
  free = false;
  const other = await world(t, { mayOpen: () => free });
  other.send('x');
  assert.deepEqual(other.reports, ['Flow/Limited 20.0.0.10 9999']);
  assert.deepEqual(other.told, []);
});

test('a destination that takes nothing ends the session', async (t) => {
  // Nobody has port 1.
  const { relay, send, reports, told } = await world(t, {}, { target: { host: '127.0.0.1', port: 1 } });
  send('x');
  while (relay.size > 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(told, ['Failed true 20.0.0.10 9999']);
  assert.deepEqual(reports, ['Flow/Allowed 20.0.0.10 9999', 'Flow/Failed 20.0.0.10 9999']);
});

test('what exceeds the rate is dropped', async (t) => {
  const { clock, send, received, server, counted } = await world(t, {}, { perSecond: 1_000 });
  send('x'.repeat(500));
  await received(server);
  send('dropped');
  await clock.advance(1_000);
  send('passes');
  assert.equal((await received(server)).text, 'passes');
  assert.equal(counted.egress, 506);
});

test('a session that cannot be opened is told as failed', async (t) => {
  const { relay, send, reports } = await world(t, {
    open: () => {
      throw new Error('no socket');
    },
  });
  send('x');
  assert.equal(relay.size, 0);
  assert.deepEqual(reports, ['Flow/Failed 20.0.0.10 9999']);
});
