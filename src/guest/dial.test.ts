import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import type { GuestAgent } from './agent.ts';
import { connectGuest } from './client.ts';
import { type Dial, FailureCode, type HostMessage, Stream } from './generated/agent_pb.js';
import { FakeAgent } from './testing/fake-agent.ts';

const TARGET = { address: '10.77.0.2', port: 8080 };

/** A guest in which every connection goes to `accept`; `sent` is what the host sends into one. */
async function guestWith(
  features: string[],
  accept: (fake: FakeAgent, requestId: bigint, dial: Dial) => void,
): Promise<{ guest: GuestAgent; sent: string[]; released: string[]; ends: () => number }> {
  const fake = new FakeAgent();
  fake.hello = { case: 'hello', value: { protocolVersion: 1, bootId: 'boot-1', features } };
  const sent: string[] = [];
  const released: string[] = [];
  let ends = 0;
  fake.onMessage = ({ requestId, body }: HostMessage) => {
    if (body.case === 'dial') accept(fake, requestId, body.value);
    if (body.case === 'stdinData') sent.push(Buffer.from(body.value.data).toString());
    if (body.case === 'stdinEnd') ends += 1;
    if (body.case === 'release') {
      released.push(body.value.sessionId);
      fake.send(requestId, { case: 'done', value: {} });
    }
  };
  const guest = await connectGuest(() => Promise.resolve(fake.host));
  return { guest, sent, released, ends: () => ends };
}

test('a connection carries bytes both ways, ends with the other side, and is given back', async () => {
  let asked: Dial | undefined;
  const world = await guestWith(['dial'], (fake, requestId, dial) => {
    asked = dial;
    const { sessionId } = dial;
    const at = (offset: bigint, text: string) => ({
      ...{ sessionId, stream: Stream.STDOUT, offset },
      data: Buffer.from(text),
    });
    fake.send(requestId, { case: 'started', value: { pid: 7, stdinCredit: 1_000 } });
    fake.send(0n, { case: 'output', value: at(0n, 'wel') });
    fake.send(0n, { case: 'output', value: at(3n, 'come') });
    for (const stream of [Stream.STDOUT, Stream.STDERR]) {
      const offset = stream === Stream.STDOUT ? 7n : 0n;
      fake.send(0n, { case: 'outputEnd', value: { sessionId, stream, offset } });
    }
  });
  const connection = await world.guest.dial(TARGET);
  assert.deepEqual([...(asked?.ip ?? [])], [10, 77, 0, 2]);
  assert.equal(asked?.port, 8080);
  connection.end('hello');
  let text = '';
  for await (const chunk of connection) text += String(chunk);
  assert.equal(text, 'welcome');
  assert.deepEqual(world.sent, ['hello']);
  assert.equal(world.ends(), 1);
  // Both ends are over: nothing keeps it.
  if (!connection.closed) await once(connection, 'close');
  assert.deepEqual(world.released, [asked?.sessionId]);
  await world.guest.close();
});

test('a port at which nobody listens is a failure of its own, in the words of the guest', async () => {
  const world = await guestWith(['dial'], (fake, requestId) => {
    const message = 'port 8080: Connection refused';
    fake.send(requestId, { case: 'failure', value: { code: FailureCode.FAILURE_IO, message } });
  });
  await assert.rejects(world.guest.dial(TARGET), {
    code: 'DIAL_FAILED',
    message: 'port 8080: Connection refused',
  });
  await world.guest.close();
});

test('an agent of an earlier release is not asked', async () => {
  const world = await guestWith(['exec'], () => assert.fail('asked'));
  await assert.rejects(world.guest.dial(TARGET), { code: 'NOT_SUPPORTED' });
  await world.guest.close();
});

test('a connection fails with the guest', async () => {
  const world = await guestWith(['dial'], (fake, requestId) => {
    fake.send(requestId, { case: 'started', value: { pid: 7, stdinCredit: 1_000 } });
  });
  const connection = await world.guest.dial(TARGET);
  const failed = once(connection, 'error');
  await world.guest.close(new BulkheadError('SANDBOX_NOT_RUNNING', 'the VM is gone'));
  const [error] = await failed;
  assert.equal((error as BulkheadError).code, 'SANDBOX_NOT_RUNNING');
});
