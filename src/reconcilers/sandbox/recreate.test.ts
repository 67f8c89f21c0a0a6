// updateStrategy Recreate: another root file system in place of the one that is there.
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { BulkheadError } from '../../api/errors.ts';
import { IMAGE, World } from '../testing/world.ts';

const OTHER = 'registry.example/app:2';
const RECREATE = { updateStrategy: 'Recreate' as const };

/** The fake driver makes no disks: this one stands for what the runs so far have written. */
async function upperOf(world: World, name: string): Promise<string> {
  const path = join(await world.dirOf(name), 'upper.ext4');
  writeFileSync(path, 'what it wrote');
  return path;
}

test('a changed image stops the VM, and the next run has the new image on a new root', async () => {
  await using world = new World();
  await world.daemon();
  const patches = [{ text: { path: '/etc/a', content: 'a' } }];
  await world.create('app', { main: {}, restartPolicy: 'Always', patches, ...RECREATE });
  await world.untilPhase('app', 'Running');
  const dir = await world.dirOf('app');
  const upper = await upperOf(world, 'app');
  const before = (await world.status('app')).image?.digest;
  await world.patch('app', { spec: { image: OTHER } });
  await world.until('a second start', () => world.host.starts.get(dir) === 2);
  await world.untilPhase('app', 'Running');
  assert.ok(!existsSync(upper));
  const status = await world.status('app');
  assert.equal(status.image?.reference, OTHER);
  assert.notEqual(status.image?.digest, before);
  assert.equal(world.host.vm(dir)?.config.image.digest, status.image?.digest);
  assert.equal(world.host.guest(dir)?.root.get('/etc/a')?.content, 'a', 'patched again');
  assert.equal(status.restarts, 0);
  assert.equal(status.lastTermination?.reason, 'Recreating');
  assert.equal(await world.condition('app', 'RestartRequired'), undefined);
  assert.deepEqual(
    world.events
      .filter(({ reason }) => ['Stopping', 'Recreated'].includes(reason))
      .map(({ reason }) => reason),
    ['Stopping', 'Recreated'],
  );
  await world.advance(600_000);
  assert.equal(world.host.starts.get(dir), 2);
});

test('user, driver, patches and a smaller disk make a new root; a larger one, or the same in other words, does not', async () => {
  const resources = { cpus: 1, memory: '256Mi', disk: '1Gi' };
  for (const [spec, recreated] of [
    [{ user: 'app' }, true],
    [{ driver: 'Software' }, true],
    [{ patches: [{ mkdir: { path: '/b', mode: '0755' } }] }, true],
    [{ resources: { ...resources, disk: '512Mi' } }, true],
    [{ resources: { ...resources, disk: '2Gi' } }, false],
    [{ patches: [{ mkdir: { mode: '0755', path: '/a' } }] }, false],
    [{ env: [{ name: 'A', value: 'b' }] }, false],
  ] as const) {
    await using world = new World();
    await world.daemon();
    await world.create('app', { patches: [{ mkdir: { path: '/a', mode: '0755' } }], resources, ...RECREATE });
    await world.untilPhase('app', 'Running');
    const dir = await world.dirOf('app');
    const upper = await upperOf(world, 'app');
    await world.patch('app', { spec });
    await world.advance(60_000);
    assert.equal(world.host.starts.get(dir), recreated ? 2 : 1, JSON.stringify(spec));
    assert.equal(existsSync(upper), !recreated, JSON.stringify(spec));
    assert.equal((await world.status('app')).phase, 'Running');
  }
});

test('a root that is made anew has its patches only when they are made: a damaged record costs no more than that root', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('app', {
    restartPolicy: 'Always',
    patches: [{ text: { path: '/etc/a', content: 'old' } }],
    ...RECREATE,
  });
  await world.untilPhase('app', 'Running');
  const dir = await world.dirOf('app');
  assert.ok(existsSync(join(dir, 'patched')));
  const silent = new BulkheadError('AGENT_UNREACHABLE', 'the guest is silent');
  world.faults.failAlways('files.sync', silent);
  await world.patch('app', { spec: { patches: [{ text: { path: '/etc/a', content: 'new' } }] } });
  await world.until('a second start', () => world.host.starts.get(dir) === 2);
  await world.settle();
  assert.equal(existsSync(join(dir, 'patched')), false);
  const upper = await upperOf(world, 'app');
  first.process.kill();
  writeFileSync(join(dir, 'run.json'), '{"half": ');
  world.faults.mend('files.sync');
  await world.daemon();
  assert.equal(existsSync(upper), false);
  await world.untilPhase('app', 'Running');
  assert.equal(world.host.guest(dir)?.root.get('/etc/a')?.content, 'new');
});

test('a restart without such a change keeps the root, its patches and its image', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', {
    restartPolicy: 'Always',
    patches: [{ text: { path: '/etc/a', content: 'a' } }],
    ...RECREATE,
  });
  await world.untilPhase('app', 'Running');
  const dir = await world.dirOf('app');
  const upper = await upperOf(world, 'app');
  world.host.crash(dir);
  await world.until('a second start', () => world.host.starts.get(dir) === 2);
  await world.untilPhase('app', 'Running');
  assert.ok(existsSync(upper));
  assert.equal(world.host.guest(dir)?.root.get('/etc/a'), undefined);
});

test('a change that is taken back before the new root is made costs nothing but a restart', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', RECREATE);
  await world.untilPhase('app', 'Running');
  const dir = await world.dirOf('app');
  const upper = await upperOf(world, 'app');
  const before = (await world.status('app')).image?.digest;
  world.faults.failAlways('pull', new BulkheadError('REGISTRY_UNAVAILABLE', 'connection refused'));
  await world.patch('app', { spec: { image: OTHER } });
  await world.until('the stop', () => world.host.running.length === 0);
  await world.advance(30_000);
  assert.equal(await world.condition('app', 'Ready'), 'False/RegistryUnavailable');
  assert.equal(await world.condition('app', 'ImageReady'), 'False/RegistryUnavailable');
  await world.patch('app', { spec: { image: IMAGE } });
  await world.until('a second start', () => world.host.starts.get(dir) === 2);
  await world.untilPhase('app', 'Running');
  assert.ok(existsSync(upper));
  assert.equal(world.host.vm(dir)?.config.image.digest, before);
});

test('what has finished runs again, on its new root and at once', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, ...RECREATE });
  await world.untilPhase('job', 'Running');
  const dir = await world.dirOf('job');
  const upper = await upperOf(world, 'job');
  world.host.guest(dir)?.main?.end({ exitCode: 1 });
  await world.untilPhase('job', 'Failed');
  await world.patch('job', { spec: { image: OTHER } });
  await world.untilPhase('job', 'Running');
  assert.equal(world.host.starts.get(dir), 2);
  assert.ok(!existsSync(upper));
});

test('a sandbox that waits for its next try does not wait with another root', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('job', { main: {}, restartPolicy: 'OnFailure', ...RECREATE });
  const dir = await world.dirOf('job');
  for (let run = 1; run <= 5; run += 1) {
    await world.until(`run ${run}`, () => world.host.starts.get(dir) === run);
    await world.until('its main process', () => world.host.guest(dir)?.main !== undefined);
    world.host.guest(dir)?.main?.end({ exitCode: 1 });
  }
  await world.until('back-off', () => world.host.running.length === 0);
  const began = world.clock.monotonic();
  await world.patch('job', { spec: { image: OTHER } });
  await world.until('run 6', () => world.host.starts.get(dir) === 6);
  assert.equal(world.clock.monotonic(), began);
});

test('a suspended sandbox gets its new root when it goes on', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', RECREATE);
  await world.untilPhase('app', 'Running');
  const upper = await upperOf(world, 'app');
  await world.patch('app', { spec: { operatingMode: 'Suspended' } });
  await world.untilPhase('app', 'Suspended');
  await world.patch('app', { spec: { image: OTHER } });
  await world.advance(60_000);
  assert.equal((await world.status('app')).phase, 'Suspended');
  assert.ok(existsSync(upper));
  await world.patch('app', { spec: { operatingMode: 'Running' } });
  await world.untilPhase('app', 'Running');
  assert.ok(!existsSync(upper));
  assert.equal((await world.status('app')).image?.reference, OTHER);
});

test('a VM that runs is not given up for a spec that cannot be met', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', RECREATE);
  await world.untilPhase('app', 'Running');
  await world.patch('app', {
    spec: { image: OTHER, volumes: ['a', 'b', 'c', 'd'].map((name) => ({ name, volume: { name } })) },
  });
  await world.advance(60_000);
  assert.equal(await world.condition('app', 'Stalled'), 'True/NotSupported');
  assert.equal(world.host.starts.get(await world.dirOf('app')), 1);
  assert.equal(world.host.running.length, 1);
});
