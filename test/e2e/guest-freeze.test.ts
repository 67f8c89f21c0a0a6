// A guest whose root stands still for a copy: nothing is written meanwhile, and it goes on by itself whatever happens.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as passTime } from 'node:timers/promises';
import type { GuestAgent, GuestProcess } from '../../src/guest/agent.ts';
import { makeDisks, type TestDisks, TestVm, text } from './guest-harness.ts';

/** Far longer than any of these tests: what ends before was not ended by time. */
const LONG_MS = 120_000;
/** A write to a disk that stands still would be through many times over. */
const STANDS_STILL_MS = 1_000;

let disks: TestDisks;
let vm: TestVm;
let agent: GuestAgent;
let count = 0;

before(async () => {
  disks = await makeDisks();
  vm = new TestVm(disks, { network: false });
  agent = await vm.agent();
  await agent.mountRoot({ imageDevice: 'vda', upperDevice: 'vdb' });
  await agent.personalize({
    hostname: 'freeze',
    entropy: new Uint8Array(32),
    nameservers: [],
    searchDomains: [],
    extraHosts: [],
  });
});

after(async () => {
  await agent?.close();
  await vm?.kill();
  await disks?.remove();
});

function start(script: string): Promise<GuestProcess> {
  count += 1;
  return agent.exec({
    ...{ sessionId: `sh-${count}`, argv: ['sh', '-c', script], env: [], stdin: false },
    overflow: 'block',
  });
}

async function sh(script: string): Promise<string> {
  const process = await start(script);
  const [out] = await Promise.all([text(process.stdout), process.exited]);
  await process.release();
  return out;
}

/** Begins a write and says whether it was through within the time in which it should stand still. */
async function writing(): Promise<{ process: GuestProcess; isThrough: () => boolean }> {
  let through = false;
  const process = await start('echo x > /written');
  void process.exited.then(() => {
    through = true;
  });
  await passTime(STANDS_STILL_MS);
  return { process, isThrough: () => through };
}

test('nothing is written until it is thawed, the guest answers meanwhile, and a second freeze is refused', async () => {
  await agent.freezeRoot(LONG_MS);
  const { process, isThrough } = await writing();
  assert.equal(isThrough(), false);
  assert.ok((await agent.stats()).uptimeSeconds > 0);
  assert.equal(await sh('echo alive'), 'alive\n');
  await assert.rejects(agent.freezeRoot(LONG_MS), /frozen already/);
  await agent.thawRoot();
  assert.equal((await process.exited).exitCode, 0);
  await assert.rejects(agent.thawRoot(), /not frozen/);
});

test('it thaws when its time is over, and says so to whoever comes to thaw it', async () => {
  await agent.freezeRoot(2 * STANDS_STILL_MS);
  const { process, isThrough } = await writing();
  assert.equal(isThrough(), false);
  assert.equal((await process.exited).exitCode, 0);
  await assert.rejects(agent.thawRoot(), /not frozen/);
  await assert.rejects(agent.freezeRoot(0), /deadline/);
  await assert.rejects(agent.freezeRoot(3_600_000), /deadline/);
});

test('it thaws when everything in the guest is killed', async () => {
  await agent.freezeRoot(LONG_MS);
  const { process } = await writing();
  await sh('kill -9 -1');
  await process.exited;
  assert.equal(await sh('echo y > /written; cat /written'), 'y\n');
  await assert.rejects(agent.thawRoot(), /not frozen/);
  await agent.freezeRoot(LONG_MS);
  await agent.thawRoot();
});

test('a host that goes away leaves a guest that stops as always', async () => {
  await agent.freezeRoot(LONG_MS);
  await agent.close();
  agent = await vm.agent();
  await agent.shutdown({ graceMs: 1_000 });
});
