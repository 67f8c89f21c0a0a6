// Times: they hold over restarts of the daemon and jumps of the clock.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../../api/errors.ts';
import { World } from '../testing/world.ts';

test('activeDeadlineSeconds ends a sandbox as Failed, DeadlineExceeded', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, activeDeadlineSeconds: 100, restartPolicy: 'Always' });
  await world.untilPhase('job', 'Running');
  await world.advance(95_000);
  assert.equal((await world.status('job')).phase, 'Running');
  await world.advance(10_000);
  assert.equal((await world.status('job')).phase, 'Failed');
  assert.equal(await world.condition('job', 'Finished'), 'True/DeadlineExceeded');
});

test('a restart of the daemon does not begin a deadline anew', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('job', { main: {}, activeDeadlineSeconds: 100 });
  await world.untilPhase('job', 'Running');
  await world.advance(60_000);
  first.process.kill();
  await world.advance(20_000);
  await world.daemon();
  await world.advance(15_000);
  assert.equal((await world.status('job')).phase, 'Running');
  await world.advance(10_000);
  assert.equal((await world.status('job')).phase, 'Failed');
});

test('a clock that jumps while the daemon runs moves no deadline', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, activeDeadlineSeconds: 100 });
  await world.untilPhase('job', 'Running');
  await world.advance(10_000);
  world.clock.step(86_400_000);
  await world.advance(80_000);
  assert.equal((await world.status('job')).phase, 'Running');
  world.clock.step(-2 * 86_400_000);
  await world.advance(15_000);
  assert.equal((await world.status('job')).phase, 'Failed');
});

test('a deadline counts over restarts by policy, and passes while none runs', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, activeDeadlineSeconds: 25, restartPolicy: 'OnFailure' });
  await world.untilPhase('job', 'Running');
  const dir = await world.dirOf('job');
  world.host.guest(dir)?.main?.end({ exitCode: 1 });
  await world.until('a second start', () => world.host.starts.get(dir) === 2);
  await world.untilPhase('job', 'Running');
  world.host.guest(dir)?.main?.end({ exitCode: 1 });
  await world.advance(30_000);
  assert.equal((await world.status('job')).lastTermination?.reason, 'DeadlineExceeded');
  assert.equal(world.host.starts.get(dir), 2);
});

test('a suspension ends the active time: the deadline begins anew with the resume', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle', { activeDeadlineSeconds: 100 });
  await world.untilPhase('idle', 'Running');
  await world.advance(80_000);
  await world.patch('idle', { spec: { operatingMode: 'Suspended' } });
  await world.untilPhase('idle', 'Suspended');
  await world.advance(600_000);
  await world.patch('idle', { spec: { operatingMode: 'Running' } });
  await world.untilPhase('idle', 'Running');
  await world.advance(80_000);
  assert.equal((await world.status('idle')).phase, 'Running');
});

test('a changed deadline applies at once', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle', { activeDeadlineSeconds: 1_000 });
  await world.untilPhase('idle', 'Running');
  await world.advance(50_000);
  await world.patch('idle', { spec: { activeDeadlineSeconds: 20 } });
  await world.untilPhase('idle', 'Failed');
  assert.ok(world.clock.monotonic() < 60_000);
});

test('shutdownTime ends a running sandbox as Succeeded', async () => {
  await using world = new World();
  await world.daemon();
  const at = new Date(world.clock.now() + 300_000).toISOString();
  await world.create('idle', { shutdownTime: at });
  await world.untilPhase('idle', 'Running');
  await world.advance(290_000);
  assert.equal((await world.status('idle')).phase, 'Running');
  await world.advance(15_000);
  assert.equal(await world.condition('idle', 'Finished'), 'True/ShutdownTimeReached');
  assert.equal((await world.status('idle')).phase, 'Succeeded');
});

test('shutdownTime follows the wall clock when that jumps', async () => {
  await using world = new World();
  await world.daemon();
  const at = new Date(world.clock.now() + 86_400_000).toISOString();
  await world.create('idle', { shutdownTime: at });
  await world.untilPhase('idle', 'Running');
  world.clock.step(86_400_000);
  await world.advance(65_000);
  assert.equal((await world.status('idle')).phase, 'Succeeded');
});

test('a sandbox whose shutdownTime has passed never starts', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('late', { shutdownTime: new Date(world.clock.now() - 1_000).toISOString() });
  await world.untilPhase('late', 'Succeeded');
  await world.advance(600_000);
  assert.equal((await world.status('late')).phase, 'Succeeded');
  assert.deepEqual(world.directories, []);
  assert.equal((await world.status('late')).lastTermination?.reason, 'ShutdownTimeReached');
});

test('shutdownTime also ends a suspended sandbox', async () => {
  await using world = new World();
  await world.daemon();
  const at = new Date(world.clock.now() + 300_000).toISOString();
  await world.create('idle', { shutdownTime: at });
  await world.untilPhase('idle', 'Running');
  await world.patch('idle', { spec: { operatingMode: 'Suspended' } });
  await world.untilPhase('idle', 'Suspended');
  await world.advance(310_000);
  assert.equal((await world.status('idle')).phase, 'Succeeded');
});

test('ttlSecondsAfterFinished deletes the object, over a restart of the daemon', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('job', { main: {}, ttlSecondsAfterFinished: 60 });
  await world.untilPhase('job', 'Running');
  world.host.guest(await world.dirOf('job'))?.main?.end();
  await world.untilPhase('job', 'Succeeded');
  await world.advance(40_000);
  first.process.kill();
  await world.daemon();
  await world.advance(15_000);
  assert.notEqual(await world.get('job'), undefined);
  await world.advance(10_000);
  assert.equal(await world.get('job'), undefined);
  assert.deepEqual(world.directories, []);
});

test('a ttl of zero deletes at once', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, ttlSecondsAfterFinished: 0 });
  await world.untilPhase('job', 'Running');
  world.host.guest(await world.dirOf('job'))?.main?.end();
  await world.untilGone('job');
});

test('the grace period counts on over a restart of the daemon', async () => {
  await using world = new World();
  world.host.stubborn = true;
  const first = await world.daemon();
  await world.create('idle', { terminationGracePeriodSeconds: 100 });
  await world.untilPhase('idle', 'Running');
  await world.patch('idle', { spec: { operatingMode: 'Suspended' } });
  await world.advance(80_000);
  first.process.kill();
  await world.daemon();
  const began = world.clock.monotonic();
  await world.untilPhase('idle', 'Suspended');
  assert.ok(world.clock.monotonic() - began <= 31_000);
});

test('a guest that does not come up in time is ended, and judged by the policy', async () => {
  await using world = new World();
  world.faults.delay('connect', 3_600_000);
  await world.daemon();
  await world.create('stuck');
  await world.untilPhase('stuck', 'Failed');
  assert.equal((await world.status('stuck')).lastTermination?.reason, 'BootTimedOut');
  assert.deepEqual(world.host.running, []);
});

test('idleTimeoutSeconds ends a sandbox that nobody uses, and none that somebody does', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const { metadata } = await world.create('idle', { idleTimeoutSeconds: 100, restartPolicy: 'Always' });
  await world.untilPhase('idle', 'Running');
  await world.advance(90_000);
  const live = daemon.reconciler.live.get(metadata.uid);
  const [one, other] = [live?.use(), live?.use()];
  await world.advance(1_000_000);
  one?.();
  one?.();
  await world.advance(1_000_000);
  assert.equal((await world.status('idle')).phase, 'Running', 'the second one still uses it');
  other?.();
  await world.advance(90_000);
  assert.equal((await world.status('idle')).phase, 'Running');
  await world.advance(15_000);
  assert.equal((await world.status('idle')).phase, 'Succeeded');
  assert.equal(await world.condition('idle', 'Finished'), 'True/IdleTimeout');
});

test('a main process is use enough', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, idleTimeoutSeconds: 1 });
  await world.untilPhase('job', 'Running');
  await world.advance(1_000_000);
  assert.equal((await world.status('job')).phase, 'Running');
});

test('a guest that is frozen does not keep itself alive, whoever waits for it; one that the host holds is not to blame', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const { metadata } = await world.create('used', { idleTimeoutSeconds: 200 });
  await world.create('job', { main: {}, idleTimeoutSeconds: 200 });
  await world.create('held', { main: {}, idleTimeoutSeconds: 200 });
  for (const name of ['used', 'job', 'held']) await world.untilPhase(name, 'Running');
  daemon.reconciler.live.get(metadata.uid)?.use();
  const held = await world.dirOf('held');
  world.host.stall(held, { code: 'DISK_FULL', message: 'no room' });
  world.host.faults.failAlways('connect', new BulkheadError('AGENT_UNREACHABLE', 'no answer'));
  for (const name of ['used', 'job', 'held']) world.host.guest(await world.dirOf(name))?.setConnected(false);
  await world.advance(195_000);
  for (const name of ['used', 'job', 'held']) assert.equal((await world.status(name)).phase, 'Running', name);
  await world.until('the end of both', async () => {
    const ends = await Promise.all(['used', 'job'].map((name) => world.condition(name, 'Finished')));
    return ends.every((end) => end === 'True/IdleTimeout');
  });
  const message = (await world.status('job')).lastTermination?.message ?? '';
  assert.match(message, /did not answer for idleTimeoutSeconds \(200\)/);
  await world.advance(300_000);
  assert.equal((await world.status('held')).phase, 'Running');
  world.host.stall(held, undefined);
  await world.advance(5_000);
  assert.equal((await world.status('held')).phase, 'Running', 'it has the whole time again');
  world.host.faults.mend('connect');
  await world.advance(300_000);
  assert.equal(await world.condition('held', 'Ready'), 'True/Ready');
});

test('silence shorter than a lost connection takes ends nobody, however short the idle time is', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, idleTimeoutSeconds: 1 });
  await world.untilPhase('job', 'Running');
  const guest = world.host.guest(await world.dirOf('job'));
  guest?.setConnected(false);
  await world.advance(110_000);
  assert.equal((await world.status('job')).phase, 'Running');
  guest?.setConnected(true);
  await world.advance(50_000);
  assert.equal(await world.condition('job', 'Ready'), 'True/Ready');
});

test('idle time goes on over a restart of the daemon, unless that one was killed while the sandbox was used', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('idle', { idleTimeoutSeconds: 100 });
  const { metadata } = await world.create('used', { idleTimeoutSeconds: 100 });
  await world.untilPhase('idle', 'Running');
  await world.untilPhase('used', 'Running');
  first.reconciler.live.get(metadata.uid)?.use();
  await world.advance(60_000);
  first.process.kill();
  await world.daemon();
  await world.advance(45_000);
  assert.equal((await world.status('idle')).phase, 'Succeeded');
  assert.equal((await world.status('used')).phase, 'Running');
  await world.advance(60_000);
  assert.equal((await world.status('used')).phase, 'Succeeded');
});
