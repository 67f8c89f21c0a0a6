// Messages on the control socket.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { readMessages } from './control.ts';
import { CONTROL_MESSAGE_MAX } from './limits.ts';

async function pair(t: TestContext): Promise<[Socket, Socket]> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' });
  near.on('error', () => {});
  const [far]: Socket[] = await once(server, 'connection');
  t.after(() => {
    near.destroy();
    server.close();
  });
  assert.ok(far);
  far.on('error', () => {});
  return [near, far];
}

test('messages are read however they are cut', async (t) => {
  const [near, far] = await pair(t);
  const got: unknown[] = [];
  readMessages(far, (message) => got.push(message));
  near.write('{"id":1}\n{"id"');
  near.write(':2}\n{"id":3}\n');
  near.end();
  await once(far, 'end');
  assert.deepEqual(got, [{ id: 1 }, { id: 2 }, { id: 3 }]);
});

test('what is no message ends the connection', async (t) => {
  const [near, far] = await pair(t);
  readMessages(far, () => assert.fail('it is none'));
  near.write('no\n');
  await once(far, 'close');
});

test('a message without end is not kept', async (t) => {
  const [near, far] = await pair(t);
  readMessages(far, () => assert.fail('it has no end'));
  near.write(Buffer.alloc(CONTROL_MESSAGE_MAX + 1, 'x'));
  await once(far, 'close');
});
