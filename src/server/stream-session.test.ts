import assert from 'node:assert/strict';
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { type WebSocket, WebSocketServer } from 'ws';
import type { OutputChunk, ProcessExit } from '../guest/agent.ts';
import { StreamSession } from './stream-session.ts';

const PROTOCOL = 'v5.channel.k8s.io';
const EXIT: ProcessExit = { exitCode: 3, signal: '', timedOut: false, oomKilled: false };

/** Keeps what is written to it, write by write. */
class Recorder extends Duplex {
  readonly writes: Buffer[] = [];
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.writes.push(chunk);
    done();
  }
  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.writes.push(Buffer.concat(chunks.map(({ chunk }) => chunk)));
    done();
  }
}

function upgraded(transport: Duplex): Promise<WebSocket> {
  const request = new IncomingMessage(new Socket());
  request.method = 'GET';
  request.headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    'sec-websocket-protocol': PROTOCOL,
  };
  const { promise, resolve } = Promise.withResolvers<WebSocket>();
  new WebSocketServer({ noServer: true }).handleUpgrade(request, transport, Buffer.alloc(0), resolve);
  return promise;
}

test('a short command leaves in one piece: output of both streams, end and closing', async () => {
  const transport = new Recorder();
  const options = { protocol: PROTOCOL, stdout: true, stderr: true, started: false, transport } as const;
  const session = new StreamSession(await upgraded(transport), {
    ...options,
    closing: new AbortController().signal,
  });
  transport.writes.length = 0;
  async function* output(): AsyncGenerator<OutputChunk> {
    yield { stream: 'stdout', offset: 0, data: Buffer.from('to stdout'), lostBefore: 0 };
    yield { stream: 'stderr', offset: 0, data: Buffer.from('to stderr'), lostBefore: 0 };
  }
  await session.run({
    output,
    exited: Promise.resolve(EXIT),
    signal: () => Promise.resolve(),
    resize: () => Promise.resolve(),
  });
  await new Promise(setImmediate);
  const [piece] = transport.writes;
  assert.equal(transport.writes.length, 1);
  for (const text of ['to stdout', 'to stderr', 'exit code 3']) assert.ok(piece?.includes(text), text);
  transport.destroy();
});
