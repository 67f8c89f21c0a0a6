// Connections to a port of a guest, through the server and the client.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { WebSocket } from 'ws';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { PORT_FORWARD_PROTOCOL } from '../api/port-forward.ts';
import { FORWARDS_PER_SANDBOX_MAX } from './limits.ts';
import { sandboxDocument, startHarness } from './testing/harness.ts';

/** A guest whose every port is served so. */
async function world(t: TestContext, serve: (socket: Socket) => unknown) {
  const harness = await startHarness();
  t.after(() => harness[Symbol.asyncDispose]());
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    void serve(socket);
  });
  server.listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const ports: number[] = [];
  harness.sandboxes.dial = async (wanted) => {
    ports.push(wanted);
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  };
  const forward = (to = 8000): Promise<Duplex> => harness.client.portForward('default', 'a', to);
  return { harness, ports, forward };
}

async function used(harness: { sandboxes: { inUse: number } }, count: number): Promise<void> {
  while (harness.sandboxes.inUse !== count) await new Promise((resolve) => setImmediate(resolve));
}

test('bytes pass both ways, and a side that has ended still hears the other', async (t) => {
  const { harness, ports, forward } = await world(t, async (socket) => {
    const got = await buffer(socket);
    socket.end(Buffer.concat([Buffer.from('got: '), got]));
  });
  const stream = await forward(8000);
  assert.equal(harness.sandboxes.inUse, 1);
  const data = Buffer.alloc(3 << 20, 'abcdefg');
  stream.end(data);
  assert.ok((await buffer(stream)).equals(Buffer.concat([Buffer.from('got: '), data])));
  assert.deepEqual(ports, [8000]);
  await used(harness, 0);
});

test('what the guest says first and last arrives although nobody reads at once', async (t) => {
  const { forward } = await world(t, (socket) => {
    socket.end('hello');
    socket.resume();
  });
  const stream = await forward();
  stream.end();
  await once(stream, 'finish');
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(await text(stream), 'hello');
});

test('a client that does not read holds the guest back', async (t) => {
  let written = 0;
  const chunk = Buffer.alloc(64 * 1024);
  const { promise: full, resolve } = Promise.withResolvers<void>();
  const { forward } = await world(t, (socket) => {
    const write = () => {
      while (socket.write(chunk)) written += chunk.length;
      // Nothing drains for a while: it is held back.
      const timer = setTimeout(resolve, 300);
      socket.once('drain', () => {
        clearTimeout(timer);
        write();
      });
    };
    write();
  });
  const stream = await forward();
  await full;
  assert.ok(written < 64 << 20, `${written}`);
  stream.destroy();
});

test('a connection that breaks on one side is reset on the other', async (t) => {
  const { promise: broken, resolve } = Promise.withResolvers<string | undefined>();
  const { harness, forward } = await world(t, (socket) => {
    socket.once('data', (data) => {
      if (data.toString() === 'reset me') socket.resetAndDestroy();
    });
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code));
  });
  const reset = await forward();
  reset.write('reset me');
  await assert.rejects(buffer(reset), /reset/);
  const left = await forward();
  left.write('x');
  await used(harness, 1);
  left.destroy();
  assert.equal(await broken, 'ECONNRESET');
  await used(harness, 0);
});

test('what cannot be reached is a failed request that says why', async (t) => {
  const { harness } = await world(t, () => {});
  const { client, sandboxes } = harness;
  sandboxes.dial = (await startHarnessDial()).dial;
  await assert.rejects(client.portForward('default', 'a', 81), {
    code: 'PORT_UNREACHABLE',
    message: /port 81 /,
  });
  assert.equal(sandboxes.inUse, 0);
  await assert.rejects(client.portForward('default', 'b', 81), { code: 'NOT_FOUND' });
  sandboxes.stopped.add('a');
  await assert.rejects(client.portForward('default', 'a', 81), { code: 'SANDBOX_NOT_RUNNING' });
  sandboxes.stopped.clear();
  for (const port of [0, 65_536, 1.5])
    await assert.rejects(client.portForward('default', 'a', port), { code: 'BAD_REQUEST' });
});

/** As the harness has it where no test says otherwise. */
async function startHarnessDial() {
  await using harness = await startHarness();
  return { dial: harness.sandboxes.dial };
}

test('connections of one sandbox are bounded, and those that end make room', async (t) => {
  const { harness, forward } = await world(t, () => {});
  const streams = await Promise.all(Array.from({ length: FORWARDS_PER_SANDBOX_MAX }, () => forward()));
  await assert.rejects(forward(), { code: 'TOO_MANY_REQUESTS' });
  for (const stream of streams) stream.destroy();
  await used(harness, 0);
  (await forward()).destroy();
});

test('a client that breaks the protocol is left, and the guest is told', async (t) => {
  const { promise: gone, resolve } = Promise.withResolvers<void>();
  const { harness } = await world(t, (socket) => socket.on('close', () => resolve()));
  const path = '/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes/a/portforward?port=80';
  const open = (protocol: string) =>
    new WebSocket(`ws://localhost${path}`, [protocol], {
      createConnection: () => connect(harness.socketPath),
    });
  const other = open('v5.channel.k8s.io');
  const [failure] = (await once(other, 'error')) as [Error];
  assert.match(failure.message, /400/);
  const socket = open(PORT_FORWARD_PROTOCOL);
  await once(socket, 'open');
  socket.send('something else');
  const [code] = (await once(socket, 'close')) as [number];
  assert.equal(code, 1002);
  await gone;
});
