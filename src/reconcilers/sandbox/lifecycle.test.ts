// The life of a sandbox, from the outside: what is asked for, what runs, what the status says.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { REQUESTED_AT_ANNOTATION, SOURCE_PROBLEM_ANNOTATION } from '../../api/annotations.ts';
import { BulkheadError } from '../../api/errors.ts';
import { IMAGE, World } from '../testing/world.ts';

test('a sandbox without a main process boots, is Ready, and idles', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle');
  await world.untilPhase('idle', 'Running');
  assert.equal(await world.condition('idle', 'Ready'), 'True/Ready');
  assert.equal(await world.condition('idle', 'Reconciling'), undefined);
  assert.equal(world.host.running.length, 1);
  const status = await world.status('idle');
  assert.equal(status.image?.reference, IMAGE);
  assert.equal(status.vm?.driver, 'software');
  assert.equal(status.observedGeneration, 1);
});

test('a look that is asked for is answered with the same value', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app');
  await world.untilPhase('app', 'Running');
  assert.equal((await world.status('app')).lastHandledReconcileAt, undefined);
  await world.patch('app', { metadata: { annotations: { [REQUESTED_AT_ANNOTATION]: 'first' } } });
  await world.settle();
  assert.equal((await world.status('app')).lastHandledReconcileAt, 'first');
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  assert.equal(world.host.starts.get(await world.dirOf('app')), 1);
});

test('a broken manifest shows on its object for as long as it is broken, and disturbs nothing', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app');
  await world.untilPhase('app', 'Running');
  const annotations = { [SOURCE_PROBLEM_ANNOTATION]: 'SourceInvalid: a.yaml:3:1: spec.imag is not known' };
  await world.patch('app', { metadata: { annotations } });
  await world.settle();
  assert.equal(await world.condition('app', 'SourceInvalid'), 'True/SourceInvalid');
  const { conditions } = await world.status('app');
  const told = conditions?.find(({ type }) => type === 'SourceInvalid');
  assert.equal(told?.message, 'a.yaml:3:1: spec.imag is not known');
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  await world.patch('app', { metadata: { annotations: { [SOURCE_PROBLEM_ANNOTATION]: null } } });
  await world.settle();
  assert.equal(await world.condition('app', 'SourceInvalid'), undefined);
});

test('a quick launch costs two status writes', async () => {
  await using world = new World();
  world.images.add(IMAGE);
  await world.daemon();
  await world.create('quick', { main: {} });
  await world.untilPhase('quick', 'Running');
  await world.advance(60_000);
  assert.equal(world.statusWrites.get('quick')?.length, 2);
});

test('deletion stops the VM gracefully and leaves nothing behind', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('gone');
  await world.untilPhase('gone', 'Running');
  await world.delete('gone');
  await world.untilGone('gone');
  assert.deepEqual(world.host.running, []);
  assert.deepEqual(world.directories, []);
  assert.equal(world.images.leases.size, 0);
  assert.equal(world.host.residue.size, 0);
});

test('the main process ends well: the VM is stopped, the sandbox Succeeded', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: { command: ['/bin/job'] } });
  await world.untilPhase('job', 'Running');
  const guest = world.host.guest(await world.dirOf('job'));
  assert.deepEqual(guest?.main?.request.argv, ['/bin/job']);
  guest?.main?.end({ exitCode: 0 });
  await world.untilPhase('job', 'Succeeded');
  const status = await world.status('job');
  assert.equal(status.lastTermination?.exitCode, 0);
  assert.equal(status.lastTermination?.reason, 'Completed');
  assert.equal(await world.condition('job', 'Finished'), 'True/Completed');
  assert.equal(await world.condition('job', 'Stalled'), undefined);
  assert.equal(await world.condition('job', 'Reconciling'), undefined);
  assert.deepEqual(world.host.running, []);
  assert.equal(status.vm, undefined);
});

test('the main process ends badly: Failed with its exit code, and stays so', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {} });
  await world.untilPhase('job', 'Running');
  world.host.guest(await world.dirOf('job'))?.main?.end({ exitCode: 3 });
  await world.untilPhase('job', 'Failed');
  await world.advance(3_600_000);
  assert.equal((await world.status('job')).lastTermination?.exitCode, 3);
  assert.equal(await world.condition('job', 'Stalled'), 'True/Error');
  assert.equal(world.host.starts.get(await world.dirOf('job')), 1);
});

test("absent parts of main come from the image's ENTRYPOINT and CMD, as in a Pod", async () => {
  await using world = new World();
  await world.daemon();
  await world.create('both', { main: {} });
  await world.create('args', { main: { args: ['x'] } });
  await world.create('command', { main: { command: ['/sh'] } });
  const expected = { both: ['/entry', 'default'], args: ['/entry', 'x'], command: ['/sh'] };
  for (const [name, argv] of Object.entries(expected)) {
    await world.untilPhase(name, 'Running');
    assert.deepEqual(world.host.guest(await world.dirOf(name))?.main?.request.argv, argv);
  }
});

test('a command that the image does not have ends the run with exit code 127', async () => {
  await using world = new World();
  await world.daemon();
  world.faults.fail('exec', new BulkheadError('COMMAND_NOT_FOUND', 'there is no /nope'));
  await world.create('job', { main: { command: ['/nope'] } });
  await world.untilPhase('job', 'Failed');
  const { lastTermination } = await world.status('job');
  assert.equal(lastTermination?.exitCode, 127);
  assert.equal(lastTermination?.reason, 'CommandNotFound');
  assert.match(lastTermination?.message ?? '', /nope/);
});

test('OnFailure restarts failures after 10 s, then twice as long each time up to 5 min', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, restartPolicy: 'OnFailure' });
  const dir = await world.dirOf('job');
  const waits: number[] = [];
  for (let run = 1; run <= 7; run += 1) {
    await world.until(`run ${run}`, () => world.host.guest(dir)?.main !== undefined);
    await world.untilPhase('job', 'Running');
    const ended = world.clock.monotonic();
    world.host.guest(dir)?.main?.end({ exitCode: 1 });
    await world.until(`start ${run + 1}`, () => world.host.starts.get(dir) === run + 1);
    waits.push(Math.round((world.clock.monotonic() - ended) / 1_000));
  }
  assert.deepEqual(waits, [10, 20, 40, 80, 160, 300, 300]);
  await world.untilPhase('job', 'Running');
  assert.equal((await world.status('job')).restarts, 7);
  world.host.guest(dir)?.main?.end({ exitCode: 0 });
  await world.untilPhase('job', 'Succeeded');
});

test('a run that held for ten minutes starts the back-off again', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, restartPolicy: 'Always' });
  const dir = await world.dirOf('job');
  await world.untilPhase('job', 'Running');
  for (let run = 1; run <= 3; run += 1) {
    world.host.guest(dir)?.main?.end({ exitCode: 1 });
    await world.until(`start ${run + 1}`, () => world.host.starts.get(dir) === run + 1);
    await world.untilPhase('job', 'Running');
  }
  await world.advance(601_000);
  const ended = world.clock.monotonic();
  world.host.guest(dir)?.main?.end({ exitCode: 1 });
  await world.until('start 5', () => world.host.starts.get(dir) === 5);
  assert.equal(Math.round((world.clock.monotonic() - ended) / 1_000), 10);
});

test('a run of less than ten minutes does not, also where another daemon saw its end', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('job', { main: {}, restartPolicy: 'Always' });
  const dir = await world.dirOf('job');
  await world.untilPhase('job', 'Running');
  for (const [minutes, wait, run] of [
    [9, 10, 2],
    [9, 20, 3],
    [9, 40, 4],
    [11, 10, 5],
  ] as const) {
    await world.advance(minutes * 60_000);
    if (run === 3) {
      first.process.kill();
      await world.daemon();
    }
    const ended = world.clock.monotonic();
    world.host.guest(dir)?.main?.end({ exitCode: 1 });
    await world.until(`start ${run}`, () => world.host.starts.get(dir) === run);
    assert.equal(Math.round((world.clock.monotonic() - ended) / 1_000), wait, `before start ${run}`);
    await world.untilPhase('job', 'Running');
  }
});

test('Always restarts a main process that ended well', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('service', { main: {}, restartPolicy: 'Always' });
  await world.untilPhase('service', 'Running');
  const dir = await world.dirOf('service');
  world.host.guest(dir)?.main?.end({ exitCode: 0 });
  await world.until('a second start', () => world.host.starts.get(dir) === 2);
  await world.untilPhase('service', 'Running');
  const status = await world.status('service');
  assert.equal(status.restarts, 1);
  assert.equal(status.lastTermination?.reason, 'Completed');
});

test('a VM that crashes is a failure with its true reason', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle');
  await world.untilPhase('idle', 'Running');
  world.host.crash(await world.dirOf('idle'));
  await world.untilPhase('idle', 'Failed');
  const { lastTermination } = await world.status('idle');
  assert.equal(lastTermination?.reason, 'VmCrashed');
  assert.match(lastTermination?.message ?? '', /Kernel panic/);
});

test('an idle sandbox whose VM crashed runs again where the policy says so', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle', { restartPolicy: 'OnFailure' });
  await world.untilPhase('idle', 'Running');
  const dir = await world.dirOf('idle');
  world.host.crash(dir);
  await world.settle();
  assert.equal(await world.condition('idle', 'Reconciling'), 'True/BackOff');
  await world.until('a second start', () => world.host.starts.get(dir) === 2);
  await world.untilPhase('idle', 'Running');
});

test('Suspended stops the VM and keeps the disks; Running takes them up again', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle');
  await world.untilPhase('idle', 'Running');
  const dir = await world.dirOf('idle');
  await world.patch('idle', { spec: { operatingMode: 'Suspended' } });
  await world.untilPhase('idle', 'Suspended');
  assert.equal(await world.condition('idle', 'Suspended'), 'True/Suspended');
  assert.equal(await world.condition('idle', 'Reconciling'), undefined);
  assert.deepEqual(world.host.running, []);
  assert.equal(world.directories.length, 1);
  assert.equal(world.images.leases.size, 1);
  await world.advance(600_000);
  await world.patch('idle', { spec: { operatingMode: 'Running' } });
  await world.untilPhase('idle', 'Running');
  assert.equal(world.host.starts.get(dir), 2);
  assert.equal(world.images.pulls, 1);
  assert.equal(await world.condition('idle', 'Suspended'), 'False/NotSuspended');
});

test('a sandbox that is created Suspended starts nothing and holds nothing', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle', { operatingMode: 'Suspended' });
  await world.untilPhase('idle', 'Suspended');
  assert.deepEqual(world.directories, []);
  await world.delete('idle');
  await world.untilGone('idle');
});

test('a new restartedAt annotation restarts once, without back-off', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle');
  await world.untilPhase('idle', 'Running');
  const dir = await world.dirOf('idle');
  await world.patch('idle', { metadata: { annotations: { 'bulkhead.dev/restartedAt': '1' } } });
  await world.until('a second start', () => world.host.starts.get(dir) === 2);
  await world.advance(60_000);
  assert.equal(world.host.starts.get(dir), 2);
  const status = await world.status('idle');
  assert.equal(status.phase, 'Running');
  assert.equal(status.restarts, 0);
});

test('a finished sandbox runs again when a restart is asked for', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {} });
  await world.untilPhase('job', 'Running');
  const dir = await world.dirOf('job');
  world.host.guest(dir)?.main?.end({ exitCode: 1 });
  await world.untilPhase('job', 'Failed');
  await world.patch('job', { metadata: { annotations: { 'bulkhead.dev/restartedAt': '1' } } });
  await world.untilPhase('job', 'Running');
  assert.equal(await world.condition('job', 'Finished'), undefined);
  assert.equal(await world.condition('job', 'Stalled'), undefined);
  assert.equal((await world.status('job')).lastTermination?.exitCode, 1);
});

test('a guest that does not stop is killed after its grace period', async () => {
  await using world = new World();
  world.host.stubborn = true;
  await world.daemon();
  await world.create('idle', { terminationGracePeriodSeconds: 30 });
  await world.untilPhase('idle', 'Running');
  const began = world.clock.monotonic();
  await world.delete('idle');
  await world.untilGone('idle');
  const seconds = (world.clock.monotonic() - began) / 1_000;
  assert.ok(seconds >= 30 && seconds <= 45, `${seconds} s`);
  assert.deepEqual(world.host.running, []);
});

test('a change that only a start applies is said, and applied by a restart', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle');
  await world.untilPhase('idle', 'Running');
  await world.patch('idle', { spec: { env: [{ name: 'A', value: '1' }] } });
  await world.settle();
  assert.equal(await world.condition('idle', 'RestartRequired'), 'True/RestartRequired');
  assert.equal(await world.condition('idle', 'Ready'), 'True/Ready');
  await world.patch('idle', { metadata: { annotations: { 'bulkhead.dev/restartedAt': '1' } } });
  await world.until('the restart', async () => world.host.starts.get(await world.dirOf('idle')) === 2);
  await world.untilPhase('idle', 'Running');
  assert.equal(await world.condition('idle', 'RestartRequired'), undefined);
});

test('a main process that is added to a running sandbox waits for the next start', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle');
  await world.untilPhase('idle', 'Running');
  await world.patch('idle', { spec: { main: { command: ['/late'] } } });
  world.daemons[0]?.process.kill();
  await world.daemon();
  await world.advance(60_000);
  assert.equal(world.host.guest(await world.dirOf('idle'))?.mainStarts, 0);
});

test('a guest that falls silent costs readiness after a while, and gets it back', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle');
  await world.untilPhase('idle', 'Running');
  const guest = world.host.guest(await world.dirOf('idle'));
  guest?.setConnected(false);
  await world.advance(5_000);
  assert.equal(await world.condition('idle', 'Ready'), 'True/Ready');
  await world.advance(6_000);
  assert.equal(await world.condition('idle', 'Ready'), 'False/AgentUnreachable');
  assert.equal(await world.condition('idle', 'Reconciling'), 'True/AgentUnreachable');
  guest?.setConnected(true);
  await world.advance(1_000);
  assert.equal(await world.condition('idle', 'Ready'), 'True/Ready');
});

test('a connection that stays silent is replaced, and the main process taken up again', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const object = await world.create('job', { main: {} });
  await world.untilPhase('job', 'Running');
  const guest = world.host.guest(await world.dirOf('job'));
  const former = daemon.reconciler.live.get(object.metadata.uid)?.agent;
  guest?.setConnected(false);
  await world.advance(70_000);
  assert.notEqual(daemon.reconciler.live.get(object.metadata.uid)?.agent, former);
  assert.equal(await world.condition('job', 'Ready'), 'True/Ready');
  guest?.main?.end({ exitCode: 4 });
  await world.untilPhase('job', 'Failed');
  assert.equal((await world.status('job')).lastTermination?.exitCode, 4);
});
