import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { WebSocketServer } from 'ws';
import { CHANNEL, CLOSE_CODE, frame } from '../api/channels.ts';
import type { ExecQuery } from '../api/wire.ts';
import { DaemonEndpoint } from './endpoint.ts';
import { startResumable } from './resumable.ts';
import { openStream, type StreamConnection } from './stream.ts';

const SUCCESS = { apiVersion: 'v1', kind: 'Status', metadata: {}, status: 'Success', message: '' };
const QUERY: ExecQuery = { command: ['x'], stdin: false, stdout: true, stderr: true, tty: false };

/** A server that tells all of a command and leaves the closing to the client. */
async function neverCloses(use: (socketPath: string) => Promise<StreamConnection>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-stream-'));
  const server = createServer();
  const sockets = new WebSocketServer({ server, handleProtocols: ([first]) => first ?? false });
  const closed = once(sockets, 'connection').then(async ([socket]) => {
    socket.send(frame(CHANNEL.started, Buffer.from('{"pid":7,"stdin":0,"stdinTaken":0,"stdinOpen":false}')));
    socket.send(frame(CHANNEL.stdout, Buffer.from('hello\n')));
    socket.send(frame(CHANNEL.error, Buffer.from(JSON.stringify(SUCCESS))));
    const [code] = await once(socket, 'close');
    return code as number;
  });
  try {
    const socketPath = join(dir, 'socket');
    await once(server.listen(socketPath), 'listening');
    const stream = await use(socketPath);
    assert.equal(await text(stream.stdout), 'hello\n');
    assert.equal(await text(stream.stderr), '');
    assert.equal((await stream.exited).exitCode, 0);
    assert.equal(await closed, CLOSE_CODE.normal);
  } finally {
    server.closeAllConnections();
    server.close();
    rmSync(dir, { recursive: true });
  }
}

test('a command is over when its end is told: nobody waits for the closing', { timeout: 30_000 }, () =>
  neverCloses((socketPath) => openStream(new DaemonEndpoint(socketPath), '/exec', { ...QUERY })),
);

test('so is one that is resumable, and its client says that it needs it no more', { timeout: 30_000 }, () =>
  neverCloses((socketPath) =>
    startResumable(new DaemonEndpoint(socketPath), '/exec', {
      ...QUERY,
      id: crypto.randomUUID(),
      resumeSeconds: 60,
    }),
  ),
);
