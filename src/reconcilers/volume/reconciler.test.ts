import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../../api/errors.ts';
import { VolumeWorld } from '../testing/volume-world.ts';
import { FINALIZER } from './limits.ts';

const MIB = 1024 * 1024;
const sandbox = { uid: 'sandbox-a', name: 'default/a' };

test('a volume becomes Ready with a disk of its capacity, in two status writes at most', async () => {
  await using world = new VolumeWorld();
  await world.daemon();
  const { metadata } = await world.create({ capacity: '100Mi' });
  assert.equal(await world.condition('Ready'), 'True/Ready');
  assert.equal(world.disks.disks.get(metadata.uid)?.sizeBytes, 100 * MIB);
  const object = await world.get();
  assert.deepEqual(object?.metadata.finalizers, [FINALIZER]);
  const { conditions = [], ...status } = object?.status ?? {};
  assert.deepEqual(status, {
    observedGeneration: 1,
    phase: 'Bound',
    capacity: '100Mi',
    usedBytes: 4096,
    availableBytes: 100 * MIB - 4096,
    inodes: 1000,
    inodesUsed: 11,
    diskBytes: 4096,
    measuredAt: '2026-01-01T00:00:00Z',
  });
  assert.deepEqual(
    conditions.map(({ type, status: holds, reason }) => `${type} ${holds} ${reason}`),
    ['Ready True Ready', 'Bound True Bound', 'InUse False NotInUse', 'Healthy True NeverChecked'],
  );
  assert.ok(world.statusWrites <= 2, `${world.statusWrites} writes`);
  const writes = world.statusWrites;
  await world.patch({ metadata: { labels: { team: 'x' } } });
  assert.equal(world.statusWrites, writes, 'nothing new is no write');
  assert.deepEqual(world.events, ['Provisioned']);
});

test('until the disk is there the volume is Reconciling, and a full host is said and tried again', async () => {
  await using world = new VolumeWorld();
  world.faults.fail('volumes.create', new BulkheadError('DISK_FULL', 'No space left.'), 3);
  await world.daemon();
  await world.create();
  assert.equal(await world.condition('Ready'), 'False/DiskFull');
  assert.equal(await world.condition('Reconciling'), 'True/DiskFull');
  assert.equal((await world.status()).phase, 'Pending');
  await world.untilReady();
  assert.equal(await world.condition('Reconciling'), undefined);
  assert.equal(world.events.at(-1), 'Provisioned');
});

test('a size that no disk can have stalls until the spec changes', async () => {
  await using world = new VolumeWorld();
  world.faults.fail('volumes.create', new BulkheadError('INVALID', 'too large'));
  await world.daemon();
  await world.create();
  assert.equal(await world.condition('Stalled'), 'True/Invalid');
  assert.equal((await world.status()).phase, 'Failed');
  await world.patch({ spec: { capacity: '128Mi' } });
  await world.untilReady();
  assert.equal(await world.condition('Stalled'), undefined);
});

test('a volume grows in the VM that has it where the driver can', async () => {
  await using world = new VolumeWorld();
  const daemon = await world.daemon();
  const { metadata } = await world.create();
  await daemon.volumes.claim(metadata.uid, sandbox, 'ReadWrite');
  world.live.set(metadata.uid, { grows: true });
  await world.patch({ spec: { capacity: '256Mi' } });
  await world.until('it has grown', () => world.disks.only.fileSystemBytes === 256 * MIB);
  await world.settle();
  assert.equal((await world.status()).capacity, '256Mi');
  assert.equal(await world.condition('Resizing'), undefined);
  assert.equal(world.events.at(-1), 'Resized');
});

test('what the guest tells is the usage while its VM has the disk, as far as it can be true', async () => {
  await using world = new VolumeWorld();
  const daemon = await world.daemon();
  const { metadata } = await world.create();
  await daemon.volumes.claim(metadata.uid, sandbox, 'ReadWrite');
  const tell = async (availableBytes: number): Promise<void> => {
    const usedBytes = Math.max(0, 60 * MIB - availableBytes);
    const usage = { usedBytes, availableBytes, inodes: 1000, inodesUsed: 12 };
    world.live.set(metadata.uid, { usage, grows: false });
    await world.patch({ metadata: { labels: { round: `${availableBytes}` } } });
  };
  await tell(30 * MIB);
  const { usedBytes, inodesUsed } = await world.status();
  assert.deepEqual([usedBytes, inodesUsed], [30 * MIB, 12]);
  await tell(65 * MIB);
  assert.equal((await world.status()).usedBytes, 30 * MIB, 'what cannot be true is not believed');
  await tell(MIB);
  assert.equal(world.events.at(-1), 'NearlyFull');
  await tell(0);
  assert.equal(await world.condition('QuotaExceeded'), 'True/QuotaExceeded');
  assert.equal(world.events.at(-1), 'QuotaExceeded');
  await tell(30 * MIB);
  assert.equal(await world.condition('QuotaExceeded'), undefined);
});

test('a volume grows at rest; while it is used it says that it waits, and grows by itself afterwards', async () => {
  await using world = new VolumeWorld();
  const daemon = await world.daemon();
  const { metadata } = await world.create();
  await world.patch({ spec: { capacity: '128Mi' } });
  await world.untilReady();
  assert.equal((await world.status()).capacity, '128Mi');
  await daemon.volumes.claim(metadata.uid, sandbox, 'ReadWrite');
  await world.patch({ spec: { capacity: '256Mi' } });
  assert.equal(await world.condition('Resizing'), 'True/WaitsForDetach');
  assert.equal(await world.condition('Ready'), 'True/Ready', 'it can be used meanwhile');
  assert.equal(await world.condition('Reconciling'), 'True/WaitsForDetach');
  assert.equal(world.disks.only.sizeBytes, 128 * MIB);
  await daemon.volumes.release(metadata.uid, sandbox.uid);
  await world.until('it has grown', () => world.disks.only.fileSystemBytes === 256 * MIB);
  assert.equal(await world.condition('Resizing'), undefined);
  assert.equal(world.events.filter((reason) => reason === 'Resized').length, 2);
});

test('less than the disk has is refused with what to do, and taken back heals it', async () => {
  await using world = new VolumeWorld();
  await world.daemon();
  await world.create({ capacity: '128Mi' });
  await world.patch({ spec: { capacity: '64Mi' } }); // past the rule of the schema, as from an older store
  assert.equal(await world.condition('Stalled'), 'True/ShrinkRefused');
  assert.equal(await world.condition('Ready'), 'False/ShrinkRefused');
  const stalled = (await world.status()).conditions?.find(({ type }) => type === 'Stalled');
  assert.match(stalled?.message ?? '', /spec.capacity is 64Mi, the disk has 128Mi/);
  assert.equal(world.disks.only.sizeBytes, 128 * MIB);
  await world.patch({ spec: { capacity: '128Mi' } });
  assert.equal(await world.condition('Ready'), 'True/Ready');
  assert.equal(world.events.filter((reason) => reason === 'ShrinkRefused').length, 1);
});

test('after an unclean end the disk is checked before anybody gets it, with the result in a condition', async () => {
  await using world = new VolumeWorld();
  const daemon = await world.daemon();
  const { metadata } = await world.create();
  await daemon.volumes.claim(metadata.uid, sandbox, 'ReadWrite');
  await world.settle();
  assert.equal(await world.condition('InUse'), 'True/VolumeInUse');
  assert.deepEqual((await world.status()).mountedBy, ['default/a']);
  world.disks.only.state = 'unclean';
  world.faults.delay('volumes.check', 5_000);
  await daemon.volumes.release(metadata.uid, sandbox.uid);
  await world.settle();
  assert.equal(await world.condition('Ready'), 'False/Checking');
  await world.untilReady();
  assert.equal(await world.condition('Healthy'), 'True/FileSystemRecovered');
  assert.deepEqual(world.metrics, ['Recovered']);
});

test('a disk that cannot be repaired stalls the volume, and a good one in its place heals it', async () => {
  await using world = new VolumeWorld();
  const daemon = await world.daemon();
  const { metadata } = await world.create();
  world.disks.only.state = 'damaged';
  await daemon.volumes.release(metadata.uid, 'anyone');
  await world.settle();
  assert.equal(await world.condition('Stalled'), 'True/VolumeDamaged');
  assert.equal(await world.condition('Healthy'), 'False/VolumeDamaged');
  assert.ok(world.events.includes('Damaged'));
  world.disks.only.state = 'clean';
  await daemon.volumes.release(metadata.uid, 'anyone');
  await world.settle();
  assert.equal(await world.condition('Ready'), 'True/Ready');
});

test('a full and a nearly full volume are told once', async () => {
  await using world = new VolumeWorld();
  const daemon = await world.daemon();
  const { metadata } = await world.create();
  const look = async () => {
    await daemon.volumes.release(metadata.uid, 'anyone');
    await world.settle();
  };
  world.disks.only.usedBytes = 60 * MIB;
  await look();
  world.disks.only.usedBytes = 61 * MIB;
  await look();
  assert.equal(await world.condition('QuotaExceeded'), undefined);
  world.disks.only.usedBytes = 64 * MIB;
  await look();
  assert.equal(await world.condition('QuotaExceeded'), 'True/QuotaExceeded');
  world.disks.only.usedBytes = 1 * MIB;
  await look();
  assert.equal(await world.condition('QuotaExceeded'), undefined);
  assert.deepEqual(world.events, ['Provisioned', 'NearlyFull', 'QuotaExceeded']);
});

test('a volume that runs out of inodes is told as one that runs out of space', async () => {
  await using world = new VolumeWorld();
  const daemon = await world.daemon();
  const { metadata } = await world.create();
  const look = async (inodesUsed: number) => {
    world.disks.only.inodesUsed = inodesUsed;
    await daemon.volumes.release(metadata.uid, 'anyone');
    await world.settle();
  };
  await look(899);
  assert.deepEqual(world.events, ['Provisioned']);
  await look(901);
  assert.deepEqual(world.events, ['Provisioned', 'NearlyFull']);
  assert.equal(await world.condition('QuotaExceeded'), undefined);
  await look(1000);
  assert.equal(await world.condition('QuotaExceeded'), 'True/QuotaExceeded');
  await look(11);
  assert.equal(await world.condition('QuotaExceeded'), undefined);
  assert.deepEqual(world.events, ['Provisioned', 'NearlyFull', 'QuotaExceeded']);
});

test('deleting a volume in use waits for its users; Delete takes the disk, Retain keeps it', async () => {
  for (const reclaimPolicy of ['Delete', 'Retain'] as const) {
    await using world = new VolumeWorld();
    const daemon = await world.daemon();
    const { metadata } = await world.create({ reclaimPolicy });
    await daemon.volumes.claim(metadata.uid, sandbox, 'ReadWrite');
    await world.delete();
    assert.equal(await world.condition('Ready'), 'False/Terminating');
    const ready = (await world.status()).conditions?.find(({ type }) => type === 'Ready');
    assert.match(ready?.message ?? '', /default\/a/);
    assert.equal(world.disks.disks.size, 1);
    await daemon.volumes.release(metadata.uid, sandbox.uid);
    await world.untilGone();
    assert.equal(world.disks.disks.size, reclaimPolicy === 'Delete' ? 0 : 1);
    assert.equal(world.events.at(-1), reclaimPolicy === 'Delete' ? 'Removed' : 'Retained');
  }
});

test('a volume of the same name takes up the disk that was kept, and grows it where it asks for more', async () => {
  await using world = new VolumeWorld();
  await world.daemon();
  await world.create();
  world.disks.only.content = 'precious';
  await world.delete();
  await world.create({}, 'other');
  assert.equal(world.disks.disks.size, 2, 'another name gets another disk');
  await world.create({ capacity: '128Mi' });
  await world.untilReady();
  const { metadata } = (await world.get()) ?? {};
  const disk = world.disks.disks.get(metadata?.uid ?? '');
  assert.equal(disk?.content, 'precious');
  assert.equal(disk?.sizeBytes, 128 * MIB);
  assert.ok(world.events.includes('TakenUp'));
});

test('a volume deleted while its disk is being made leaves none', async () => {
  await using world = new VolumeWorld();
  world.faults.delay('volumes.create', 10_000);
  await world.daemon();
  await world.create({ reclaimPolicy: 'Delete' });
  await world.delete();
  await world.untilGone();
  assert.equal(world.disks.disks.size, 0);
});

test('a change of the access mode reaches the claims', async () => {
  await using world = new VolumeWorld();
  await world.daemon();
  await world.create();
  await world.patch({ spec: { accessMode: 'ReadOnlyMany' } });
  assert.equal(world.disks.only.accessMode, 'ReadOnlyMany');
  assert.equal(await world.condition('Ready'), 'True/Ready');
});

test('a disk without an object is kept, not removed, and the claim of a sandbox that is gone ends', async () => {
  await using world = new VolumeWorld();
  const first = await world.daemon();
  const { metadata } = await world.create({ reclaimPolicy: 'Delete' });
  await world.create({}, 'lost');
  world.sandboxesOnHost.add('sandbox-b');
  await first.volumes.claim(metadata.uid, { uid: 'sandbox-b', name: 'default/b' }, 'ReadWrite');
  await first.end();
  await world.patch({ metadata: { finalizers: [] } }, 'lost');
  await world.delete('lost');
  await world.daemon();
  assert.equal([...world.disks.disks.values()].filter((disk) => disk.retainedAt !== undefined).length, 1);
  assert.equal(world.disks.disks.get(metadata.uid)?.claims.length, 1, 'its VM may still run');
  world.sandboxesOnHost.clear();
  await world.until('the claim has ended', () => world.disks.disks.get(metadata.uid)?.claims.length === 0);
});

test('a disk that cannot be looked at is said, and nothing is done about it', async () => {
  await using world = new VolumeWorld();
  await world.daemon();
  await world.create({ reclaimPolicy: 'Delete' });
  world.faults.failAlways(
    'volumes.inspect',
    new BulkheadError('VOLUME_UNAVAILABLE', 'volume.json is broken'),
  );
  await world.delete();
  assert.equal(await world.condition('Ready'), 'False/VolumeUnavailable');
  assert.equal(world.disks.disks.size, 1);
  world.faults.mend('volumes.inspect');
  await world.untilGone();
  assert.equal(world.disks.disks.size, 0);
});

for (const [what, act, done] of [
  [
    'making a disk',
    async () => {},
    async (world: VolumeWorld) => {
      await world.untilReady();
      assert.equal(world.disks.disks.size, 1);
    },
  ],
  [
    'growing, after an unclean end',
    async (world: VolumeWorld) => {
      world.disks.only.state = 'unclean';
      await world.patch({ spec: { capacity: '128Mi' } });
    },
    async (world: VolumeWorld) => {
      await world.until('it has grown', async () => (await world.status()).capacity === '128Mi');
      await world.untilReady();
      assert.equal(world.disks.only.fileSystemBytes, 128 * MIB);
      assert.equal(world.disks.only.state, 'clean');
    },
  ],
  [
    'deleting',
    (world: VolumeWorld) => world.delete(),
    async (world: VolumeWorld) => {
      await world.untilGone();
      assert.equal(world.disks.disks.size, 0);
    },
  ],
] as const)
  test(`killed at any moment, ${what} comes to the same end`, async () => {
    for (let at = 1; ; at += 1) {
      await using world = new VolumeWorld();
      if (what !== 'making a disk') {
        const setup = await world.daemon();
        await world.create({ reclaimPolicy: 'Delete' });
        await setup.end();
      }
      const victim = await world.daemon(at);
      if (what === 'making a disk') await world.create({ reclaimPolicy: 'Delete' });
      // A daemon that was killed at once does not see to it any more: the store takes the change all the same.
      if (await world.get()) await act(world);
      await world.settle();
      const killed = victim.process.dead;
      await victim.end();
      await world.daemon();
      await done(world);
      if (!killed) {
        assert.ok(at > 5, 'there are moments to be killed at');
        return;
      }
    }
  });
