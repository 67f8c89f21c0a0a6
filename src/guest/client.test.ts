// What the host does with an agent that lies, floods, stalls or goes away.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import type { GuestAgent } from './agent.ts';
import { connectGuest } from './client.ts';
import { Stream } from './generated/agent_pb.js';
import { MAX_SESSIONS } from './limits.ts';
import { encodeGuest, FakeAgent, rawFrame } from './testing/fake-agent.ts';

async function connected(
  prepare: (agent: FakeAgent) => void = () => {},
): Promise<{ fake: FakeAgent; guest: GuestAgent }> {
  const fake = new FakeAgent();
  prepare(fake);
  let dials = 0;
  const guest = await connectGuest(() => {
    if (dials++ > 0) return Promise.reject(new BulkheadError('SANDBOX_NOT_RUNNING', 'the VM is gone'));
    return Promise.resolve(fake.host);
  });
  return { fake, guest };
}

/** Starts a session on an agent that answers Started and then does what the test says. */
async function withSession(lie: (fake: FakeAgent) => void): Promise<void> {
  const { fake, guest } = await connected();
  fake.onMessage = (message) => {
    if (message.body.case === 'exec') {
      fake.send(message.requestId, { case: 'started', value: { pid: 9, stdinCredit: 1000 } });
      lie(fake);
    }
  };
  const process = await guest.exec({ sessionId: 'a', argv: ['x'], env: [], stdin: true, overflow: 'block' });
  await assert.rejects(process.exited, { code: 'AGENT_PROTOCOL' });
  await assert.rejects(guest.stats(), { code: 'AGENT_PROTOCOL' });
  assert.equal(guest.connected, false);
  assert.ok(fake.host.destroyed);
}

const output = (offset: bigint, size: number, more: object = {}): Parameters<FakeAgent['send']>[1] => ({
  case: 'output',
  value: { sessionId: 'a', stream: Stream.STDOUT, offset, data: new Uint8Array(size), ...more },
});

describe('a guest that breaks the protocol ends the connection for good', () => {
  const lies: Record<string, (fake: FakeAgent) => void> = {
    'bytes that are no frame': (fake) => fake.raw(Buffer.from('no frame at all, but long enough')),
    'a wrong checksum': (fake) => {
      const frame = encodeGuest(0n, output(0n, 10));
      frame.writeUInt8(frame.readUInt8(frame.length - 1) ^ 1, frame.length - 1);
      fake.raw(frame);
    },
    'a huge length': (fake) => fake.raw(Buffer.from('BHF1\xff\xff\xff\x7f\0\0\0\0', 'latin1')),
    'a payload that is no message': (fake) => fake.raw(rawFrame(Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff]))),
    'an empty message': (fake) => fake.raw(rawFrame(Buffer.alloc(0))),
    'a second hello': (fake) => fake.send(0n, fake.hello),
    'output of an unknown session': (fake) => fake.send(0n, output(0n, 1, { sessionId: 'other' })),
    'an answer nobody waits for': (fake) => fake.send(77n, { case: 'done', value: {} }),
    'more output than was granted': (fake) => {
      for (let i = 0; i < 9; i++) fake.send(0n, output(BigInt(i) * 32_768n, 32_768));
    },
    'output that goes back': (fake) => {
      fake.send(0n, output(0n, 10));
      fake.send(0n, output(5n, 10));
    },
    'an impossible offset': (fake) => fake.send(0n, output(2n ** 63n, 1)),
    'empty output': (fake) => fake.send(0n, output(0n, 0)),
    'output on stdin': (fake) => fake.send(0n, output(0n, 1, { stream: Stream.STDIN })),
    'output after its end': (fake) => {
      fake.send(0n, { case: 'outputEnd', value: { sessionId: 'a', stream: Stream.STDOUT, offset: 0n } });
      fake.send(0n, output(0n, 1));
    },
    'a flood of single bytes with gaps': (fake) => {
      for (let i = 0; i < 5000; i++) fake.send(0n, output(BigInt(i) * 2n, 1));
    },
    'endless stdin credit': (fake) => {
      for (let i = 0; i < 3; i++) {
        fake.send(0n, { case: 'stdinCredit', value: { sessionId: 'a', acknowledged: 0n, bytes: 1_000_000 } });
      }
    },
    'acknowledged stdin that was not sent': (fake) =>
      fake.send(0n, { case: 'stdinCredit', value: { sessionId: 'a', acknowledged: 5n, bytes: 1 } }),
    'an impossible exit status': (fake) =>
      fake.send(0n, { case: 'exited', value: { sessionId: 'a', status: { code: 4096 } } }),
  };
  for (const [name, lie] of Object.entries(lies)) test(name, () => withSession(lie));

  test('another protocol version, too many sessions, doubled or impossible ids', async () => {
    const session = (sessionId: string): object => ({ sessionId, running: true });
    for (const value of [
      { protocolVersion: 99 },
      { protocolVersion: 1, sessions: Array.from({ length: MAX_SESSIONS + 1 }, (_, i) => session(`s-${i}`)) },
      { protocolVersion: 1, sessions: [session('a'), session('a')] },
      { protocolVersion: 1, sessions: [session('../../etc')] },
    ]) {
      await assert.rejects(
        connected((fake) => {
          fake.hello = { case: 'hello', value };
        }),
        { code: 'AGENT_PROTOCOL' },
      );
    }
  });
});

test('what is under way when the host side is closed fails with the reason given', async () => {
  const { fake, guest } = await connected();
  fake.onMessage = (message) => {
    if (message.body.case === 'exec')
      fake.send(message.requestId, { case: 'started', value: { pid: 9, stdinCredit: 1000 } });
  };
  const process = await guest.exec({ sessionId: 'a', argv: ['x'], env: [], stdin: true, overflow: 'block' });
  const figures = guest.stats();
  const reason = { code: 'SANDBOX_NOT_RUNNING', message: 'the VM ran out of memory' };
  const failed = [assert.rejects(process.exited, reason), assert.rejects(figures, reason)];
  await guest.close(new BulkheadError('SANDBOX_NOT_RUNNING', reason.message));
  await Promise.all(failed);
  await assert.rejects(guest.stats(), reason);
});

test('a byte at a time is enough', async () => {
  const { fake, guest } = await connected();
  fake.onMessage = (message) => {
    for (const byte of encodeGuest(message.requestId, { case: 'stats', value: { processes: 7 } }))
      fake.raw(Buffer.of(byte));
  };
  assert.equal((await guest.stats()).processes, 7);
  await guest.close();
});

test('single bytes of output are joined', async () => {
  const { fake, guest } = await connected();
  fake.onMessage = (message) => {
    if (message.body.case !== 'exec') return;
    fake.send(message.requestId, { case: 'started', value: { pid: 9 } });
    for (let i = 0; i < 20_000; i++) fake.send(0n, output(BigInt(i), 1));
    fake.send(0n, { case: 'outputEnd', value: { sessionId: 'a', stream: Stream.STDOUT, offset: 20_000n } });
    fake.send(0n, { case: 'outputEnd', value: { sessionId: 'a', stream: Stream.STDERR, offset: 0n } });
  };
  const process = await guest.exec({ sessionId: 'a', argv: ['x'], env: [], stdin: false, overflow: 'block' });
  let pieces = 0;
  let size = 0;
  for await (const chunk of process.output()) {
    pieces++;
    size += chunk.data.length;
  }
  assert.equal(size, 20_000);
  assert.ok(pieces < 10, `${pieces} pieces`);
  await guest.close();
});

test('a refusal comes back as its code, and the session id is free again', async () => {
  const { fake, guest } = await connected();
  fake.onMessage = (message) =>
    fake.send(message.requestId, {
      case: 'failure',
      value: { code: 6, message: 'x: no such\u001b[31m command' },
    });
  const request = { sessionId: 'a', argv: ['x'], env: [], stdin: false, overflow: 'block' } as const;
  for (let i = 0; i < 2; i++) {
    await assert.rejects(guest.exec({ ...request, argv: ['x'], env: [] }), {
      code: 'COMMAND_NOT_FOUND',
      message: 'x: no such [31m command',
    });
  }
  await guest.close();
});

test('when the VM is gone every process and request is told', async () => {
  const { fake, guest } = await connected();
  fake.onMessage = (message) => {
    if (message.body.case === 'exec') fake.send(message.requestId, { case: 'started', value: { pid: 9 } });
  };
  const process = await guest.exec({ sessionId: 'a', argv: ['x'], env: [], stdin: false, overflow: 'block' });
  const stats = guest.stats();
  fake.host.destroy();
  await assert.rejects(stats, { code: 'SANDBOX_NOT_RUNNING' });
  await assert.rejects(process.exited, { code: 'SANDBOX_NOT_RUNNING' });
  await assert.rejects(async () => {
    for await (const _ of process.output());
  });
});

test('mutated frames never do more than end the connection', async () => {
  let seed = 12345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  for (let round = 0; round < 300; round++) {
    const { fake, guest } = await connected();
    fake.onMessage = (message) => {
      if (message.body.case !== 'exec') return;
      fake.send(message.requestId, { case: 'started', value: { pid: 9, stdinCredit: 10 } });
      const bytes = Buffer.concat([
        encodeGuest(0n, output(0n, 40)),
        encodeGuest(0n, { case: 'exited', value: { sessionId: 'a', status: { code: 3 } } }),
        encodeGuest(0n, { case: 'outputEnd', value: { sessionId: 'a', stream: Stream.STDOUT, offset: 40n } }),
      ]);
      for (let i = random(4); i >= 0; i--) bytes[random(bytes.length)] = random(256);
      // Half of them with checksums that fit, so that the decoder behind them is reached.
      fake.raw(round % 2 ? bytes : rawFrame(bytes.subarray(12 + random(8), 40 + random(60))));
    };
    const process = await guest.exec({
      sessionId: 'a',
      argv: ['x'],
      env: [],
      stdin: true,
      overflow: 'block',
    });
    const end = setTimeout(() => void guest.close(), 5);
    await process.exited.catch((error: unknown) => assert.ok(error instanceof BulkheadError, String(error)));
    clearTimeout(end);
    await guest.close();
  }
});

test('the signal of connecting does not end what is connected', async () => {
  const fake = new FakeAgent();
  const controller = new AbortController();
  const guest = await connectGuest(() => Promise.resolve(fake.host), { signal: controller.signal });
  controller.abort();
  assert.equal(guest.connected, true);
  await guest.close();
  assert.equal(guest.connected, false);
});

test('connecting is given up with its signal', async () => {
  const controller = new AbortController();
  const connecting = connectGuest(() => Promise.reject(new Error('nobody listens')), {
    signal: controller.signal,
  });
  controller.abort();
  await assert.rejects(connecting, { code: 'AGENT_UNREACHABLE' });
});

test('what is delivered when it is acknowledged gives no credit by being read, and is kept by the guest', async () => {
  const { fake, guest } = await connected();
  const credits: { acknowledged: bigint; bytes: number }[] = [];
  const credited = Promise.withResolvers<void>();
  fake.onMessage = ({ requestId, body }) => {
    if (body.case === 'exec') fake.send(requestId, { case: 'started', value: { pid: 9, stdinCredit: 0 } });
    if (body.case !== 'credit') return;
    credits.push({ acknowledged: body.value.acknowledged, bytes: body.value.bytes });
    credited.resolve();
  };
  const process = await guest.exec({
    ...{ sessionId: 'a', argv: ['x'], env: [], stdin: false, overflow: 'block' },
    delivered: 'when-acknowledged',
  });
  // A whole window.
  for (let i = 0; i < 8; i++) fake.send(0n, output(BigInt(i) * 32_768n, 32_768));
  let read = 0;
  for await (const chunk of process.output()) {
    read += chunk.data.length;
    if (read === 8 * 32_768) break;
  }
  assert.deepEqual(credits, []);
  process.acknowledge('stdout', 65_536, 65_536);
  await credited.promise;
  assert.deepEqual(credits, [{ acknowledged: 65_536n, bytes: 65_536 }]);
  // Two pieces more are granted by that, and no third.
  for (let i = 8; i < 11; i++) fake.send(0n, output(BigInt(i) * 32_768n, 32_768));
  await assert.rejects(process.exited, { code: 'AGENT_PROTOCOL' });
});

test('a session of an earlier host is ended by its name, and one of this host is left alone', async () => {
  const { fake, guest } = await connected();
  const released: string[] = [];
  fake.onMessage = ({ requestId, body }) => {
    if (body.case === 'exec') fake.send(requestId, { case: 'started', value: { pid: 9, stdinCredit: 0 } });
    if (body.case !== 'release') return;
    released.push(body.value.sessionId);
    fake.send(requestId, { case: 'done', value: {} });
  };
  await guest.exec({ sessionId: 'mine', argv: ['x'], env: [], stdin: false, overflow: 'block' });
  await guest.endSession('mine');
  await guest.endSession('of-before');
  assert.deepEqual(released, ['of-before']);
  await guest.close();
});
