import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { BulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { FakeCommand } from '../server/testing/fake-guest.ts';
import { type Harness, sandboxDocument, startHarness } from '../server/testing/harness.ts';
import { ImageError, SandboxNotRunningError } from './errors.ts';
import { allSandboxMetrics } from './metrics.ts';
import { Sandbox } from './sandbox.ts';
import { Volume } from './volume.ts';

const READY = { type: 'Ready', status: 'True', reason: 'Ready', message: 'it answers' };

/** A sandbox of the store that says that it runs. */
async function running(harness: Harness, name: string): Promise<Sandbox> {
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument(name));
  const object = await harness.client.get(SANDBOX_KIND, 'default', name);
  const lastTransitionTime = new Date().toISOString();
  const status = {
    phase: 'Running',
    conditions: [{ ...READY, lastTransitionTime, observedGeneration: object.metadata.generation }],
  };
  await harness.store.updateStatus({ kind: SANDBOX_KIND.kind, namespace: 'default', name }, status);
  return (await Sandbox.get(name, { socketPath: harness.socketPath })).connect();
}

test('where it cannot be held, an attached sandbox is not left behind', async () => {
  await using harness = await startHarness();
  harness.sandboxes.hold = () => {
    throw new BulkheadError('INTERNAL', 'no holds today');
  };
  const options = { socketPath: harness.socketPath };
  await assert.rejects(Sandbox.create({ name: 'a', image: 'busybox' }, options), /no holds today/);
  assert.deepEqual(await Sandbox.list(options), []);
});

test('a start that is given up lets the hold go and removes what it made', async () => {
  await using harness = await startHarness();
  const options = { socketPath: harness.socketPath };
  const stop = new AbortController();
  const starting = Sandbox.create({ name: 'a', image: 'busybox' }, { ...options, signal: stop.signal });
  while (harness.sandboxes.held.length === 0) await new Promise(setImmediate);
  stop.abort(new Error('no longer wanted'));
  await assert.rejects(starting, /no longer wanted/);
  assert.deepEqual(await Sandbox.list(options), []);
  while (harness.sandboxes.held.length > 0) await new Promise(setImmediate);
});

test('credentials go to the registry of the image, for this pull alone', async () => {
  await using harness = await startHarness();
  const options = { socketPath: harness.socketPath };
  const registryAuth = { username: 'me', password: 'secret' };
  for (const [image, registry] of [
    ['registry.example:5000/missing:1', 'registry.example:5000'],
    ['team/missing', 'docker.io'],
  ] as const) {
    await assert.rejects(Sandbox.create({ image, registryAuth }, options), ImageError);
    assert.deepEqual(harness.images.pulls.at(-1)?.options.credentials, [{ registry, ...registryAuth }]);
  }
  assert.deepEqual(await Sandbox.list(options), []);
});

test('drain waits for commands that still connect, and takes no new ones', async () => {
  const { promise: release, resolve } = Promise.withResolvers<void>();
  const slow: FakeCommand = async () => {
    await release;
    return { exitCode: 6 };
  };
  await using harness = await startHarness({ commands: { slow } });
  const sandbox = await running(harness, 'a');
  const connecting = sandbox.exec('slow');
  let isDrained = false;
  const draining = sandbox.drain().then(() => {
    isDrained = true;
  });
  await assert.rejects(sandbox.exec('true'), SandboxNotRunningError);
  assert.equal(isDrained, false);
  resolve();
  assert.equal((await connecting).code, 6);
  await draining;
  const { spec } = await harness.client.get(SANDBOX_KIND, 'default', 'a');
  assert.equal((spec as { operatingMode: string }).operatingMode, 'Suspended');
});

test('figures that nobody waits for any more end at once', async () => {
  await using harness = await startHarness();
  const sandbox = await running(harness, 'a');
  const hour = 3_600_000;
  for await (const { memoryBytes } of sandbox.metricsStream(hour)) {
    assert.ok(memoryBytes > 0);
    break;
  }
  const stop = new AbortController();
  const figures = sandbox.metricsStream(hour, { signal: stop.signal });
  await figures.recv();
  const next = figures.recv();
  stop.abort();
  assert.equal(await next, null);
});

/** Listens on a free port until the test ends. */
async function listening(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, serve).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

test('a port of a sandbox is reached directly, and through one of this machine until that is closed', async (t) => {
  await using harness = await startHarness();
  const sandbox = await running(harness, 'a');
  const ports = new Map([
    [80, await listening(t, (socket) => void text(socket).then((said) => socket.end(`heard ${said}`)))],
    [82, await listening(t, (socket) => socket.end('bye'))],
  ]);
  const refuse = harness.sandboxes.dial;
  harness.sandboxes.dial = async (port) => {
    const guestPort = ports.get(port);
    if (guestPort === undefined) return refuse(port);
    const socket = connect({ port: guestPort, allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  };

  const direct = await sandbox.connectPort(80);
  direct.end('directly');
  assert.equal(await text(direct), 'heard directly');
  const reading = await sandbox.connectPort(82);
  const closed = once(reading, 'close');
  assert.equal(await text(reading), 'bye');
  await closed; // nothing holds a connection whose other side has ended
  await assert.rejects(sandbox.connectPort(81), { code: 'PORT_UNREACHABLE' });

  const forwarded = await sandbox.forwardPort(80);
  assert.equal(forwarded.host, '127.0.0.1');
  const client = connect({ port: forwarded.port, allowHalfOpen: true });
  client.end('you');
  assert.equal(await text(client), 'heard you');
  await assert.rejects(sandbox.forwardPort(80, { localPort: forwarded.port }), {
    code: 'PORT_UNAVAILABLE',
    message: /is taken/,
  });

  const failures: unknown[] = [];
  await using refusing = await sandbox.forwardPort(81, { onFailure: (error) => failures.push(error) });
  const refused = connect(refusing.port, '127.0.0.1');
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
  assert.match(String(failures[0]), /Nothing listens on port 81/);

  await forwarded.close();
  const late = connect(forwarded.port, '127.0.0.1');
  assert.equal(((await once(late, 'error')) as [NodeJS.ErrnoException])[0].code, 'ECONNREFUSED');
});

test('a program with a forwarded port, and a connection over it, ends by itself', async (t) => {
  await using harness = await startHarness();
  await running(harness, 'a');
  const guest = createServer((socket) => socket.write('hello')).listen(0, '127.0.0.1');
  await once(guest, 'listening');
  const guestSockets: Socket[] = [];
  // The end of the program resets its connection.
  guest.on('connection', (socket) => guestSockets.push(socket.on('error', () => {})));
  t.after(() => {
    for (const socket of guestSockets) socket.destroy();
    guest.close();
  });
  harness.sandboxes.dial = async () => {
    const socket = connect((guest.address() as AddressInfo).port);
    await once(socket, 'connect');
    return socket;
  };
  const source = `
    import { once } from 'node:events';
    import { connect } from 'node:net';
    import { Sandbox } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
    const box = await (await Sandbox.get('a', { socketPath: ${JSON.stringify(harness.socketPath)} })).connect();
    const { port } = await box.forwardPort(80);
    const client = connect(port);
    console.log(String((await once(client, 'data'))[0]));
    client.unref();
  `;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', source],
    { timeout: 60_000 },
  );
  assert.equal(stdout, 'hello\n');
});

test('whoever gives up waiting is let go at once, whatever he asked for', async () => {
  await using harness = await startHarness();
  const sandbox = await running(harness, 'a');
  const handle = await Sandbox.get('a', { socketPath: harness.socketPath });
  const given = (): { signal: AbortSignal; socketPath: string } => ({
    signal: AbortSignal.abort(new Error('no longer wanted')),
    socketPath: harness.socketPath,
  });
  const calls: Record<string, () => Promise<unknown>> = {
    get: () => Sandbox.get('a', given()),
    list: () => Sandbox.list(given()),
    remove: () => Sandbox.remove('a', given()),
    start: () => Sandbox.start('a', given()),
    all: () => allSandboxMetrics(given()),
    volume: () => Volume.create({ name: 'v' }, given()),
    volumes: () => Volume.list(given()),
    exec: () => sandbox.exec('echo', [], given()),
    read: () => sandbox.fs().read('/x', given()),
    write: () => sandbox.fs().write('/x', 'y', given()),
    stop: () => sandbox.stop(given()),
    kill: () => sandbox.kill(given()),
    wait: () => sandbox.wait(given()),
    detach: () => sandbox.removePersisted(given()),
    metrics: () => sandbox.metrics(given()),
    handleStop: () => handle.stop(given()),
    handleConnect: () => handle.connect(given()),
    handleMetrics: () => handle.metrics(given()),
  };
  for (const [name, call] of Object.entries(calls)) await assert.rejects(call, /no longer wanted/, name);
  assert.equal((await sandbox.exec('echo', ['still'])).stdout(), 'still\n');
});
