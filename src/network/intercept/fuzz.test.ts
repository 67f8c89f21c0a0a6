// Random damage to what a guest sends over HTTP/2: nothing reaches the server that was not judged, and nothing is thrown.
import assert from 'node:assert/strict';
import { connect, performServerHandshake } from 'node:http2';
import { Duplex, duplexPair } from 'node:stream';
import { damaged, fuzz } from '../../../test/fixtures/chance.ts';
import { Http2Proxy } from './http2-proxy.ts';

const ROUNDS = 200;
const ALLOWED = 'a.example';

/** What a client sends for these requests, in frames. */
async function sentFor(requests: readonly (readonly [Record<string, string>, string?])[]): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const wire = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _encoding, done) => {
      chunks.push(chunk);
      done();
    },
  });
  const session = connect('http://a.example', { createConnection: () => wire });
  session.on('error', () => {});
  for (const [headers, body] of requests) {
    const stream = session.request({ ':method': body === undefined ? 'GET' : 'POST', ...headers });
    stream.on('error', () => {});
    stream.end(body);
  }
  // All of it is written when the client waits for the server's first word.
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  session.destroy();
  return Buffer.concat(chunks);
}

const SEEDS = [
  await sentFor([[{ ':authority': ALLOWED, ':path': '/' }], [{ ':authority': 'b.example', ':path': '/' }]]),
  await sentFor([[{ ':authority': ALLOWED, ':path': '/', 'x-long': 'y'.repeat(300) }, 'a body']]),
  await sentFor([[{ ':authority': ALLOWED, ':path': '/', host: 'b.example' }]]),
  await sentFor([[{ ':authority': `user@${ALLOWED}`, ':path': '/' }], [{ host: ALLOWED, ':path': '/' }]]),
];
const TOKENS = [
  '\x00\x00\x00',
  '\xff\xff\xff',
  '\x00\x00\x04\x08\x00\x00\x00\x00\x00',
  '\x00\x00\x08\x07\x00\x00\x00\x00\x00',
  '\x01\x05\x00\x00\x00\x01',
  '\x09\x04\x00\x00\x00\x01',
  '\x41\x09b.example',
  '\x82\x86\x84\x41',
  '\x3f\xe1\x1f',
];

fuzz('frames of HTTP/2 are judged before they reach the server', ROUNDS, async (pick) => {
  const bytes = damaged(SEEDS[pick(SEEDS.length)] ?? Buffer.alloc(0), TOKENS, pick);
  const [client, guest] = duplexPair();
  const [server, upstream] = duplexPair();
  let reached = 0;
  const origin = performServerHandshake(server);
  origin.on('error', () => {});
  origin.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    reached += 1;
    for (const name of [headers[':authority'], headers.host])
      if (name !== undefined) assert.match(name, /^a\.example(?::\d{1,5})?$/i);
    if (!stream.destroyed) stream.respond({ ':status': 204 }, { endStream: true });
  });
  const closed = new Promise<void>((resolve) => {
    new Http2Proxy({
      ...{ guest, server: upstream },
      judge: (host, headers) => (host === ALLOWED ? { headers, through: [] } : undefined),
      closed: resolve,
    });
  });
  client.on('error', () => {});
  client.resume();
  client.write(bytes);
  // Several turns of the loop for each end of both connections.
  for (let turn = 0; turn < 30; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  client.destroy();
  guest.destroy();
  await closed;
  origin.destroy();
  return reached > 0;
});
