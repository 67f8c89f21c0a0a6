// Ports of a guest that the host publishes; the guest is this process.
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { UDP_IDLE_MS, UDP_SWEEP_MS } from './limits.ts';
import { type GuestWays, PublishedPorts } from './published-ports.ts';

async function bound(t: TestContext): Promise<Socket> {
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

async function world(
  t: TestContext,
  dial: GuestWays['dial'] = () => Promise.reject(new Error('no TCP here')),
) {
  const clock = new FakeClock();
  const guest = await bound(t);
  const { port } = guest.address();
  let made = 0;
  const ports = new PublishedPorts({
    ...{ clock, address: '127.0.0.1' },
    dial,
    bind: () => {
      made += 1;
      return createSocket('udp6').bind(0);
    },
  });
  t.after(() => ports.close());
  const wanted = { name: 'udp', protocol: 'UDP', port, hostIP: '127.0.0.1' } as const;
  return { clock, guest, ports, wanted, made: () => made };
}

async function received(socket: Socket): Promise<{ text: string; port: number }> {
  const [payload, from] = (await once(socket, 'message')) as [Buffer, { port: number }];
  return { text: payload.toString(), port: from.port };
}

function hostPortOf(result: unknown): number {
  return (result as { hostPort: number }).hostPort;
}

test('each client of a UDP port has a way of its own to the guest and back', async (t) => {
  const { guest, ports, wanted, made } = await world(t);
  const [result] = await ports.set([wanted]);
  const clients = [await bound(t), await bound(t)];
  const seen = new Set<number>();
  for (const [index, client] of [...clients, ...clients].entries()) {
    client.send(`hello ${index}`, hostPortOf(result), '127.0.0.1');
    const { text, port } = await received(guest);
    assert.equal(text, `hello ${index}`);
    seen.add(port);
    guest.send(`to ${index}`, port, '127.0.0.1');
    assert.deepEqual(await received(client), { text: `to ${index}`, port: hostPortOf(result) });
  }
  assert.equal(seen.size, 2);
  assert.equal(made(), 2);
  assert.deepEqual(ports.carried, { egressBytes: 4 * 'to 0'.length, ingressBytes: 4 * 'hello 0'.length });
});

test('bytes of a connection are counted while it stands and when it is gone', async (t) => {
  const server = createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { ports, wanted } = await world(t, async () => {
    const socket = connect({
      port: (server.address() as AddressInfo).port,
      host: '127.0.0.1',
      allowHalfOpen: true,
    });
    await once(socket, 'connect');
    return socket;
  });
  const [result] = await ports.set([{ ...wanted, protocol: 'TCP' }]);
  const client = connect(hostPortOf(result), '127.0.0.1');
  client.write('hello');
  await once(client, 'data');
  const counted = { egressBytes: 5, ingressBytes: 5 };
  assert.deepEqual(ports.carried, counted);
  for (const moment of ['first', 'second']) assert.equal(ports.takeUsed(), true, `it stands: ${moment}`);
  client.end();
  await once(client, 'close');
  assert.deepEqual(ports.carried, counted);
  assert.equal(ports.takeUsed(), true, 'it stood until a moment ago');
  assert.equal(ports.takeUsed(), false);
});

test('clients of a UDP port that say nothing are forgotten', async (t) => {
  const { clock, guest, ports, wanted, made } = await world(t);
  const [result] = await ports.set([wanted]);
  const client = await bound(t);
  for (const expected of [1, 2]) {
    client.send('hello', hostPortOf(result), '127.0.0.1');
    await received(guest);
    assert.equal(made(), expected);
    assert.deepEqual([ports.takeUsed(), ports.takeUsed()], [true, false]);
    await clock.advance(UDP_IDLE_MS + UDP_SWEEP_MS);
    assert.deepEqual(clock.pending, []);
  }
});

test('a UDP port that is taken names who has it, and is published once it is free', async (t) => {
  const { ports, wanted } = await world(t);
  const holder = createSocket('udp4').bind(0, '127.0.0.1');
  await once(holder, 'listening');
  const { port: hostPort } = holder.address();
  const [taken] = await ports.set([{ ...wanted, hostPort }]);
  assert.match(
    (taken as { problem: string }).problem,
    new RegExp(`^127\\.0\\.0\\.1:${hostPort} \\(UDP\\) is taken by .* \\(pid ${process.pid}\\)\\.$`),
  );
  holder.close();
  await once(holder, 'close');
  assert.deepEqual(await ports.set([{ ...wanted, hostPort }]), [
    { name: 'udp', hostIP: '127.0.0.1', hostPort },
  ]);
  assert.deepEqual(await ports.set([]), []);
  const next = createSocket('udp4').bind(hostPort, '127.0.0.1');
  await once(next, 'listening');
  next.close();
});

test('the same port may be published over TCP and UDP', async (t) => {
  const { ports, wanted } = await world(t);
  const [udp] = await ports.set([wanted]);
  const hostPort = hostPortOf(udp);
  const both = await ports.set([wanted, { ...wanted, name: 'tcp', protocol: 'TCP', hostPort }]);
  assert.deepEqual(both.map(hostPortOf), [hostPort, hostPort]);
});
