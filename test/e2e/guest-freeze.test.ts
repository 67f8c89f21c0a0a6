// A guest whose root stands still for a copy: nothing is written meanwhile, and it goes on by itself whatever happens.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as passTime } from 'node:timers/promises';
import type { GuestProcess } from '../../src/guest/agent.ts';
import { TestGuest } from './guest-harness.ts';

/** Far longer than any of these tests: what ends before was not ended by time. */
const LONG_MS = 120_000;
/** A write to a disk that stands still would be through many times over. */
const STANDS_STILL_MS = 1_000;

let guest: TestGuest;

before(async () => {
  guest = await TestGuest.start('freeze');
});
after(async () => {
  await guest?.[Symbol.asyncDispose]();
});

/** Begins a write and says whether it was through within the time in which it should stand still. */
async function writing(): Promise<{ process: GuestProcess; isThrough: () => boolean }> {
  let through = false;
  const process = await guest.start('echo x > /written');
  void process.exited.then(() => {
    through = true;
  });
  await passTime(STANDS_STILL_MS);
  return { process, isThrough: () => through };
}

test('nothing is written until it is thawed, the guest answers meanwhile, and a second freeze is refused', async () => {
  await guest.agent.freezeRoot(LONG_MS);
  const { process, isThrough } = await writing();
  assert.equal(isThrough(), false);
  assert.ok((await guest.agent.stats()).uptimeSeconds > 0);
  assert.equal(await guest.sh('echo alive'), 'alive\n');
  await assert.rejects(guest.agent.freezeRoot(LONG_MS), /frozen already/);
  await guest.agent.thawRoot();
  assert.equal((await process.exited).exitCode, 0);
  await assert.rejects(guest.agent.thawRoot(), /not frozen/);
});

test('it thaws when its time is over, and says so to whoever comes to thaw it', async () => {
  await guest.agent.freezeRoot(2 * STANDS_STILL_MS);
  const { process, isThrough } = await writing();
  assert.equal(isThrough(), false);
  assert.equal((await process.exited).exitCode, 0);
  await assert.rejects(guest.agent.thawRoot(), /not frozen/);
  await assert.rejects(guest.agent.freezeRoot(0), /deadline/);
  await assert.rejects(guest.agent.freezeRoot(3_600_000), /deadline/);
});

test('it thaws when everything in the guest is killed', async () => {
  await guest.agent.freezeRoot(LONG_MS);
  const { process } = await writing();
  await guest.start('kill -9 -1');
  await process.exited;
  assert.equal(await guest.sh('echo y > /written; cat /written'), 'y\n');
  await assert.rejects(guest.agent.thawRoot(), /not frozen/);
  await guest.agent.freezeRoot(LONG_MS);
  await guest.agent.thawRoot();
});

test('a host that goes away leaves a guest that stops as always', async () => {
  await guest.agent.freezeRoot(LONG_MS);
  await guest.dialAnew();
  await guest.agent.shutdown({ graceMs: 1_000 });
});
