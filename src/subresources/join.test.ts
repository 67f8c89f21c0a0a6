import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { joinStreams } from './join.ts';

const CHECK_MS = 5;

/** Both ends of a connection: the first is joined, the second is the peer's. */
async function pair(): Promise<[Socket, Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const outer = connect({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  const [inner] = (await once(server, 'connection')) as [Socket];
  server.close();
  return [inner, outer];
}

async function joined() {
  const time = { now: 0 };
  const [client, clientPeer] = await pair();
  const [agent, agentPeer] = await pair();
  const done = joinStreams(client, agent, {
    ...{ now: () => time.now, checkMs: CHECK_MS },
    ...{ agentSilenceMs: 30_000, clientSilenceMs: 300_000 },
  });
  return { time, clientPeer, agentPeer, done };
}

test('a side that is silent for too long takes the other with it', async () => {
  for (const { silentFor, speaks } of [
    { silentFor: 31_000, speaks: 'clientPeer' },
    { silentFor: 301_000, speaks: 'agentPeer' },
  ] as const) {
    const all = await joined();
    const { time, clientPeer, agentPeer, done } = all;
    const heard = once(speaks === 'clientPeer' ? agentPeer : clientPeer, 'data');
    time.now += silentFor - 2_000;
    all[speaks].write('here');
    await heard;
    time.now += 2_000;
    for (const peer of [clientPeer, agentPeer]) peer.resume();
    await Promise.all([once(clientPeer, 'end'), once(agentPeer, 'end')]);
    for (const peer of [clientPeer, agentPeer]) peer.destroy();
    await done;
  }
});

test('a side that waits because the other does not read is not silent', async () => {
  const { time, clientPeer, agentPeer, done } = await joined();
  const piece = Buffer.alloc(64 * 1024);
  let sent = 0;
  do sent += piece.length;
  while (
    agentPeer.write(piece) ||
    (await Promise.race([once(agentPeer, 'drain'), delay(100)])) !== undefined
  );
  for (let check = 0; check < 5; check++) {
    time.now += 29_000;
    await delay(2 * CHECK_MS);
  }
  let got = 0;
  clientPeer.on('data', (data: Buffer) => {
    got += data.length;
  });
  agentPeer.end();
  await once(clientPeer, 'end');
  assert.equal(got, sent);
  clientPeer.end();
  await done;
});
