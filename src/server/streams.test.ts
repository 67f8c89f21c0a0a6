import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { CHANNEL, frame } from '../api/channels.ts';
import { BulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { ExecQuery } from '../api/wire.ts';
import { STREAM_BUFFER_BYTES, STREAMS_PER_SANDBOX_MAX } from './limits.ts';
import type { FakeCommand } from './testing/fake-guest.ts';
import { type Harness, type HarnessOptions, sandboxDocument, startHarness } from './testing/harness.ts';

const EXEC = '/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes/a/exec';

async function withSandbox(options: HarnessOptions = {}): Promise<Harness> {
  const harness = await startHarness(options);
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  return harness;
}

function exec(harness: Harness, command: string[], query: Partial<ExecQuery> = {}) {
  const all = { command, stdin: false, stdout: true, stderr: true, tty: false, ...query };
  return harness.client.exec('default', 'a', all);
}

/** A raw WebSocket, for what the client would never send, and its first message. */
async function rawSocket(harness: Harness, query: string, protocols = ['v5.channel.k8s.io']) {
  const socket = new WebSocket(`ws://localhost${EXEC}?${query}`, protocols, {
    createConnection: () => connect(harness.socketPath),
  });
  const first = once(socket, 'message').then(([message]) => message as Buffer);
  first.catch(() => {});
  await once(socket, 'open');
  return { socket, first };
}

test('output arrives on its own stream, and the exit code at the end', async () => {
  await using harness = await withSandbox();
  const stream = await exec(harness, ['fail']);
  assert.equal(await text(stream.stdout), 'to stdout\n');
  assert.equal(await text(stream.stderr), 'to stderr\n');
  assert.equal((await stream.exited).exitCode, 3);
});

test('success, signals and failures to start are told apart', async () => {
  await using harness = await withSandbox();
  const exit = async (command: string[]) => {
    const stream = await exec(harness, command);
    stream.stdout.resume();
    return stream.exited;
  };
  assert.deepEqual(await exit(['exit', '0']), { exitCode: 0, signal: '', timedOut: false, oomKilled: false });
  assert.deepEqual(await exit(['killed']), {
    exitCode: 137,
    signal: 'SIGKILL',
    timedOut: false,
    oomKilled: false,
  });
  await assert.rejects(exit(['nothing']), (error) => {
    assert.ok(error instanceof BulkheadError);
    assert.equal(error.code, 'COMMAND_NOT_FOUND');
    assert.equal(error.row.exitCode, 127);
    return true;
  });
});

test('a command gets the environment, folder and user of its sandbox, under those of the request', async () => {
  await using harness = await withSandbox();
  const stream = await exec(harness, ['env'], { env: ['MODE=mine', 'X=a=b'], workingDir: '/tmp' });
  assert.equal(await text(stream.stdout), 'PATH=/bin\nMODE=mine\nX=a=b\n');
  const [request] = harness.sandboxes.agent.requests;
  assert.equal(request?.cwd, '/tmp');
  assert.equal(request?.user, 'app');
  assert.match(request?.sessionId ?? '', /^[a-z0-9-]{1,63}$/);
});

test("the image's entrypoint goes before the command where that is asked for", async () => {
  await using harness = await withSandbox();
  const withArguments = await exec(harness, ['arg'], { entrypoint: true });
  assert.equal(await text(withArguments.stdout), 'entry arg\n');
  const without = await exec(harness, [], { entrypoint: true });
  assert.equal(await text(without.stdout), 'entry default\n');
});

test('stdin goes through unchanged and its end reaches the command', async () => {
  await using harness = await withSandbox();
  const stream = await exec(harness, ['cat'], { stdin: true });
  const data = Buffer.alloc(5 << 20, 'abcdefg');
  stream.stdin.end(data);
  assert.ok((await buffer(stream.stdout)).equals(data));
  assert.equal((await stream.exited).exitCode, 0);
});

test('without stdin the command has none, whatever the client sends', async () => {
  await using harness = await withSandbox();
  const stream = await exec(harness, ['trap']);
  stream.stdin.write('ignored');
  await once(stream.stdout, 'data');
  stream.signal('SIGINT');
  assert.equal((await stream.exited).exitCode, 9);
  assert.equal(harness.sandboxes.agent.requests[0]?.stdin, false);
});

test('a terminal has its first size at the start and follows the window', async () => {
  await using harness = await withSandbox();
  const stream = await exec(harness, ['size'], { tty: true, columns: 100, rows: 30 });
  await once(stream.stdout, 'readable');
  stream.resize({ columns: 120, rows: 40 });
  assert.equal(await text(stream.stdout), '100x30\n120x40\n');
});

test('signals reach the command', async () => {
  await using harness = await withSandbox();
  const stream = await exec(harness, ['trap']);
  await once(stream.stdout, 'readable');
  stream.signal('SIGTERM');
  assert.equal(await text(stream.stdout), 'ready\nSIGTERM\n');
});

test('a signal to a command that has ended ends its stream, whatever output is still to come', async () => {
  await using harness = await withSandbox();
  const stream = await exec(harness, ['lingering']);
  await once(stream.stdout, 'readable');
  await harness.sandboxes.agent.processes[0]?.exited;
  stream.signal('SIGTERM');
  assert.equal((await stream.exited).exitCode, 7);
  await harness.sandboxes.agent.processes[0]?.released;
});

test('a reader that stalls holds its command back, and only that one', async () => {
  const endless: FakeCommand = async ({ out }) => {
    for (;;) await out(Buffer.alloc(64 * 1024));
  };
  await using harness = await withSandbox({ commands: { endless } });
  const { socket: stalled } = await rawSocket(harness, 'command=endless');
  stalled.pause();
  const other = await exec(harness, ['echo', 'prompt']);
  assert.equal(await text(other.stdout), 'prompt\n');
  const [endlessProcess] = harness.sandboxes.agent.processes;
  const taken = await settled(() => endlessProcess?.taken ?? 0);
  // What the server holds, and what the kernel's socket buffers take.
  assert.ok(taken < STREAM_BUFFER_BYTES + 4 * 1024 * 1024, `${taken} bytes were taken`);
  stalled.terminate();
  await endlessProcess?.released;
});

/** The value once it has stopped to move. */
async function settled(value: () => number): Promise<number> {
  for (let last = -1; ; ) {
    const now = value();
    if (now === last) return now;
    last = now;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

test('a command that does not read holds the sender back', async () => {
  const deaf: FakeCommand = async ({ nextSignal }) => {
    await nextSignal();
    return {};
  };
  await using harness = await withSandbox({ commands: { deaf } });
  const stream = await exec(harness, ['deaf'], { stdin: true });
  let written = 0;
  const write = () => {
    while (stream.stdin.write(Buffer.alloc(64 * 1024))) written += 64 * 1024;
    stream.stdin.once('drain', write);
  };
  write();
  const total = await settled(() => written);
  assert.ok(total < 16 * 1024 * 1024, `${total} bytes were taken`);
  stream.close();
  await harness.sandboxes.agent.processes[0]?.released;
});

test('a command whose client leaves is hung up on and its session released', async () => {
  await using harness = await withSandbox();
  const stream = await exec(harness, ['trap']);
  await once(stream.stdout, 'readable');
  const [process] = harness.sandboxes.agent.processes;
  stream.close();
  await process?.released;
  assert.deepEqual(process?.signals, ['SIGHUP']);
  await harness.server.close();
  assert.equal(harness.sandboxes.inUse, 0);
});

const MALFORMED: [string, Buffer | string, number][] = [
  ['a text message', 'hello', 1003],
  ['an empty message', Buffer.alloc(0), 1002],
  ['an unknown channel', Buffer.of(9, 1), 1002],
  ['output from the client', frame(CHANNEL.stdout, Buffer.from('x')), 1002],
  ['a resize that is no JSON', frame(CHANNEL.resize, Buffer.from('80x24')), 1002],
  ['a resize to nothing', frame(CHANNEL.resize, Buffer.from('{"Width":0,"Height":0}')), 1002],
  ['a resize that is too long', frame(CHANNEL.resize, Buffer.alloc(10_000, '{')), 1002],
  ['a close of two channels', frame(CHANNEL.close, Buffer.of(0, 1)), 1002],
  ['a signal with a strange name', frame(CHANNEL.signal, Buffer.from('KILL; rm')), 1002],
  [
    'an acknowledgement where there is none',
    frame(CHANNEL.ack, Buffer.from('{"stdout":0,"stderr":0}')),
    1002,
  ],
  ['a message above the limit', frame(CHANNEL.stdin, Buffer.alloc(2 << 20)), 1009],
];
for (const [what, message, code] of MALFORMED) {
  test(`${what} closes the connection and ends the command`, async () => {
    await using harness = await withSandbox();
    const { socket, first } = await rawSocket(harness, 'command=trap&stdin=true');
    await first;
    const closed = once(socket, 'close');
    socket.send(message);
    const [received] = (await closed) as [number];
    assert.equal(received, code);
    await harness.sandboxes.agent.processes[0]?.released;
  });
}

test('v4 clients work without the close signal, others are refused before the upgrade', async () => {
  await using harness = await withSandbox();
  const { socket, first } = await rawSocket(harness, 'command=echo&command=hi', ['v4.channel.k8s.io']);
  assert.equal(socket.protocol, 'v4.channel.k8s.io');
  assert.deepEqual(await first, frame(CHANNEL.stdout, Buffer.from('hi\n')));
  await assert.rejects(rawSocket(harness, 'command=echo', ['channel.k8s.io']), /400/);
});

test('what is wrong before the upgrade is an ordinary error', async () => {
  await using harness = await withSandbox();
  const { client, sandboxes } = harness;
  const code = (expected: string) => (error: unknown) => (error as BulkheadError).code === expected;
  const query = { command: ['echo'], stdin: false, stdout: true, stderr: true, tty: false };
  await assert.rejects(client.exec('default', 'b', query), code('NOT_FOUND'));
  await assert.rejects(exec(harness, []), code('BAD_REQUEST'));
  await assert.rejects(exec(harness, ['echo'], { env: ['NOVALUE'] }), code('BAD_REQUEST'));
  await assert.rejects(exec(harness, ['echo'], { tty: true, columns: 0 }), code('BAD_REQUEST'));
  sandboxes.stopped.add('a');
  await assert.rejects(exec(harness, ['echo']), code('SANDBOX_NOT_RUNNING'));
});

test('an upgrade of a path that is none is not found', async () => {
  await using harness = await withSandbox();
  for (const path of ['//?a', '//', '*', '/%', EXEC.replace('/exec', '%ff/exec')]) {
    const socket = connect(harness.socketPath);
    const headers = 'Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket';
    socket.write(`GET ${path} HTTP/1.1\r\n${headers}\r\nSec-WebSocket-Version: 13\r\n\r\n`);
    assert.match(await text(socket), /^HTTP\/1\.1 404 /, path);
  }
});

test('one sandbox has a bounded number of open streams', async () => {
  await using harness = await withSandbox();
  const open = await Promise.all(
    Array.from({ length: STREAMS_PER_SANDBOX_MAX }, () => exec(harness, ['trap'])),
  );
  await assert.rejects(
    exec(harness, ['echo']),
    (error) => (error as BulkheadError).code === 'TOO_MANY_REQUESTS',
  );
  for (const stream of open) stream.signal('SIGTERM');
  for (const stream of open) {
    stream.stdout.resume();
    await stream.exited;
  }
});

test('attach joins the main process', async () => {
  await using harness = await withSandbox();
  const stream = await harness.client.attach('default', 'a', { stdin: true, stdout: true, stderr: true });
  stream.stdin.end('to main');
  assert.equal(await text(stream.stdout as Readable), 'to main');
  assert.equal((await stream.exited).exitCode, 0);
});

test('a server that closes ends its streams, and the client says the connection broke', async () => {
  const harness = await withSandbox();
  const stream = await exec(harness, ['trap']);
  await once(stream.stdout, 'readable');
  await harness[Symbol.asyncDispose]();
  await assert.rejects(stream.exited, (error) => (error as BulkheadError).code === 'DAEMON_UNAVAILABLE');
});

test('who asks for it is told when the command runs, before its output', async () => {
  await using harness = await withSandbox();
  const stream = await exec(harness, ['echo', 'hi'], { started: true });
  assert.equal(await stream.started, 42);
  assert.equal(await text(stream.stdout), 'hi\n');
  const failed = await exec(harness, ['no-such'], { started: true });
  await assert.rejects(failed.started, { code: 'SANDBOX_NOT_RUNNING' });
});

test('a sandbox is held while the connection stands, and only then', async () => {
  await using harness = await withSandbox();
  const stop = new AbortController();
  let lost = 0;
  await harness.client.hold('default', 'a', stop.signal, () => lost++);
  const other = new AbortController();
  await harness.client.hold('default', 'a', other.signal, () => lost++);
  assert.equal(harness.sandboxes.held.length, 2);
  stop.abort();
  while (harness.sandboxes.held.length > 1) await new Promise(setImmediate);
  await assert.rejects(harness.client.hold('default', 'nobody', stop.signal, () => {}));
  await harness.server.close();
  while (lost === 0) await new Promise(setImmediate);
  assert.deepEqual([harness.sandboxes.held.length, lost], [0, 1]);
});
