// Commands that outlive their connections: what is taken up again, what is lost, and what ends.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { CHANNEL, frame } from '../api/channels.ts';
import { resumableSessionId } from '../api/exec-sessions.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { BulkheadClient } from '../client/client.ts';
import type { ResumableConnection } from '../client/resumable.ts';
import { STREAMS_PER_SANDBOX_MAX } from './limits.ts';
import { Cuttable } from './testing/cuttable.ts';
import type { FakeCommand } from './testing/fake-guest.ts';
import { type Harness, sandboxDocument, startHarness } from './testing/harness.ts';

const EXEC = '/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes/a/exec';
const PIECE = 32 * 1024;

/** Puts out `count` pieces of known bytes, as fast as they are taken. */
const FLOOD: FakeCommand = async ({ request, out }) => {
  for (let piece = 0; piece < Number(request.argv[1]); piece++) await out(Buffer.alloc(PIECE, piece % 251));
  return { exitCode: 5 };
};
/** Reads nothing of its input. */
const DEAF: FakeCommand = async ({ nextSignal }) => {
  await nextSignal();
  return {};
};
const flooded = (count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, piece) => Buffer.alloc(PIECE, piece % 251)));

interface World extends AsyncDisposable {
  harness: Harness;
  link: Cuttable;
  client: BulkheadClient;
  /** Given up at the end, where they have not ended. */
  connections: ResumableConnection[];
}

async function world(): Promise<World> {
  const harness = await startHarness({ commands: { flood: FLOOD, deaf: DEAF } });
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const link = await Cuttable.before(() => harness.socketPath, join(harness.dir, 'link.sock'));
  const client = new BulkheadClient({ socketPath: link.path });
  const connections: ResumableConnection[] = [];
  return {
    ...{ harness, link, client, connections },
    async [Symbol.asyncDispose]() {
      for (const connection of connections) connection.close();
      client.close();
      await link[Symbol.asyncDispose]();
      await harness[Symbol.asyncDispose]();
    },
  };
}

async function start(
  { client, connections }: World,
  command: string[],
  { stdin = false, resumeSeconds = 10 } = {},
) {
  const id = randomUUID();
  const query = { command, stdin, stdout: true, stderr: true, tty: false, id, resumeSeconds };
  const connection = await client.execResumable('default', 'a', query);
  connections.push(connection);
  return { id, connection };
}

test('a connection that breaks again and again loses, repeats and reorders nothing', async () => {
  await using each = await world();
  const { connection } = await start(each, ['flood', '200']);
  const received: Buffer[] = [];
  let sinceCut = 0;
  for await (const piece of connection.stdout as AsyncIterable<Buffer>) {
    received.push(piece);
    sinceCut += piece.length;
    if (sinceCut > 1_000_000) {
      sinceCut = 0;
      each.link.cut();
    }
  }
  assert.ok(Buffer.concat(received).equals(flooded(200)));
  assert.equal((await connection.exited).exitCode, 5);
  assert.deepEqual(connection.lost, { stdout: 0, stderr: 0 });
  assert.deepEqual(connection.offsets, { stdout: 200 * PIECE, stderr: 0 });
  await each.harness.sandboxes.agent.processes[0]?.released;
});

test('input that was on its way arrives once, and its end too', async () => {
  await using each = await world();
  const { connection } = await start(each, ['cat'], { stdin: true });
  const data = Buffer.concat(Array.from({ length: 90 }, (_, at) => Buffer.alloc(70_000, at)));
  const answered = buffer(connection.stdout);
  for (let at = 0; at < data.length; at += 700_000) {
    const part = data.subarray(at, at + 700_000);
    await new Promise((resolve) => connection.stdin.write(part, resolve));
    each.link.cut();
  }
  connection.stdin.end();
  assert.ok((await answered).equals(data));
  assert.equal((await connection.exited).exitCode, 0);
});

test('a command that ends while its client is away is told of when it comes back', async () => {
  await using each = await world();
  const { connection } = await start(each, ['trap']);
  await once(connection.stdout, 'readable');
  const [process] = each.harness.sandboxes.agent.processes;
  await each.link.takeDown();
  await process?.signal('SIGTERM');
  await process?.exited;
  each.link.bringUp();
  assert.equal(await text(connection.stdout), 'ready\nSIGTERM\n');
  assert.equal((await connection.exited).exitCode, 9);
});

test('signals and sizes that were given meanwhile arrive', async () => {
  await using each = await world();
  const { connection } = await start(each, ['trap']);
  await once(connection.stdout, 'readable');
  await each.link.takeDown();
  connection.signal('SIGINT');
  each.link.bringUp();
  assert.equal(await text(connection.stdout), 'ready\nSIGINT\n');
});

test('a client that does not come back in time: the command is hung up on, the client has an error of its own', async () => {
  await using each = await world();
  const { connection } = await start(each, ['trap'], { resumeSeconds: 1 });
  await once(connection.stdout, 'readable');
  await each.link.takeDown();
  await assert.rejects(connection.exited, { code: 'DAEMON_UNAVAILABLE' });
  const [process] = each.harness.sandboxes.agent.processes;
  await process?.released;
  assert.deepEqual(process?.signals, ['SIGHUP']);
  assert.equal(each.harness.sandboxes.inUse, 0);
});

test('a client that gives a command up ends it at once', async () => {
  await using each = await world();
  const { connection } = await start(each, ['trap'], { resumeSeconds: 3600 });
  await once(connection.stdout, 'readable');
  connection.close();
  const [process] = each.harness.sandboxes.agent.processes;
  await process?.released;
  assert.deepEqual(process?.signals, ['SIGHUP']);
  await assert.rejects(connection.exited, { code: 'SANDBOX_NOT_RUNNING' });
});

test('another program goes on by id and offset; the first one is told', async () => {
  await using each = await world();
  const { id, connection } = await start(each, ['trap']);
  await once(connection.stdout, 'readable');
  const other = await each.client.resumeExec('default', 'a', id, { stdout: 2, stderr: 0 }, 10);
  await assert.rejects(connection.exited, { code: 'COMMAND_LOST' });
  other.signal('SIGTERM');
  assert.equal(await text(other.stdout), 'ady\nSIGTERM\n');
  assert.equal(await other.started, 42);
});

test('one that is let go of waits, and is taken up with the input where it was', async () => {
  await using each = await world();
  const { id, connection } = await start(each, ['cat'], { stdin: true });
  connection.stdin.write('one ');
  await once(connection.stdout, 'readable');
  connection.leave();
  const other = await each.client.resumeExec('default', 'a', id, connection.offsets, 10);
  other.stdin.end('two');
  assert.equal(await text(other.stdout), 'two');
});

test('output that is kept nowhere any more is counted as lost', async () => {
  await using each = await world();
  const { id, connection } = await start(each, ['flood', '20']);
  connection.stdout.resume();
  while (connection.offsets.stdout < 10 * PIECE) await new Promise(setImmediate);
  const other = await each.client.resumeExec('default', 'a', id, { stdout: 0, stderr: 0 }, 10);
  const rest = await buffer(other.stdout);
  assert.ok(other.lost.stdout > 0 && other.lost.stdout + rest.length === 20 * PIECE);
  assert.ok(rest.equals(flooded(20).subarray(other.lost.stdout)));
});

test('what an earlier daemon left in the guest is taken up from the offset that the client has', async () => {
  await using each = await world();
  const { agent } = each.harness.sandboxes;
  const id = randomUUID();
  const sessionId = resumableSessionId(id, 10);
  await agent.exec({ sessionId, argv: ['trap'], env: [], stdin: false, overflow: 'block' });
  agent.noteSessions();
  const connection = await each.client.resumeExec('default', 'a', id, { stdout: 3, stderr: 0 }, 10);
  connection.signal('SIGTERM');
  assert.equal(await text(connection.stdout), 'dy\nSIGTERM\n');
  assert.equal((await connection.exited).exitCode, 9);
});

describe('refused', () => {
  test('ids that are none, or taken, and commands that are not there', async () => {
    await using each = await world();
    const { id } = await start(each, ['trap']);
    const query = { command: ['trap'], stdin: false, stdout: true, stderr: true, tty: false };
    const again = await each.client.execResumable('default', 'a', { ...query, id, resumeSeconds: 5 });
    await assert.rejects(again.exited, { code: 'ALREADY_EXISTS' });
    for (const bad of [
      { id: 'x', resumeSeconds: 5 },
      { id: randomUUID(), resumeSeconds: 3601 },
    ])
      await assert.rejects(each.client.execResumable('default', 'a', { ...query, ...bad }), {
        code: 'BAD_REQUEST',
      });
    const nothing = { stdout: 0, stderr: 0 };
    await assert.rejects(each.client.resumeExec('default', 'a', randomUUID(), nothing, 5), {
      code: 'COMMAND_LOST',
    });
    await assert.rejects(each.client.resumeExec('default', 'a', id, { stdout: 1e6, stderr: 0 }, 5), {
      code: 'BAD_REQUEST',
    });
  });

  test('more input than may be on its way, and acknowledgements of what was never sent', async () => {
    await using each = await world();
    const messages: Record<string, Buffer[]> = {
      deaf: Array.from({ length: 12 }, () => frame(CHANNEL.stdin, Buffer.alloc(64 * 1024))),
      trap: [frame(CHANNEL.ack, Buffer.from('{"stdout":1000000,"stderr":0}'))],
    };
    for (const [command, sent] of Object.entries(messages)) {
      const query = `command=${command}&stdin=true&id=${randomUUID()}&resumeSeconds=1`;
      const socket = new WebSocket(`ws://localhost${EXEC}?${query}`, ['v5.channel.k8s.io'], {
        createConnection: () => connect(each.harness.socketPath),
      });
      await once(socket, 'message');
      const closed = once(socket, 'close');
      for (const message of sent) socket.send(message);
      assert.equal((await closed)[0], 1002, command);
    }
    for (const process of each.harness.sandboxes.agent.processes) await process.released;
  });

  test('commands whose clients are away keep their places, and no more of them', async () => {
    await using each = await world();
    const open = await Promise.all(
      Array.from({ length: STREAMS_PER_SANDBOX_MAX }, () => start(each, ['trap'], { resumeSeconds: 1 })),
    );
    for (const { connection } of open) await connection.started;
    await each.link.takeDown();
    const query = { command: ['echo'], stdin: false, stdout: true, stderr: true, tty: false };
    await assert.rejects(each.harness.client.exec('default', 'a', query), { code: 'TOO_MANY_REQUESTS' });
    for (const process of each.harness.sandboxes.agent.processes) await process.released;
    assert.equal(await text((await each.harness.client.exec('default', 'a', query)).stdout), '\n');
  });
});
