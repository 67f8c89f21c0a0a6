// The monitor's client against servers that lie.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { QmpClient } from './qmp.ts';

const never = new AbortController().signal;
const GREETING = '{"QMP": {"version": {}, "capabilities": []}}\r\n';
/** The client needs libvmm only to pass descriptors, which these tests do not. */
const noLibrary = Object.create(null);

async function withServer(
  answer: (line: string, socket: Socket) => void,
  use: (client: Promise<QmpClient>) => Promise<void>,
) {
  const dir = mkdtempSync(join(tmpdir(), 'qmp-'));
  const server: Server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(GREETING);
    let buffer = '';
    socket.on('data', (data) => {
      buffer += data.toString();
      for (let end = buffer.indexOf('\n'); end >= 0; end = buffer.indexOf('\n')) {
        answer(buffer.slice(0, end), socket);
        buffer = buffer.slice(end + 1);
      }
    });
  });
  server.listen(join(dir, 's'));
  await once(server, 'listening');
  const socket = new Socket().connect(join(dir, 's'));
  await once(socket, 'connect');
  try {
    await use(QmpClient.connect(noLibrary, { socket, fd: -1 }, never));
  } finally {
    socket.destroy();
    server.close();
    rmSync(dir, { recursive: true });
  }
}

const idOf = (line: string): unknown => JSON.parse(line).id;
const ok = (line: string, socket: Socket) => socket.write(`{"return": {"a": 1}, "id": ${idOf(line)}}\n`);

test('answers go to their questions, events between them are skipped', () =>
  withServer(
    (line, socket) => {
      socket.write('{"event": "STOP", "timestamp": {}}\n');
      ok(line, socket);
    },
    async (client) => {
      assert.deepEqual(await (await client).execute('query-status', {}, never), { a: 1 });
    },
  ));

test("a refusal carries QEMU's words", () =>
  withServer(
    (line, socket) =>
      line.includes('capabilities')
        ? ok(line, socket)
        : socket.write(`{"error": {"desc": "no way"}, "id": ${idOf(line)}}\n`),
    async (client) => {
      await assert.rejects((await client).execute('cont', {}, never), /no way/);
    },
  ));

for (const [what, bytes] of [
  ['no JSON', 'garbage\n'],
  ['a list', '[1]\n'],
  ['an endless line', 'x'.repeat(300 * 1024)],
] as const)
  test(`${what} ends the session with an error`, () =>
    withServer(
      (line, socket) => (line.includes('capabilities') ? ok(line, socket) : socket.write(bytes)),
      async (client) => {
        await assert.rejects((await client).execute('cont', {}, never), /broke the protocol/);
      },
    ));

test('an end of QEMU rejects what is waited for', () =>
  withServer(
    (line, socket) => (line.includes('capabilities') ? ok(line, socket) : socket.destroy()),
    async (client) => {
      await assert.rejects((await client).execute('cont', {}, never), /closed/);
    },
  ));
