// Echoes through a session, with a socket of this process in place of the host's for ICMP.
import assert from 'node:assert/strict';
import type { Socket } from 'node:dgram';
import { EventEmitter, once } from 'node:events';
import { test } from 'node:test';
import { EchoSession } from './echo-session.ts';

/** A socket whose other end is the test: connecting one of ICMP takes no real port. */
class FakePing extends EventEmitter {
  readonly sent: Buffer[] = [];
  closed = false;
  connect(): void {
    setImmediate(() => this.emit('connect'));
  }
  send(message: Buffer): void {
    this.sent.push(Buffer.from(message));
  }
  getSendQueueSize(): number {
    return 0;
  }
  close(): void {
    this.closed = true;
  }
}

function echo(type: number, identifier: number, text: string): Buffer {
  const header = Buffer.from([type, 0, 0xab, 0xcd, 0, 0, 0, 9]);
  header.writeUInt16BE(identifier, 4);
  return Buffer.concat([header, Buffer.from(text)]);
}

function session(target: string) {
  const ping = new FakePing();
  const answers: Buffer[] = [];
  const ends: string[] = [];
  const counted: [number, number][] = [];
  const opened = new EchoSession({
    // Of a socket it has what a session uses.
    socket: ping as unknown as Socket,
    ...{ target, identifier: 4711, rate: { admit: () => true }, now: () => 0 },
    answer: (message) => answers.push(message),
    count: (egress, ingress) => counted.push([egress, ingress]),
    closed: (end) => ends.push(end),
  });
  return { ping, answers, ends, counted, opened };
}

test('a request waits for the socket, and its answer gets back the identifier of the guest', async () => {
  const { ping, answers, counted, opened } = session('20.0.0.10');
  opened.send(echo(8, 4711, 'hello'));
  assert.deepEqual(ping.sent, []);
  await once(ping, 'connect');
  assert.deepEqual(ping.sent, [echo(8, 4711, 'hello')]);
  ping.emit('message', echo(0, 33, 'hello'));
  ping.emit('message', Buffer.from('short'));
  assert.deepEqual(answers, [echo(0, 4711, 'hello')]);
  assert.deepEqual(counted, [
    [13, 0],
    [0, 13],
  ]);
});

test('a request by IPv6 to this host is one by IPv4 there', async () => {
  const { ping, opened } = session('127.0.0.1');
  opened.send(echo(128, 4711, ''));
  await once(ping, 'connect');
  assert.equal(ping.sent[0]?.[0], 8);
});

test('a session that ends gives its socket back, and says and sends nothing more', async () => {
  const { ping, ends, answers, opened } = session('20.0.0.10');
  await once(ping, 'connect');
  opened.end();
  ping.emit('error', new Error('late'));
  ping.emit('message', echo(0, 33, 'late'));
  opened.send(echo(8, 4711, 'late'));
  assert.deepEqual([ping.closed, ends, answers, ping.sent], [true, ['ended'], [], []]);
});
