// What one try asks of a guest that answers in every way there is.
import assert from 'node:assert/strict';
import { type Duplex, duplexPair } from 'node:stream';
import { test } from 'node:test';
import { createServer } from 'node:tls';

import { BulkheadError } from '../../../api/errors.ts';
import type { HttpGetAction } from '../../../api/sandbox-probes.ts';
import { systemClock } from '../../../controller/clock.ts';
import type { GuestAgent } from '../../../guest/agent.ts';
import { createAuthority } from '../../../network/intercept/certificates.ts';
import { HTTP_HEADER_MAX_BYTES, PROBE_MESSAGE_MAX_CHARS } from '../limits.ts';
import { type Action, type Complaint, perform } from './actions.ts';

/** Performs it in a guest whose every port is served so. */
function performIn(
  serve: (connection: Duplex) => void,
  action: Action,
  signal?: AbortSignal,
): Promise<Complaint> {
  const dial = async (): Promise<Duplex> => {
    const [ours, theirs] = duplexPair();
    theirs.on('error', () => {});
    serve(theirs);
    return ours;
  };
  const target = {
    agent: { dial } as unknown as GuestAgent,
    defaults: { env: [], cwd: '/', entrypoint: [], cmd: [] },
    address: '10.77.0.2',
    clock: systemClock,
  };
  return perform(target, action, 'probe-x', signal ?? new AbortController().signal);
}

const get = (part: Partial<HttpGetAction> = {}): Action => ({ httpGet: { port: 80, ...part } });

/** Answers whatever is asked with these bytes, and hangs up. */
function answering(bytes: string): (connection: Duplex) => void {
  return (connection) => {
    connection.once('data', () => connection.end(bytes));
  };
}

test('HTTPS is spoken without asking who answers', async () => {
  const { certificate, key } = await createAuthority('test', Date.now());
  let seen = '';
  const serve = (connection: Duplex): void => {
    const server = createServer({ cert: certificate, key }, (socket) => {
      socket.on('error', () => {});
      socket.once('data', (data: Buffer) => {
        seen = data.toString();
        socket.end('HTTP/1.1 204 No Content\r\n\r\n');
      });
    });
    server.emit('connection', connection);
  };
  assert.equal(await performIn(serve, get({ scheme: 'HTTPS', path: '/secure' })), undefined);
  assert.match(seen, /^GET \/secure HTTP\/1\.1\r\n/);
});

test('a server that speaks no TLS, or hangs up, fails over HTTPS', async () => {
  assert.match((await performIn(answering('HTTP/1.1 200 OK\r\n\r\n'), get({ scheme: 'HTTPS' }))) ?? '', /./);
  const hangsUp = (connection: Duplex): void => void connection.end();
  assert.match((await performIn(hangsUp, get({ scheme: 'HTTPS' }))) ?? '', /./);
});

test('statuses from 200 to 399 are good, all others are not', async () => {
  for (const [status, good] of [
    [199, false],
    [200, true],
    [204, true],
    [301, true],
    [399, true],
    [400, false],
    [503, false],
  ] as const) {
    const answer = `HTTP/1.1 ${status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`;
    const complaint = await performIn(answering(answer), get());
    assert.equal(complaint === undefined, good, `${status}: ${complaint}`);
  }
});

test('what is no answer, or far too much of one, is refused in few plain words', async () => {
  for (const bytes of [
    '',
    'no HTTP\r\n\r\n',
    '\u0000\u001b[31m\r\n'.repeat(1_000),
    `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(HTTP_HEADER_MAX_BYTES)}\r\n`,
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
  ]) {
    const complaint = await performIn(answering(bytes), get());
    assert.ok(
      complaint !== undefined && complaint.length <= PROBE_MESSAGE_MAX_CHARS,
      JSON.stringify(bytes.slice(0, 40)),
    );
    assert.doesNotMatch(complaint, /\p{Cc}/u);
  }
});

test('a body without an end is left after a while', async () => {
  const endless = (connection: Duplex): void => {
    connection.once('data', () => {
      connection.write('HTTP/1.1 200 OK\r\n\r\n');
      const pour = (): void => {
        if (!connection.destroyed && !connection.writableEnded) connection.write('x'.repeat(4_096), pour);
      };
      pour();
    });
  };
  assert.equal(await performIn(endless, get()), undefined);
});

test('TCP asks for no more than to be let in', async () => {
  assert.equal(await performIn(() => {}, { tcpSocket: { port: 80 } }), undefined);
});

test('an agent that makes no connections says nothing of the sandbox', async () => {
  const agent = {
    dial: () => Promise.reject(new BulkheadError('NOT_SUPPORTED', 'it is of an earlier release')),
  } as unknown as GuestAgent;
  const defaults = { env: [], cwd: '/', entrypoint: [], cmd: [] };
  const target = { agent, defaults, address: '10.77.0.2', clock: systemClock };
  const { signal } = new AbortController();
  await assert.rejects(perform(target, { tcpSocket: { port: 80 } }, 'probe-x', signal), {
    code: 'NOT_SUPPORTED',
  });
});
