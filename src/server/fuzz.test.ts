// Random requests, whole and broken: each is answered in the protocol's own words or hung up on, none fails as our fault,
// and the server has the descriptors afterwards that it had before.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before } from 'node:test';
import { damaged, fuzz, type Pick } from '../../test/fixtures/chance.ts';
import { parseBody } from '../daemon/body.ts';
import { apiRules } from './rules.ts';
import { type Harness, startHarness } from './testing/harness.ts';

const ROUNDS = 200;
/** A request that ends nobody's wait is hung up on by its client. */
const QUIET_MS = 150;
const OBJECTS = '/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes';
const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', 'BREW', 'get', ''];
const PATHS = [
  OBJECTS,
  `${OBJECTS}/a`,
  `${OBJECTS}/a/log`,
  `${OBJECTS}/a/exec`,
  `${OBJECTS}/a/files`,
  `${OBJECTS}/a/stats`,
  `${OBJECTS}/%2e%2e%2f`,
  `${OBJECTS}/%00`,
  `${OBJECTS}/%`,
  '/apis/bulkhead.dev/v1alpha1/sandboxes',
  '/apis/bulkhead.dev/v1alpha1/images',
  '/apis/bulkhead.dev/v1alpha1/volumes',
  '/api/v1/events',
  '/api/v1/namespaces/default/secrets/a',
  '/metrics',
  '/readyz',
  '/',
  '//',
  '*',
  'http://elsewhere/',
];
const QUERIES = [
  '',
  '?watch=true&timeoutSeconds=1',
  '?watch=1&resourceVersion=99999999',
  '?limit=1&continue=x',
  '?limit=-1',
  '?labelSelector=a%20in%20(',
  '?fieldSelector=%00',
  '?follow=true&tailLines=1e9',
  '?command=%00&stdin=maybe',
  '?path=/etc/passwd&path=/',
  '?dryRun=All&dryRun=None',
  '?a=&&=&%ff=%',
];
const HEADERS = [
  'content-type: application/json',
  'content-type: application/merge-patch+json',
  'content-type: application/apply-patch+yaml',
  'content-type: text/plain',
  'content-type: application/x-tar',
  'transfer-encoding: chunked',
  'content-length: 5',
  'content-length: -1',
  'expect: 100-continue',
  'upgrade: websocket',
  'connection: upgrade',
  'sec-websocket-version: 13',
  'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
  'sec-websocket-protocol: v5.channel.k8s.io',
  `x: ${'y'.repeat(20_000)}`,
];
const VALID = JSON.stringify({
  apiVersion: 'bulkhead.dev/v1alpha1',
  kind: 'Sandbox',
  metadata: { name: 'a' },
  spec: { image: 'busybox' },
});
const BODIES = [
  '',
  '{',
  'null',
  '[]',
  VALID,
  VALID.replace('"a"', '"b/c"'),
  '{"__proto__":{"x":1}}',
  '[[['.repeat(500),
  '{"metadata":null}',
];
const TOKENS = [
  '\r\n',
  '\r\n\r\n',
  '\0',
  ' ',
  ':',
  '%00',
  '../',
  'HTTP/1.1',
  '0\r\n\r\n',
  'ffffffff\r\n',
  '\xff',
  '{',
  '"',
];

let harness: Harness;
let files: number;

const openFiles = (): number => readdirSync('/proc/self/fd').length;

before(async () => {
  harness = await startHarness({ dependencies: { rules: apiRules(parseBody) } });
  await harness.client.version();
  files = openFiles();
});

after(async () => {
  // Connections of the last rounds close in their own time.
  while (openFiles() > files) await new Promise((resolve) => setImmediate(resolve));
  await harness[Symbol.asyncDispose]();
});

function one(pick: Pick, values: readonly string[]): string {
  return values[pick(values.length)] ?? '';
}

function request(pick: Pick): Buffer {
  // Parts that are put together at random rarely make a request that succeeds; some have to.
  if (pick(8) === 0) return Buffer.from(`GET ${OBJECTS} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  const body = one(pick, BODIES);
  const headers = Array.from({ length: pick(5) }, () => one(pick, HEADERS));
  if (pick(3) !== 0) headers.push(`content-length: ${Buffer.byteLength(body)}`);
  if (pick(2) === 0) headers.push('content-type: application/json');
  const method = one(pick, pick(4) === 0 ? METHODS : METHODS.slice(0, 5));
  const head = [`${method} ${one(pick, PATHS)}${one(pick, QUERIES)} HTTP/1.1`, 'host: localhost', ...headers];
  const bytes = Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`, 'latin1');
  return pick(2) === 0 ? damaged(bytes, TOKENS, pick) : bytes;
}

/** Everything that comes back until the server hangs up or is quiet for a while. */
async function answerTo(bytes: Buffer): Promise<string> {
  const socket = connect(harness.socketPath);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', () => {});
  socket.setTimeout(QUIET_MS, () => socket.destroy());
  socket.write(bytes);
  // A request that wants more stays open: its end is what every second client gives it.
  if (bytes.length % 2 === 0) socket.end();
  await once(socket, 'close');
  return text;
}

fuzz('requests are answered or hung up on', ROUNDS, async (pick) => {
  const bytes = request(pick);
  const answer = await answerTo(bytes);
  const status = /^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1];
  if (status === undefined) {
    assert.equal(answer, '', `no HTTP: ${answer.slice(0, 200)}`);
    return false;
  }
  assert.ok(
    !['500', '502', '503'].includes(status),
    `${JSON.stringify(bytes.toString('latin1'))}\n${answer}`,
  );
  return status.startsWith('2');
});
