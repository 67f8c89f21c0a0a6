// The agent's link in a real VM: large streams, broken connections, readers that stall, and the end.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import type { ExecRequest, GuestAgent, GuestProcess } from '../../src/guest/agent.ts';
import { makeDisks, type TestDisks, TestVm, text } from './guest-harness.ts';

const MIB = 1024 * 1024;
const LARGE = process.env.BULKHEAD_SOAK ? 1024 * MIB : 128 * MIB;

let disks: TestDisks;
let vm: TestVm;
let agent: GuestAgent;
let count = 0;

const identity = {
  hostname: 'box',
  entropy: new Uint8Array(32),
  nameservers: [],
  searchDomains: [],
  extraHosts: [],
};

before(async () => {
  disks = await makeDisks();
  vm = new TestVm(disks);
  agent = await vm.agent();
  await agent.mountRoot({ imageDevice: 'vda', upperDevice: 'vdb' });
  await agent.personalize(identity);
});

after(async () => {
  await agent?.close();
  await vm?.kill();
  await disks?.remove();
});

function start(script: string, more: Partial<ExecRequest> = {}): Promise<GuestProcess> {
  return agent.exec({
    sessionId: `l-${++count}`,
    argv: ['sh', '-c', script],
    env: [],
    stdin: false,
    overflow: 'block',
    ...more,
  });
}

async function say(word: string): Promise<void> {
  const process = await start(`echo ${word}`);
  assert.equal(await text(process.stdout), `${word}\n`);
  await process.release();
}

/** Bytes that repeat with a period no power of two hides. */
function pattern(size: number): Buffer {
  return Buffer.alloc(
    size,
    Buffer.from(Array.from({ length: 65_521 }, (_, i) => (i * 31 + (i >> 8)) & 0xff)),
  );
}

function reconnected(of: GuestAgent): Promise<void> {
  return new Promise((resolve) => {
    const stop = of.onConnectionChange((connected) => {
      if (!connected) return;
      stop();
      resolve();
    });
  });
}

test(`${LARGE / MIB} MiB through stdin to stdout are intact while another command answers`, async () => {
  const block = pattern(4 * MIB);
  const sent = createHash('sha256');
  const received = createHash('sha256');
  const process = await start('exec cat', { stdin: true });
  const reading = (async () => {
    let size = 0;
    for await (const part of process.stdout) {
      received.update(part as Buffer);
      size += (part as Buffer).length;
    }
    return size;
  })();
  const { stdin } = process;
  assert.ok(stdin);
  for (let done = 0; done < LARGE; done += block.length) {
    sent.update(block);
    await new Promise<void>((resolve, reject) =>
      stdin.write(block, (error) => (error ? reject(error) : resolve())),
    );
    if (done === 4 * block.length) await say('meanwhile');
  }
  stdin.end();
  assert.equal(await reading, LARGE);
  assert.equal(received.digest('hex'), sent.digest('hex'));
  assert.equal((await process.exited).exitCode, 0);
  await process.release();
});

test('a reader that stalls blocks only its own session', async () => {
  const stalled = await start('exec yes');
  for (let i = 0; i < 5; i++) await say(`word-${i}`);
  await stalled.release();
});

test('streams both ways go on whole over connections that break in the middle', async () => {
  const size = 24 * MIB;
  const block = pattern(size);
  const process = await start('exec cat', { stdin: true });
  process.stdin?.end(block);
  const parts: Buffer[] = [];
  let got = 0;
  let cuts = 0;
  for await (const chunk of process.output()) {
    assert.equal(chunk.lostBefore, 0);
    parts.push(Buffer.from(chunk.data));
    got += chunk.data.length;
    if (got > (cuts + 1) * 4 * MIB && cuts < 5) {
      cuts++;
      vm.links.at(-1)?.destroy();
    }
  }
  assert.equal(cuts, 5);
  assert.ok(Buffer.concat(parts).equals(block));
  assert.equal((await process.exited).exitCode, 0);
  await process.release();
});

test('the output of a terminal ends also over a connection that broke, before its program ended or after', async () => {
  const during = await start('echo one; read x; echo "two $x"; exit 7', {
    stdin: true,
    tty: { columns: 80, rows: 24 },
  });
  const ended = await start('echo done; exit 8', { tty: { columns: 80, rows: 24 } });
  await ended.exited;
  const back = reconnected(agent);
  vm.links.at(-1)?.destroy();
  await back;
  during.stdin?.write('word\n');
  const texts = await Promise.all(
    [during, ended].map(async (process) => {
      let seen = '';
      for await (const chunk of process.output()) seen += String(chunk.data);
      return seen;
    }),
  );
  // The terminal echoes what is typed.
  assert.deepEqual(texts, ['one\r\nword\r\ntwo word\r\n', 'done\r\n']);
  assert.equal((await during.exited).exitCode, 7);
  await during.release();
  await ended.release();
});

test('a file goes in whole over a connection that breaks in the middle', async () => {
  const block = pattern(8 * MIB);
  async function* content(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < block.length; at += MIB) {
      if (at === 3 * MIB) vm.links.at(-1)?.destroy();
      yield block.subarray(at, at + MIB);
    }
  }
  await agent.files.write('/srv/cut', content(), { mode: 0o600 });
  const process = await start('sha256sum < /srv/cut');
  assert.ok((await text(process.stdout)).startsWith(createHash('sha256').update(block).digest('hex')));
  await process.release();
});

test('another host takes up a session from the offset it recorded', async () => {
  const id = `l-${++count}`;
  const first = await agent.exec({
    sessionId: id,
    argv: ['sh', '-c', 'echo one; read x; echo "two $x"; exit 7'],
    env: [],
    stdin: true,
    overflow: 'block',
  });
  for await (const chunk of first.output()) {
    assert.equal(Buffer.from(chunk.data).toString(), 'one\n');
    break;
  }
  await agent.close();
  agent = await vm.agent();
  assert.ok(agent.hello.sessions.some((session) => session.sessionId === id && session.running));
  assert.deepEqual([agent.hello.rootMounted, agent.hello.personalized], [true, true]);
  const second = await agent.attach(id, { stdout: 2, stderr: 0 });
  second.stdin?.write('more\n');
  assert.equal(await text(second.stdout), 'e\ntwo more\n');
  assert.equal((await second.exited).exitCode, 7);
  await second.release();
});

test('what a full ring dropped is counted', async () => {
  const process = await start('head -c 3000000 /dev/zero', { overflow: 'drop-oldest' });
  await process.exited;
  let data = 0;
  let lost = 0;
  for await (const chunk of process.output()) {
    data += chunk.data.length;
    lost += chunk.lostBefore;
  }
  assert.ok(lost > 0);
  assert.equal(data + lost, 3_000_000);
  await process.release();
});

test('work that takes all processor time, memory, tasks and disk does not silence the agent', async () => {
  const TASKS = 300;
  const changes: boolean[] = [];
  const stop = agent.onConnectionChange((connected) => changes.push(connected));
  const loads = [
    'for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done',
    'for i in 1 2 3 4; do (while :; do /bin/true; done) & done',
    'for i in 1 2; do (while :; do tail /dev/zero; done) & done',
    'for i in 1 2; do (while :; do dd if=/dev/zero of=/load$i bs=4k count=2000 conv=fsync; done) & done',
    'for i in 1 2; do (while :; do cat /load1 /load2 /bin/* > /dev/null; done) & done',
    `for i in $(seq ${TASKS}); do sleep 1000 & done`,
  ];
  const work = await Promise.all(loads.map((load) => start(`exec 2> /dev/null; ${load}; wait`)));
  let ended = 0;
  for (const process of work) void process.exited.then(() => ended++);
  while ((await agent.stats()).processes < TASKS) assert.equal(ended, 0);
  for (let i = 0; i < 5; i++) {
    await say(`under load ${i}`);
    for (let j = 0; j < 20; j++) await agent.stats();
  }
  assert.equal(ended, 0, 'the guest was busy all the time');
  await Promise.all(work.map((process) => process.release()));
  await say('still here');
  assert.deepEqual(changes, []);
  stop();
});

test('the guest uses next to no processor time while no host is there', async () => {
  await agent.close();
  const before = await vm.cpuSeconds();
  await new Promise((resolve) => setTimeout(resolve, 4000));
  const used = (await vm.cpuSeconds()) - before;
  agent = await vm.agent();
  // A loop that spins would use all four seconds.
  assert.ok(used < 1, `${used} s of processor time in 4 s`);
});

test('connection changes are told', async () => {
  const again = reconnected(agent);
  vm.links.at(-1)?.destroy();
  await again;
  assert.equal(agent.connected, true);
  await say('back');
});

test('a shutdown signals, flushes, ends the VM cleanly, and the next boot has the data', async () => {
  const main = await agent.exec({
    sessionId: 'main',
    argv: ['sh', '-c', 'trap "echo bye > /root/last; exit 5" TERM; echo up; while :; do sleep 0.05; done'],
    env: [],
    stdin: false,
    overflow: 'drop-oldest',
  });
  for await (const chunk of main.output()) {
    assert.equal(Buffer.from(chunk.data).toString(), 'up\n');
    break;
  }
  const stubborn = await start('trap "" TERM; echo deaf; while :; do sleep 1; done');
  await once(stubborn.stdout, 'data');
  await agent.shutdown({ graceMs: 1500 });
  assert.equal((await main.exited).exitCode, 5);
  assert.equal((await stubborn.exited).signal, 'SIGKILL');
  assert.equal(await vm.exited, 0);
  await agent.close();

  vm = new TestVm(disks);
  agent = await vm.agent();
  await agent.mountRoot({ imageDevice: 'vda', upperDevice: 'vdb' });
  assert.equal(await text(await agent.files.read('/root/last')), 'bye\n');
});
