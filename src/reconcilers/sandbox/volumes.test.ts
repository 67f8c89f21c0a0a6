// Sandboxes and the disks of their volumes: who has them when, over ends, restarts and kills.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DefaultedSandboxSpec } from '../../api/sandbox.ts';
import { type Daemon, World } from '../testing/world.ts';
import { STATS_INTERVAL_MS } from './limits.ts';
import { guestVolumes, wantedDisks } from './volumes/spec.ts';

const SIZE = 64 * 1024 ** 2;
const MAIN = { main: { command: ['run'] } };

function spec(names: readonly string[], more: Partial<DefaultedSandboxSpec> = {}) {
  return {
    ...MAIN,
    volumes: names.map((name) => ({ name, volume: { name } })),
    volumeMounts: names.map((name) => ({ name, mountPath: `/${name}`, readOnly: false })),
    ...more,
  };
}

/** A Volume with its disk, as its own reconciler makes them. Gives its uid. */
async function addVolume(world: World, daemon: Daemon, name: string): Promise<string> {
  const { metadata } = await world.store.create({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Volume',
    metadata: { name, namespace: 'default' },
    spec: { capacity: '64Mi', accessMode: 'ReadWriteOnce', reclaimPolicy: 'Retain' },
  });
  await daemon.volumes.create({ uid: metadata.uid, namespace: 'default', name }, SIZE, 'ReadWriteOnce');
  return metadata.uid;
}

/** `name`, or `name resting`, of each claim on a disk. */
function claims(world: World, uid: string): string[] {
  return (world.disks.disks.get(uid)?.claims ?? []).map(
    ({ name, resting }) => `${name}${resting === true ? ' resting' : ''}`,
  );
}

/** The unclean end of whatever VM there is, as the disks show it. */
async function crash(world: World, name: string, ...uids: string[]): Promise<void> {
  for (const uid of uids) {
    const disk = world.disks.disks.get(uid);
    if (disk !== undefined) disk.state = 'unclean';
  }
  world.host.crash(await world.dirOf(name));
  await world.settle();
}

async function untilCondition(world: World, name: string, type: string, value: string): Promise<void> {
  await world.until(
    `${type} of ${name} is ${value}`,
    async () => (await world.condition(name, type)) === value,
  );
}

async function worldWithImage(): Promise<{ world: World; daemon: Daemon }> {
  const world = new World();
  world.images.add('registry.example/app:1');
  return { world, daemon: await world.daemon() };
}

test('disks are claimed before the VM starts, given to it in order, mounted, and free when it is gone', async () => {
  const { world, daemon } = await worldWithImage();
  await using _ = world;
  const [b, a] = [await addVolume(world, daemon, 'b'), await addVolume(world, daemon, 'a')];
  await world.create('app', spec(['b', 'a']));
  await world.untilPhase('app', 'Running');
  assert.equal(await world.condition('app', 'VolumesReady'), 'True/VolumesMounted');
  const vm = world.host.vm(await world.dirOf('app'));
  assert.deepEqual(vm?.config.volumes, [
    { path: `/disks/${b}`, readOnly: false, sizeBytes: SIZE },
    { path: `/disks/${a}`, readOnly: false, sizeBytes: SIZE },
  ]);
  assert.deepEqual(
    vm?.guest.mounts.map(({ volume, mountPath }) => `${volume} ${mountPath}`),
    ['disk-0 /b', 'disk-1 /a'],
  );
  assert.deepEqual([claims(world, a), claims(world, b)], [['default/app'], ['default/app']]);
  await world.delete('app');
  await world.untilGone('app');
  assert.deepEqual([claims(world, a), claims(world, b)], [[], []]);
});

describe('a sandbox waits', () => {
  test('for a Volume that is not there, for its disk, and for its check; and starts by itself', async () => {
    const { world, daemon } = await worldWithImage();
    await using _ = world;
    await world.create('app', spec(['data']));
    await world.settle();
    assert.equal(await world.condition('app', 'Ready'), 'False/ReferenceNotFound');
    const object = await world.store.create({
      apiVersion: 'bulkhead.dev/v1alpha1',
      kind: 'Volume',
      metadata: { name: 'data', namespace: 'default' },
      spec: { capacity: '64Mi', accessMode: 'ReadWriteOnce', reclaimPolicy: 'Retain' },
    });
    for (const key of daemon.reconciler.dependents(object)) daemon.wake(key);
    await untilCondition(world, 'app', 'Ready', 'False/VolumeNotReady');
    assert.equal(await world.condition('app', 'Reconciling'), 'True/VolumeNotReady');
    const { uid } = object.metadata;
    await daemon.volumes.create({ uid, namespace: 'default', name: 'data' }, SIZE, 'ReadWriteOnce');
    world.disks.only.state = 'unclean';
    await world.settle();
    assert.notEqual(await world.condition('app', 'Ready'), 'True/Ready');
    await daemon.volumes.check(uid);
    await world.settle();
    assert.equal(await world.condition('app', 'Ready'), 'True/Ready', 'without any time having passed');
  });

  test('for who has the disk, holding nothing meanwhile', async () => {
    const { world, daemon } = await worldWithImage();
    await using _ = world;
    const [a, b] = [await addVolume(world, daemon, 'a'), await addVolume(world, daemon, 'b')];
    await world.create('one', spec(['a']));
    await world.untilPhase('one', 'Running');
    await world.create('both', spec(['a', 'b']));
    await untilCondition(world, 'both', 'VolumesReady', 'False/VolumeInUse');
    assert.deepEqual([claims(world, a), claims(world, b)], [['default/one'], []]);
    await world.create('two', spec(['b']));
    await world.untilPhase('two', 'Running');
    await world.delete('one');
    await world.untilGone('one');
    assert.equal(await world.condition('both', 'VolumesReady'), 'False/VolumeInUse');
    assert.deepEqual(claims(world, a), []);
    await world.delete('two');
    await world.until('both runs', async () => (await world.condition('both', 'Ready')) === 'True/Ready');
    assert.equal(world.events.filter(({ reason }) => reason === 'WaitsForVolume').length, 2);
  });

  test('in vain for what no waiting helps, and says so', async () => {
    const { world, daemon } = await worldWithImage();
    await using _ = world;
    const uid = await addVolume(world, daemon, 'data');
    await daemon.volumes.setAccessMode(uid, 'ReadOnlyMany');
    await world.create('app', spec(['data']));
    await world.settle();
    assert.equal(await world.condition('app', 'Stalled'), 'True/VolumeReadOnly');
    await daemon.volumes.setAccessMode(uid, 'ReadWriteOnce');
    await world.settle();
    assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
    await world.create('many', spec(['a', 'b', 'c', 'd']));
    await world.settle();
    assert.equal(await world.condition('many', 'Stalled'), 'True/NotSupported');
  });
});

describe('when the run ends', () => {
  for (const [what, more, after] of [
    ['for good: the disk is free', {}, []],
    [
      'and restarts: the disk is kept, and can be checked',
      { restartPolicy: 'Always' },
      ['default/app resting'],
    ],
  ] as const) {
    test(what, async () => {
      const { world, daemon } = await worldWithImage();
      await using _ = world;
      const uid = await addVolume(world, daemon, 'data');
      await world.create('app', spec(['data'], more));
      await world.untilPhase('app', 'Running');
      await world.create('next', spec(['data']));
      await crash(world, 'app', uid);
      assert.deepEqual(claims(world, uid), after);
      await daemon.volumes.check(uid);
      const winner = after.length === 0 ? 'next' : 'app';
      await world.until(
        `${winner} runs`,
        async () => (await world.condition(winner, 'Ready')) === 'True/Ready',
      );
      assert.deepEqual(claims(world, uid), [`default/${winner}`]);
    });
  }

  test('by a suspension: the disk is free, and claimed again at the resumption', async () => {
    const { world, daemon } = await worldWithImage();
    await using _ = world;
    const uid = await addVolume(world, daemon, 'data');
    await world.create('app', spec(['data']));
    await world.untilPhase('app', 'Running');
    await world.patch('app', { spec: { operatingMode: 'Suspended' } });
    await world.untilPhase('app', 'Suspended');
    assert.deepEqual(claims(world, uid), []);
    await world.patch('app', { spec: { operatingMode: 'Running' } });
    await world.untilPhase('app', 'Running');
    assert.deepEqual(claims(world, uid), ['default/app']);
  });

  test('and a restart has fewer volumes: those that are not named any more are given back', async () => {
    const { world, daemon } = await worldWithImage();
    await using _ = world;
    const [a, b] = [await addVolume(world, daemon, 'a'), await addVolume(world, daemon, 'b')];
    await world.create('app', spec(['a', 'b'], { restartPolicy: 'Always' }));
    await world.untilPhase('app', 'Running');
    await world.patch('app', { spec: spec(['b']) });
    await world.settle();
    assert.equal(await world.condition('app', 'RestartRequired'), 'True/RestartRequired');
    await crash(world, 'app');
    await world.until('it runs again', async () => (await world.condition('app', 'Ready')) === 'True/Ready');
    assert.deepEqual([claims(world, a), claims(world, b)], [[], ['default/app']]);
  });
});

test('no kill of the daemon loses a claim of a VM that runs, or leaves one of a sandbox that is gone', async () => {
  for (let killAt = 1; ; killAt += 1) {
    const { world, daemon: first } = await worldWithImage();
    await using _ = world;
    const uid = await addVolume(world, first, 'data');
    first.process.kill();
    const doomed = await world.daemon(killAt);
    await world.create('app', spec(['data']));
    await world.settle();
    if (!doomed.process.dead) await world.delete('app');
    await world.settle();
    const runs = world.host.running.length > 0;
    if (runs) assert.deepEqual(claims(world, uid), ['default/app'], `killed at ${killAt}`);
    const survived = !doomed.process.dead;
    const next = await world.daemon();
    if ((await world.get('app')) !== undefined) {
      await world.delete('app');
      await world.untilGone('app');
    }
    assert.deepEqual(next.volumes.claimedBy(''), []);
    assert.deepEqual(claims(world, uid), [], `killed at ${killAt}`);
    if (survived) {
      assert.ok(killAt > 20, `${killAt} moments`);
      return;
    }
  }
});

test('a daemon that comes after another one knows the disks of a VM that runs, and tells their usage', async () => {
  const { world, daemon } = await worldWithImage();
  await using _ = world;
  const uid = await addVolume(world, daemon, 'data');
  const { metadata } = await world.create('app', spec(['data']));
  await world.untilPhase('app', 'Running');
  daemon.process.kill();
  const next = await world.daemon();
  await world.untilPhase('app', 'Running');
  const { disks } = next.reconciler;
  assert.equal(disks.usage(uid, metadata.uid), undefined);
  const guest = world.host.guestOf(metadata.uid);
  assert.ok(guest !== undefined);
  const usage = { totalBytes: 60, usedBytes: 20, availableBytes: 40, totalInodes: 9, usedInodes: 8 };
  guest.fileSystems = [
    { ...usage, mountPath: '/', usedBytes: 1 },
    { ...usage, mountPath: '', volume: 'disk-0' },
  ];
  await world.advance(STATS_INTERVAL_MS);
  assert.deepEqual(disks.usage(uid, metadata.uid), {
    ...{ usedBytes: 20, availableBytes: 40, inodes: 9, inodesUsed: 8 },
  });
  assert.equal(disks.usage('other', metadata.uid), undefined);
  assert.ok(world.measured.includes('data'));
  assert.equal(disks.canGrow(uid, metadata.uid), false, 'the fake driver cannot');
});

describe('what a spec asks for', () => {
  const full = (part: Partial<DefaultedSandboxSpec>) => part as DefaultedSandboxSpec;

  test('is one disk for each Volume, written to where any mount does', () => {
    const volumes = [
      { name: 'x', volume: { name: 'data' } },
      { name: 'y', volume: { name: 'data' } },
      { name: 'z', volume: { name: 'other' } },
      { name: 't', tmpfs: { size: '1Mi' } },
    ];
    const mount = (name: string, readOnly: boolean) => ({ name, mountPath: `/${name}`, readOnly });
    const volumeMounts = [mount('x', true), mount('y', false), mount('z', true), mount('t', false)];
    assert.deepEqual(wantedDisks(full({ volumes, volumeMounts })), [
      { volume: 'data', mode: 'ReadWrite' },
      { volume: 'other', mode: 'ReadOnly' },
    ]);
    const { volumes: sources, mounts } = guestVolumes(full({ volumes, volumeMounts }), [
      { volume: 'data', mode: 'ReadWrite', uid: 'u1' },
      { volume: 'other', mode: 'ReadOnly', uid: 'u2' },
    ]);
    assert.deepEqual(sources, [
      { name: 'disk-0', source: { kind: 'disk', device: 'vdc', readOnly: false } },
      { name: 'disk-1', source: { kind: 'disk', device: 'vdd', readOnly: true } },
      { name: 'v-t', source: { kind: 'memory', sizeBytes: 1024 ** 2 } },
    ]);
    assert.deepEqual(
      mounts.map(({ volume, mountPath }) => `${volume} ${mountPath}`),
      ['disk-0 /x', 'disk-0 /y', 'disk-1 /z', 'v-t /t'],
    );
  });

  test('is mounted from the outside in', () => {
    const volumes = [{ name: 't', tmpfs: { size: '1Mi' } }];
    const volumeMounts = ['/a/b/c', '/a', '/a//b/', '/z'].map((mountPath) => ({
      ...{ name: 't', mountPath, readOnly: false },
    }));
    assert.deepEqual(
      guestVolumes(full({ volumes, volumeMounts }), []).mounts.map(({ mountPath }) => mountPath),
      ['/a', '/z', '/a//b/', '/a/b/c'],
    );
  });
});
