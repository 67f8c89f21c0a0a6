// What goes wrong around a sandbox, and what it says and does about it.
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { BulkheadError } from '../../api/errors.ts';
import { IMAGE, sandboxKey, World } from '../testing/world.ts';
import { BOOT_DEADLINE_MS, IMAGE_RECHECK_MS, RETRY_JITTER } from './limits.ts';

const secret = (name: string, data: Record<string, string>) => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name, namespace: 'default' },
  spec: undefined,
  data: Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  ),
});

/** More than a VM can have. */
const MANY_VOLUMES = ['a', 'b', 'c', 'd'].map((name) => ({ name, volume: { name } }));

test('a field that is not supported stalls the sandbox, names the field, and starts nothing', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  await world.create('idle', { volumes: MANY_VOLUMES });
  await world.settle();
  assert.equal(await world.condition('idle', 'Stalled'), 'True/NotSupported');
  assert.equal(await world.condition('idle', 'Ready'), 'False/NotSupported');
  assert.equal(await world.condition('idle', 'Reconciling'), undefined);
  const { conditions } = await world.status('idle');
  assert.match(
    conditions?.find(({ type }) => type === 'Stalled')?.message ?? '',
    /spec\.volumes \(4 Volumes/,
  );
  assert.ok(daemon.outcomes.some(({ type }) => type === 'terminal'));
  assert.deepEqual(world.directories, []);
  await world.patch('idle', { spec: { volumes: [] } });
  await world.untilPhase('idle', 'Running');
});

test('an unsupported field that is added to a running sandbox stalls it and leaves it running', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle');
  await world.untilPhase('idle', 'Running');
  await world.patch('idle', { spec: { volumes: MANY_VOLUMES } });
  await world.settle();
  assert.equal(await world.condition('idle', 'Stalled'), 'True/NotSupported');
  assert.equal(world.host.running.length, 1);
});

test('a sandbox that asks for more memory than the host has says so, starts nothing, and goes on when it asks for less', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  await world.create('vast', { resources: { cpus: 1, memory: '900Gi', disk: '1Gi' } });
  await world.settle();
  assert.equal(await world.condition('vast', 'Ready'), 'False/InsufficientResources');
  assert.equal(await world.condition('vast', 'Stalled'), 'True/InsufficientResources');
  assert.equal(await world.condition('vast', 'Scheduled'), 'False/Unschedulable');
  const { conditions, phase } = await world.status('vast');
  assert.equal(phase, 'Pending');
  const message = conditions?.find(({ type }) => type === 'Stalled')?.message ?? '';
  assert.equal(
    message,
    'resources.memory asks for 900Gi, and this host has 65536Mi. Ask for less, or use a host that has it.',
  );
  const codes = daemon.outcomes.flatMap((each) => (each.type === 'terminal' ? [each.error] : []));
  assert.ok(codes[0] instanceof BulkheadError && codes[0].code === 'INSUFFICIENT_RESOURCES');
  assert.deepEqual(world.directories, []);
  await world.patch('vast', { spec: { resources: { memory: '64Gi' } } });
  await world.untilPhase('vast', 'Running');
  assert.equal(await world.condition('vast', 'Scheduled'), 'True/Scheduled');
  await world.patch('vast', { spec: { resources: { memory: '65Gi' } } });
  await world.settle();
  assert.equal(await world.condition('vast', 'Stalled'), 'True/InsufficientResources');
  assert.equal(await world.condition('vast', 'Scheduled'), 'True/Scheduled', 'its VM runs on');
  assert.equal(world.host.running.length, 1);
});

test('a missing Secret holds the start back until it exists', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  await world.create('app', {
    main: {},
    env: [
      { name: 'PLAIN', value: 'a=b' },
      { name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'keys', key: 'token' } } },
      { name: 'MAYBE', valueFrom: { configMapKeyRef: { name: 'none', key: 'x', optional: true } } },
    ],
  });
  await world.settle();
  assert.equal(await world.condition('app', 'Ready'), 'False/ReferenceNotFound');
  assert.equal(await world.condition('app', 'Stalled'), undefined);
  assert.equal(await world.condition('app', 'Reconciling'), 'True/ReferenceNotFound');
  const created = await world.store.create(secret('keys', { token: 'hunter2' }));
  for (const key of daemon.reconciler.dependents(created)) daemon.wake(key);
  const began = world.clock.monotonic();
  await world.untilPhase('app', 'Running');
  assert.equal(world.clock.monotonic(), began);
  const env = world.host.guest(await world.dirOf('app'))?.main?.request.env;
  assert.deepEqual(env, ['PATH=/bin', 'PLAIN=a=b', 'TOKEN=hunter2']);
  assert.ok(world.events.every(({ message }) => !message.includes('hunter2')));
  assert.ok(!JSON.stringify(await world.status('app')).includes('hunter2'));
});

test('a missing key is named, and found without being told', async () => {
  await using world = new World();
  await world.daemon();
  await world.store.create(secret('keys', {}));
  await world.create('app', {
    env: [{ name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'keys', key: 'token' } } }],
  });
  await world.settle();
  const { conditions } = await world.status('app');
  assert.match(conditions?.find(({ type }) => type === 'Ready')?.message ?? '', /Secret keys key token/);
  await world.store.patch(
    { kind: 'Secret', namespace: 'default', name: 'keys' },
    { data: { token: 'eA==' } },
  );
  await world.untilPhase('app', 'Running');
});

test('a missing Secret does not disturb a sandbox that runs', async () => {
  await using world = new World();
  await world.daemon();
  await world.store.create(secret('keys', { token: 'x' }));
  await world.create('app', {
    env: [{ name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'keys', key: 'token' } } }],
  });
  await world.untilPhase('app', 'Running');
  await world.store.delete({ kind: 'Secret', namespace: 'default', name: 'keys' });
  world.daemons[0]?.process.kill();
  await world.daemon();
  await world.advance(60_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
});

test('imagePullSecrets reach the registry', async () => {
  await using world = new World();
  await world.daemon();
  const config = JSON.stringify({
    auths: { 'registry.example': { auth: Buffer.from('me:pa:ss').toString('base64') } },
  });
  await world.store.create(secret('pull', { '.dockerconfigjson': config }));
  await world.create('app', { imagePullSecrets: [{ name: 'pull' }] });
  await world.untilPhase('app', 'Running');
  assert.deepEqual(world.images.lastCredentials, [
    { registry: 'registry.example', username: 'me', password: 'pa:ss' },
  ]);
});

test('a pull secret that is none stalls, and mending it is enough', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const made = await world.store.create(secret('pull', { '.dockerconfigjson': '{"auths": 5}' }));
  await world.create('app', { imagePullSecrets: [{ name: 'pull' }] });
  await world.settle();
  assert.equal(await world.condition('app', 'Stalled'), 'True/Invalid');
  const data = { '.dockerconfigjson': Buffer.from('{"auths": {}}').toString('base64') };
  await world.store.patch({ kind: 'Secret', namespace: 'default', name: 'pull' }, { data });
  for (const key of daemon.reconciler.dependents(made)) daemon.wake(key);
  await world.untilPhase('app', 'Running');
  assert.equal(await world.condition('app', 'Stalled'), undefined);
});

test('an image that does not exist stalls: no retry, and a reason to act on', async () => {
  await using world = new World();
  world.images.registry.add('other');
  const daemon = await world.daemon();
  await world.create('app');
  await world.advance(600_000);
  assert.equal(await world.condition('app', 'Stalled'), 'True/ImageNotFound');
  assert.equal(await world.condition('app', 'ImageReady'), 'False/ImageNotFound');
  assert.equal(daemon.outcomes.filter(({ type }) => type === 'terminal').length, 1);
  assert.equal(world.images.pulls, 0);
});

test('an image that may not be pulled stalls, and starts at once when it is loaded', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', { imagePullPolicy: 'Never' });
  await world.settle();
  assert.equal(await world.condition('app', 'Stalled'), 'True/ImageNotPresent');
  world.images.add('registry.example/other:1');
  await world.settle();
  assert.equal(await world.condition('app', 'Stalled'), 'True/ImageNotPresent');
  const began = world.clock.monotonic();
  world.images.add(IMAGE);
  await world.settle();
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  assert.equal(await world.condition('app', 'Stalled'), undefined);
  assert.equal(world.clock.monotonic(), began);
});

test('an image that comes by another way ends the wait for a registry that is down', async () => {
  await using world = new World();
  world.faults.failAlways('pull', new BulkheadError('REGISTRY_UNAVAILABLE', 'connection refused'));
  await world.daemon();
  await world.create('app');
  await world.advance(100_000);
  assert.equal(await world.condition('app', 'Reconciling'), 'True/RegistryUnavailable');
  const began = world.clock.monotonic();
  world.images.add(IMAGE);
  await world.settle();
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  assert.equal(world.clock.monotonic(), began);
});

test('an image that comes while its pull is failing is found at once', async () => {
  await using world = new World();
  world.faults.delay('pull', 20_000);
  world.images.registry.add('other');
  await world.daemon();
  await world.create('app');
  await world.advance(10_000);
  world.images.add(IMAGE);
  await world.advance(10_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  assert.equal(world.images.pulls, 0);
});

test('a registry that is down is tried again by itself, ever more slowly', async () => {
  await using world = new World();
  world.faults.failAlways('pull', new BulkheadError('REGISTRY_UNAVAILABLE', 'connection refused'));
  const daemon = await world.daemon();
  await world.create('app');
  await world.advance(300_000);
  assert.equal(await world.condition('app', 'Ready'), 'False/RegistryUnavailable');
  assert.equal(await world.condition('app', 'Stalled'), undefined);
  assert.equal(await world.condition('app', 'Reconciling'), 'True/RegistryUnavailable');
  const tries = daemon.outcomes.filter(({ type }) => type === 'transient').length;
  assert.ok(tries >= 6 && tries <= 12, `${tries} tries in 5 min`);
  world.faults.mend('pull');
  await world.untilPhase('app', 'Running');
});

test('a start that fails is tried again, and leaves one VM', async () => {
  await using world = new World();
  world.faults.fail('start', new BulkheadError('VM_START_FAILED', 'no space for the process'), 2);
  world.faults.fail('started', new BulkheadError('VM_START_FAILED', 'it ended at once'), 1);
  await world.daemon();
  await world.create('app', { main: {} });
  await world.untilPhase('app', 'Running');
  assert.equal(world.host.running.length, 1);
  assert.equal((await world.status('app')).restarts, 0);
});

test('no driver stalls with what is missing', async () => {
  await using world = new World();
  world.faults.failAlways('select', new BulkheadError('DRIVER_UNAVAILABLE', 'no qemu-system-x86_64 in PATH'));
  await world.daemon();
  await world.create('app');
  await world.settle();
  await world.advance(5_000);
  assert.equal(await world.condition('app', 'Stalled'), 'True/DriverUnavailable');
});

test('a boot step that fails is tried again on the same VM', async () => {
  await using world = new World();
  world.faults.fail('mountRoot', new BulkheadError('TIMEOUT', 'slow'), 2);
  world.faults.fail('exec', new BulkheadError('AGENT_UNREACHABLE', 'gone for a moment'), 1);
  await world.daemon();
  await world.create('app', { main: {} });
  await world.untilPhase('app', 'Running');
  assert.equal(world.host.starts.get(await world.dirOf('app')), 1);
  assert.equal(world.host.guest(await world.dirOf('app'))?.mainStarts, 1);
});

test('a store that fails for a while loses nothing', async () => {
  await using world = new World();
  await world.daemon();
  world.faults.fail('store.updateStatus', new BulkheadError('STORE_FULL', 'disk full'), 3);
  world.faults.fail('store.patch', new BulkheadError('STORE_FULL', 'disk full'), 2);
  await world.create('app');
  await world.untilPhase('app', 'Running');
});

for (const [call, phase] of [
  ['pull', 'Pending'],
  ['start', 'Starting'],
  ['connect', 'Starting'],
  ['mountRoot', 'Starting'],
  ['exec', 'Starting'],
] as const) {
  test(`deletion while ${call} is under way cancels it and leaves nothing`, async () => {
    await using world = new World();
    world.faults.delay(call, 100_000);
    await world.daemon();
    await world.create('app', { main: {} });
    await world.until(`${call} began`, async () => (await world.status('app')).phase === phase);
    await world.advance(10_000);
    const began = world.clock.monotonic();
    await world.delete('app');
    await world.untilGone('app');
    assert.ok(world.clock.monotonic() - began < 30_000, 'it did not wait for the end');
    assert.deepEqual(world.host.running, []);
    assert.deepEqual(world.directories, []);
    assert.equal(world.images.leases.size, 0);
    assert.equal(world.host.residue.size, 0);
  });

  test(`suspension while ${call} is under way cancels it, and a resume goes on`, async () => {
    await using world = new World();
    world.faults.delay(call, 100_000);
    await world.daemon();
    await world.create('app', { main: {} });
    await world.until(`${call} began`, async () => (await world.status('app')).phase === phase);
    await world.advance(10_000);
    await world.patch('app', { spec: { operatingMode: 'Suspended' } });
    await world.untilPhase('app', 'Suspended');
    assert.deepEqual(world.host.running, []);
    world.faults.delay(call, 0);
    await world.patch('app', { spec: { operatingMode: 'Running' } });
    await world.untilPhase('app', 'Running');
    assert.equal(world.host.running.length, 1);
  });
}

test('clean-up that fails is tried again, and the finalizer waits for it', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app');
  await world.untilPhase('app', 'Running');
  world.faults.fail('release', new Error('cgroup is busy'), 3);
  await world.delete('app');
  await world.settle();
  assert.notEqual(await world.get('app'), undefined);
  await world.untilGone('app');
  assert.equal(world.host.residue.size, 0);
});

test('a finalizer that somebody takes off by force costs no host resource', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const object = await world.create('app');
  await world.untilPhase('app', 'Running');
  await world.delete('app');
  await world.store.patch(sandboxKey('app'), { metadata: { finalizers: [] } }).catch(() => {});
  daemon.wake(sandboxKey('app'));
  await world.until('the VM is gone', () => world.host.running.length === 0);
  await world.until('the directory is gone', () => world.directories.length === 0);
  assert.equal(daemon.reconciler.live.runtime(object.metadata.uid), undefined);
});

test('a namesake gets its own VM while the former one is cleaned up', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const former = await world.create('app');
  await world.untilPhase('app', 'Running');
  await world.store.patch(sandboxKey('app'), { metadata: { finalizers: [] } });
  await world.store.delete(sandboxKey('app'));
  const next = await world.create('app');
  await world.untilPhase('app', 'Running');
  await world.until('one VM', () => world.host.running.length === 1);
  await world.until('one directory', () => world.directories.length === 1);
  assert.deepEqual(world.directories, [next.metadata.uid]);
  assert.equal(daemon.reconciler.live.find('default', 'app')?.uid, next.metadata.uid);
  assert.notEqual(former.metadata.uid, next.metadata.uid);
});

test('directories without an object are cleaned up at start, with their VMs; others are left alone', async () => {
  await using world = new World();
  const first = await world.daemon();
  const object = await world.create('app');
  await world.untilPhase('app', 'Running');
  first.process.kill();
  await world.store.patch(sandboxKey('app'), { metadata: { finalizers: [] } });
  await world.store.delete(sandboxKey('app'));
  await mkdir(join(world.sandboxesDir, 'lost+found'));
  await world.daemon();
  await world.until('the orphan is gone', () => !world.directories.includes(object.metadata.uid));
  assert.deepEqual(world.host.running, []);
  assert.deepEqual(world.directories, ['lost+found']);
});

test('a host that restarted: what ran is a failure with its reason, and restarts by policy', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('never', { main: {} });
  await world.create('always', { main: {}, restartPolicy: 'Always' });
  await world.untilPhase('never', 'Running');
  await world.untilPhase('always', 'Running');
  first.process.kill();
  world.host.powerCut();
  await world.daemon();
  await world.untilPhase('never', 'Failed');
  assert.equal((await world.status('never')).lastTermination?.reason, 'VmLost');
  await world.untilPhase('always', 'Running');
  assert.equal((await world.status('always')).restarts, 1);
});

test('an unreadable record does not keep a VM from being stopped on deletion', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('app');
  await world.untilPhase('app', 'Running');
  first.process.kill();
  await writeFile(join(await world.dirOf('app'), 'run.json'), '{"half": ');
  await world.daemon();
  await world.delete('app');
  await world.untilGone('app');
  assert.deepEqual(world.host.running, []);
});

for (const isAlive of [true, false]) {
  test(`an unreadable record of a run whose VM ${isAlive ? 'is alive' : 'is gone'} counts as a crash: Failed, or another run by policy`, async () => {
    await using world = new World();
    const first = await world.daemon();
    await world.create('never', { main: {} });
    await world.create('always', { main: {}, restartPolicy: 'Always' });
    await world.untilPhase('never', 'Running');
    await world.untilPhase('always', 'Running');
    first.process.kill();
    const dirs = [await world.dirOf('never'), await world.dirOf('always')];
    for (const dir of dirs) {
      await writeFile(join(dir, 'run.json'), '{"half": ');
      if (!isAlive) world.host.crash(dir);
    }
    // Another daemon that is killed before it has judged changes nothing.
    await world.daemon(3);
    await world.daemon();
    await world.untilPhase('never', 'Failed');
    const { lastTermination, image } = await world.status('never');
    assert.equal(lastTermination?.reason, 'VmLost');
    assert.match(lastTermination?.message ?? '', /run\.json is damaged/);
    assert.equal(image?.digest, world.images.image(IMAGE).digest);
    await world.untilPhase('always', 'Running');
    assert.equal((await world.status('always')).restarts, 1);
    await world.advance(600_000);
    assert.deepEqual(
      dirs.map((dir) => world.host.starts.get(dir)),
      [1, 2],
    );
    assert.equal((await world.status('never')).phase, 'Failed');
  });
}

for (const [phase, end] of [
  ['Succeeded', (world: World, dir: string) => world.host.guest(dir)?.main?.end({ exitCode: 0 })],
  ['Suspended', (world: World) => world.patch('app', { spec: { operatingMode: 'Suspended' } })],
] as const) {
  test(`a sandbox that is ${phase} stays so with an unreadable record, and can go on`, async () => {
    await using world = new World();
    const first = await world.daemon();
    await world.create('app', { main: {} });
    await world.untilPhase('app', 'Running');
    const dir = await world.dirOf('app');
    await end(world, dir);
    await world.untilPhase('app', phase);
    const before = await world.status('app');
    first.process.kill();
    await writeFile(join(dir, 'run.json'), '');
    await world.daemon();
    await world.advance(600_000);
    assert.deepEqual(await world.status('app'), before);
    assert.equal(world.host.starts.get(dir), 1);
    await world.patch('app', {
      spec: { operatingMode: 'Running' },
      metadata: { annotations: { 'bulkhead.dev/restartedAt': 'now' } },
    });
    await world.untilPhase('app', 'Running');
    assert.equal(world.host.starts.get(dir), 2);
  });
}

test('the image of a sandbox stays the one its disk belongs to', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', { imagePullPolicy: 'Always' });
  await world.untilPhase('app', 'Running');
  const { digest } = world.images.image(IMAGE);
  await world.patch('app', { metadata: { annotations: { 'bulkhead.dev/restartedAt': '1' } } });
  await world.until('a restart', async () => world.host.starts.get(await world.dirOf('app')) === 2);
  await world.untilPhase('app', 'Running');
  assert.equal(world.images.pulls, 1);
  assert.equal(world.host.vm(await world.dirOf('app'))?.config.image.digest, digest);
});

test('a VM that a full disk holds is not Ready and says why, is not given up, and is Ready again when it goes on', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  await world.create('full', { main: {} });
  await world.untilPhase('full', 'Running');
  const dir = await world.dirOf('full');
  world.host.stall(dir, { code: 'DISK_FULL', message: 'The disk is full. Free space there.' });
  await world.settle();
  assert.equal(await world.condition('full', 'Ready'), 'False/DiskFull');
  assert.equal(await world.condition('full', 'Reconciling'), 'True/DiskFull');
  assert.equal(await world.condition('full', 'Stalled'), undefined, 'it goes on by itself');
  const told = () => world.events.filter(({ reason }) => reason === 'DiskFull' || reason === 'Resumed');
  assert.deepEqual(
    told().map(({ reason, message }) => `${reason}: ${message}`),
    ['DiskFull: The disk is full. Free space there.'],
  );

  daemon.process.kill();
  await world.daemon();
  await world.settle();
  assert.equal(await world.condition('full', 'Ready'), 'False/DiskFull');
  assert.equal(told().length, 1, 'the next daemon does not tell it again');

  world.host.stall(dir, undefined);
  await world.settle();
  assert.equal(await world.condition('full', 'Ready'), 'True/Ready');
  assert.deepEqual(
    told().map(({ reason }) => reason),
    ['DiskFull', 'Resumed'],
  );
  assert.equal(world.host.starts.get(dir), 1);
});

test('a guest that a full disk held while it booted has the whole time again to come up', async () => {
  await using world = new World();
  await world.daemon();
  world.faults.failAlways('connect', new BulkheadError('AGENT_UNREACHABLE', 'no answer'));
  await world.create('slow', { main: {} });
  await world.settle();
  const dir = await world.dirOf('slow');
  world.host.stall(dir, { code: 'DISK_FULL', message: 'full' });
  await world.advance(BOOT_DEADLINE_MS * 2);
  assert.equal(await world.condition('slow', 'Ready'), 'False/DiskFull');
  world.host.stall(dir, undefined);
  await world.advance(BOOT_DEADLINE_MS - 1_000);
  assert.equal(world.host.running.length, 1);
  await world.advance(2_000);
  assert.equal(world.host.running.length, 0);
});

test('an image that was mended in its registry is found without any change here', async () => {
  await using world = new World();
  await world.daemon();
  world.images.registry.add('registry.example/other:1');
  await world.create('app', { image: 'registry.example/new:1' });
  await world.settle();
  assert.equal(await world.condition('app', 'Stalled'), 'True/ImageNotFound');
  world.images.registry.add('registry.example/new:1');
  await world.advance(IMAGE_RECHECK_MS - 1);
  assert.equal(await world.condition('app', 'Stalled'), 'True/ImageNotFound');
  await world.advance(IMAGE_RECHECK_MS * RETRY_JITTER + 1);
  await world.untilPhase('app', 'Running');
});

test('an image that stays wrong is asked for once in each long wait, not more', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  world.images.registry.add('registry.example/other:1');
  await world.create('app', { image: 'registry.example/new:1' });
  await world.advance(IMAGE_RECHECK_MS * 10);
  const asked = daemon.process.moments.filter((moment) => moment === 'before images.ensure').length;
  assert.ok(asked >= 9 && asked <= 11, `${asked} times`);
});
