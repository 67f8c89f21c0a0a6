import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { sandboxDocument, startHarness } from '../server/testing/harness.ts';
import { parseForward } from './port-forward.ts';
import { bulkhead, start } from './testing/bulkhead.ts';

test('ports are given as kubectl takes them', () => {
  assert.deepEqual(parseForward('8000'), { local: 8000, remote: 8000 });
  assert.deepEqual(parseForward('8080:80'), { local: 8080, remote: 80 });
  assert.deepEqual(parseForward(':80'), { local: 0, remote: 80 });
  for (const wrong of ['', 'x', '80:', '0', '80:0', '65536', '70000:80', '1:2:3', '-1'])
    assert.throws(() => parseForward(wrong), /expected \[LOCAL:\]REMOTE/, wrong);
});

test('what connects to the local port reaches that of the guest, until it is interrupted', async (t) => {
  await using harness = await startHarness();
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const guest = createServer({ allowHalfOpen: true }, (socket) => {
    void text(socket).then((said) => socket.end(`heard ${said}`));
  }).listen(0, '127.0.0.1');
  t.after(() => guest.close());
  await once(guest, 'listening');
  const refuse = harness.sandboxes.dial;
  harness.sandboxes.dial = async (port) => {
    if (port !== 80) return refuse(port);
    const socket = connect({ port: (guest.address() as AddressInfo).port, allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  };
  const running = start(harness.socketPath, ['port-forward', 'sandbox/a', ':80', ':81']);
  let said = '';
  running.child.stdout?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  await running.printed('-> 81');
  const [first, second] = [...said.matchAll(/127\.0\.0\.1:(\d+) -> /g)].map(([, port]) => Number(port));
  const client = connect({ port: first ?? 0, host: '127.0.0.1', allowHalfOpen: true });
  client.end('you');
  assert.equal(await text(client), 'heard you');
  const refused = connect(second ?? 0, '127.0.0.1');
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
  const taken = await bulkhead(harness.socketPath, 'port-forward', 'a', `${first}:80`);
  assert.equal(taken.code, 1);
  assert.match(taken.stderr, new RegExp(`127\\.0\\.0\\.1:${first} is taken`));
  running.child.kill('SIGINT');
  const { code, stderr } = await running.result;
  assert.equal(code, 0);
  assert.match(stderr, /^port 81: Nothing listens on port 81 of the guest\. Start the server/);
});

test('a sandbox that is not there fails at once', async () => {
  await using harness = await startHarness();
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('counter'));
  const { code, stderr } = await bulkhead(harness.socketPath, 'port-forward', 'conter', '80');
  assert.equal(code, 1);
  assert.match(stderr, /did you mean "counter"/);
});
