// Hooks at the two ends of a run.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { FakeGuest, FakeSession } from '../testing/fake-guest.ts';
import { World } from '../testing/world.ts';

/** Commands that begin in any guest, in their order, with `stop` for the moment at which a guest is asked to stop. */
interface Script {
  begun: string[];
  sessions: FakeSession[];
  /** Left in the grace period when the guest was asked. */
  graces: number[];
}

function scripted(world: World, act: (session: FakeSession) => void = (session) => session.end()): Script {
  const script: Script = { begun: [], sessions: [], graces: [] };
  world.host.onBoot = (guest: FakeGuest) => {
    guest.onExec = (session) => {
      script.begun.push(session.request.argv.join(' '));
      script.sessions.push(session);
      act(session);
    };
    const { onShutdown } = guest;
    guest.onShutdown = (options) => {
      script.begun.push('stop');
      script.graces.push(options.graceMs);
      onShutdown(options);
    };
  };
  return script;
}

const HANGS = (): void => {};
const exec = (name: string) => ({ exec: { command: [name] } });

test('postStart runs once beside the main process, and the sandbox is Ready after it', async () => {
  await using world = new World();
  const script = scripted(world, HANGS);
  await world.daemon();
  await world.create('app', { main: {}, lifecycle: { postStart: exec('hello') } });
  await world.untilPhase('app', 'Running');
  await world.advance(600_000);
  assert.equal(await world.condition('app', 'Ready'), 'False/PostStartHookRunning');
  assert.equal(world.host.guest(await world.dirOf('app'))?.mainStarts, 1);
  script.sessions[0]?.end();
  await world.settle();
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  assert.deepEqual(script.begun, ['hello']);
});

test('a postStart hook that fails ends the run, says why, and restartPolicy decides', async () => {
  await using world = new World();
  let code = 4;
  scripted(world, (session) => {
    if (code !== 0) session.write('stderr', 'no database');
    session.end({ exitCode: code });
  });
  await world.daemon();
  await world.create('app', {
    main: {},
    restartPolicy: 'OnFailure',
    lifecycle: { postStart: exec('hello') },
  });
  await world.until('the end', async () => (await world.status('app')).lastTermination !== undefined);
  const { lastTermination } = await world.status('app');
  assert.equal(lastTermination?.reason, 'PostStartHookFailed');
  assert.equal(lastTermination?.message, 'The postStart hook failed: exit code 4: no database.');
  assert.ok(world.events.some(({ reason }) => reason === 'FailedPostStartHook'));
  code = 0;
  await world.until('ready', async () => (await world.condition('app', 'Ready')) === 'True/Ready');
  assert.equal((await world.status('app')).restarts, 1);
});

test('a daemon that comes while postStart runs waits for that same command', async () => {
  await using world = new World();
  const script = scripted(world, HANGS);
  const first = await world.daemon();
  await world.create('app', { main: {}, lifecycle: { postStart: exec('hello') } });
  await world.untilPhase('app', 'Running');
  first.process.kill();
  await world.daemon();
  assert.equal(await world.condition('app', 'Ready'), 'False/PostStartHookRunning');
  script.sessions[0]?.end();
  await world.settle();
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  assert.deepEqual(script.begun, ['hello']);
  assert.equal(world.host.guest(await world.dirOf('app'))?.mainStarts, 1);
});

test('a stop does not wait for a postStart hook', async () => {
  await using world = new World();
  const script = scripted(world, HANGS);
  await world.daemon();
  await world.create('app', { main: {}, lifecycle: { postStart: exec('hello') } });
  await world.untilPhase('app', 'Running');
  await world.delete('app');
  await world.untilGone('app');
  assert.deepEqual(script.begun, ['hello', 'stop']);
});

test('probes begin when postStart is over', async () => {
  await using world = new World();
  const script = scripted(world, HANGS);
  await world.daemon();
  await world.create('app', {
    lifecycle: { postStart: { sleep: { seconds: 30 } } },
    livenessProbe: exec('alive'),
  });
  await world.untilPhase('app', 'Running');
  await world.advance(25_000);
  assert.deepEqual(script.begun, []);
  await world.advance(6_000);
  assert.deepEqual(script.begun, ['alive']);
});

test('preStop comes before the stop, and its time counts in the grace period', async () => {
  await using world = new World();
  const script = scripted(world);
  await world.daemon();
  const lifecycle = { preStop: { sleep: { seconds: 12 } } };
  await world.create('app', { main: {}, terminationGracePeriodSeconds: 30, lifecycle });
  await world.untilPhase('app', 'Running');
  await world.patch('app', { spec: { operatingMode: 'Suspended' } });
  await world.untilPhase('app', 'Suspended');
  assert.deepEqual(script.graces, [18_000]);
  await world.patch('app', {
    spec: { operatingMode: 'Running', lifecycle: { preStop: { sleep: null, ...exec('bye') } } },
  });
  await world.untilPhase('app', 'Running');
  await world.delete('app');
  await world.untilGone('app');
  assert.deepEqual(script.begun, ['stop', 'bye', 'stop']);
});

test('a preStop hook that takes all of the grace period leaves two seconds, and one that fails is told', async () => {
  await using world = new World();
  const script = scripted(world, HANGS);
  await world.daemon();
  await world.create('slow', { terminationGracePeriodSeconds: 20, lifecycle: { preStop: exec('slow') } });
  await world.untilPhase('slow', 'Running');
  const began = world.clock.monotonic();
  await world.delete('slow');
  await world.untilGone('slow');
  assert.deepEqual(script.graces, [2_000]);
  assert.ok(world.clock.monotonic() - began < 25_000);
  assert.ok(world.events.some(({ reason }) => reason === 'FailedPreStopHook'));
});

test('preStop is left out when the main process has ended, and when there is no time', async () => {
  await using world = new World();
  const script = scripted(world);
  await world.daemon();
  await world.create('job', { main: {}, lifecycle: { preStop: exec('bye') } });
  await world.untilPhase('job', 'Running');
  world.host.guest(await world.dirOf('job'))?.main?.end();
  await world.untilPhase('job', 'Succeeded');
  await world.create('now', { terminationGracePeriodSeconds: 0, lifecycle: { preStop: exec('bye') } });
  await world.untilPhase('now', 'Running');
  await world.delete('now');
  await world.untilGone('now');
  assert.ok(!script.begun.includes('bye'));
});

test('a daemon that comes in the middle of a stop asks the guest with what is left of the grace period', async () => {
  await using world = new World();
  world.host.stubborn = true;
  const script = scripted(world);
  const first = await world.daemon();
  const lifecycle = { preStop: exec('bye') };
  await world.create('app', { main: {}, terminationGracePeriodSeconds: 60, lifecycle });
  await world.untilPhase('app', 'Running');
  const dir = await world.dirOf('app');
  await world.patch('app', { spec: { operatingMode: 'Suspended' } });
  await world.settle();
  first.process.kill();
  await world.advance(20_000);
  await world.daemon();
  assert.deepEqual(script.begun, ['bye', 'stop', 'bye', 'stop']);
  assert.deepEqual(script.graces, [60_000, 40_000]);
  assert.equal(world.host.running.length, 1, 'it still has time');
  world.host.end(dir, { kind: 'clean', message: 'The guest rebooted.' });
  await world.untilPhase('app', 'Suspended');
});
