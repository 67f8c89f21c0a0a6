// Many at once, and much through one.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import { hostResources, sandboxYaml, TestDaemon } from './daemon-harness.ts';

const SOAK = process.env.BULKHEAD_SOAK === '1';
const SANDBOXES = 50;
const STREAM_MIB = SOAK ? 1024 : 128;

test(`${SANDBOXES} sandboxes applied at once all become Ready, and leave nothing when their file goes`, async () => {
  await using daemon = await TestDaemon.start();
  const uids = new Set<string>();
  const before = hostResources(daemon.stateDir, uids);
  await daemon.write('keep.yaml', sandboxYaml('keep', { operatingMode: 'Suspended' }));
  const names = Array.from({ length: SANDBOXES }, (_, index) => `many-${index}`);
  await daemon.write('many.yaml', names.map((name) => sandboxYaml(name)).join('---\n'));
  for (const name of names)
    await daemon.ok('wait', `sandbox/${name}`, '--for=condition=Ready', '--timeout', '900s');
  const list = JSON.parse(await daemon.ok('get', 'sandboxes', '-o', 'json')) as {
    items: { metadata: { name: string; uid: string }; status: { restarts?: number } }[];
  };
  for (const item of list.items) uids.add(item.metadata.uid);
  for (const item of list.items)
    assert.equal(item.status.restarts ?? 0, 0, `${item.metadata.name} failed once`);

  await daemon.remove('many.yaml');
  for (const name of names) await daemon.ok('wait', `sandbox/${name}`, '--for=delete', '--timeout', '900s');
  assert.deepEqual(hostResources(daemon.stateDir, uids), before);
});

test(`${STREAM_MIB} MiB through exec are intact while a second exec answers`, async () => {
  await using daemon = await TestDaemon.start();
  await daemon.write('pipe.yaml', sandboxYaml('pipe'));
  await daemon.waitReady('pipe');

  const cat = daemon.spawnCli('exec', '-i', 'pipe', '--', 'cat');
  const sent = createHash('sha256');
  const received = createHash('sha256');
  let receivedBytes = 0;
  cat.stdout?.on('data', (chunk: Buffer) => {
    received.update(chunk);
    receivedBytes += chunk.length;
  });
  const closed = once(cat, 'close');
  const block = randomBytes(1 << 20);
  for (let mib = 0; mib < STREAM_MIB; mib++) {
    block.writeUInt32LE(mib);
    sent.update(block);
    if (cat.stdin?.write(Buffer.from(block)) === false) await once(cat.stdin, 'drain');
    if (mib === STREAM_MIB >> 1)
      assert.equal(await daemon.ok('exec', 'pipe', '--', 'echo', 'prompt'), 'prompt\n');
  }
  cat.stdin?.end();
  assert.deepEqual(await closed, [0, null]);
  assert.equal(receivedBytes, STREAM_MIB << 20);
  assert.equal(received.digest('hex'), sent.digest('hex'));
});

test('a reader that stalls blocks only itself', async () => {
  await using daemon = await TestDaemon.start();
  await daemon.write('stall.yaml', sandboxYaml('stall'));
  await daemon.waitReady('stall');
  const stalled = daemon.spawnCli(
    'exec',
    'stall',
    '--',
    'sh',
    '-c',
    'while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxx; done',
  );
  if (stalled.stdout !== null) {
    await once(stalled.stdout, 'readable'); // it flows, and then nobody reads
    stalled.stdout.pause();
  }
  for (let round = 0; round < 5; round++)
    assert.equal(await daemon.ok('exec', 'stall', '--', 'echo', 'ok'), 'ok\n');
  stalled.kill('SIGKILL');
});
