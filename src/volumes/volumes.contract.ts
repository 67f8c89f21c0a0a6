// What every implementation of Volumes keeps to: the real one on files, and the fake that reconcilers are tested with.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import type { VolumeIdentity, Volumes } from './volumes.ts';

const SIZE = 64 * 1024 ** 2;
const never = new AbortController().signal;
const identity = (name = 'data'): VolumeIdentity => ({ uid: randomUUID(), namespace: 'default', name });
const user = (name: string) => ({ uid: `uid-${name}`, name: `default/${name}` });
const failsWith = (code: ErrorCode) => (error: unknown) =>
  error instanceof BulkheadError && error.code === code;

/** Registers the suite; `open` gives volumes without a disk. */
export function volumesContract(what: string, open: () => Promise<Volumes>): void {
  const promise = (sentence: string, prove: (volumes: Volumes) => Promise<void>): void => {
    test(`${what}: ${sentence}`, async () => {
      const volumes = await open();
      try {
        await prove(volumes);
      } finally {
        await volumes.close();
      }
    });
  };

  promise('a disk is there when it was made, once', async (volumes) => {
    const data = identity();
    assert.equal(await volumes.inspect(data.uid), undefined);
    assert.equal(volumes.holds(data.uid), false);
    await volumes.create(data, SIZE, 'ReadWriteOnce');
    await volumes.create(data, 2 * SIZE, 'ReadOnlyMany');
    const disk = await volumes.inspect(data.uid);
    assert.ok(disk !== undefined);
    const { usage, diskBytes, ...rest } = disk;
    assert.ok(diskBytes < SIZE);
    assert.deepEqual(rest, {
      ...data,
      sizeBytes: SIZE,
      accessMode: 'ReadWriteOnce',
      claims: [],
      state: 'Clean',
      short: false,
    });
    assert.ok(usage !== undefined && usage.availableBytes > 0);
    assert.equal(volumes.holds(data.uid), true);
    assert.equal((await volumes.list()).length, 1);
  });

  promise('claims follow the access mode, and are given again to who has them', async (volumes) => {
    const data = identity();
    await assert.rejects(volumes.claim(data.uid, user('a'), 'ReadWrite'), failsWith('NOT_FOUND'));
    await volumes.create(data, SIZE, 'ReadWriteOnce');
    const claimed = await volumes.claim(data.uid, user('a'), 'ReadWrite');
    assert.deepEqual(await volumes.claim(data.uid, user('a'), 'ReadWrite'), claimed);
    assert.equal(claimed.sizeBytes, SIZE);
    await assert.rejects(volumes.claim(data.uid, user('b'), 'ReadOnly'), failsWith('VOLUME_IN_USE'));
    assert.equal((await volumes.inspect(data.uid))?.state, 'Unknown');
    await volumes.release(data.uid, user('a').uid);
    await volumes.setAccessMode(data.uid, 'ReadOnlyMany');
    await volumes.claim(data.uid, user('b'), 'ReadOnly');
    assert.equal((await volumes.claim(data.uid, user('c'), 'ReadOnly')).readOnly, true);
    await assert.rejects(volumes.claim(data.uid, user('d'), 'ReadWrite'), failsWith('VOLUME_READ_ONLY'));
    assert.equal((await volumes.inspect(data.uid))?.state, 'Clean', 'readers change nothing');
    await volumes.releaseAll(user('b').uid);
    await volumes.releaseAll(user('c').uid);
    assert.deepEqual((await volumes.inspect(data.uid))?.claims, []);
  });

  promise('a disk that is used is neither checked, grown, kept nor removed', async (volumes) => {
    const data = identity();
    await volumes.create(data, SIZE, 'ReadWriteOnce');
    await volumes.claim(data.uid, user('a'), 'ReadWrite');
    const inUse = failsWith('VOLUME_IN_USE');
    await assert.rejects(volumes.check(data.uid, never), inUse);
    await assert.rejects(volumes.grow(data.uid, 2 * SIZE, never), inUse);
    await assert.rejects(volumes.retain(data.uid), inUse);
    await assert.rejects(volumes.remove(data.uid), inUse);
    assert.equal((await volumes.inspect(data.uid))?.sizeBytes, SIZE);
  });

  promise('a claim at rest keeps others out and lets the disk be checked and grown', async (volumes) => {
    const data = identity();
    await volumes.create(data, SIZE, 'ReadWriteOnce');
    await volumes.claim(data.uid, user('a'), 'ReadWrite');
    assert.deepEqual(volumes.claimedBy(user('a').uid), [data.uid]);
    await volumes.restAll(user('b').uid);
    await assert.rejects(volumes.check(data.uid, never), failsWith('VOLUME_IN_USE'));
    await volumes.restAll(user('a').uid);
    await volumes.restAll(user('a').uid);
    assert.equal((await volumes.inspect(data.uid))?.state, 'Clean');
    assert.deepEqual(volumes.claimedBy(user('a').uid), [data.uid]);
    await assert.rejects(volumes.claim(data.uid, user('b'), 'ReadWrite'), failsWith('VOLUME_IN_USE'));
    await assert.rejects(volumes.retain(data.uid), failsWith('VOLUME_IN_USE'));
    await assert.rejects(volumes.remove(data.uid), failsWith('VOLUME_IN_USE'));
    await volumes.check(data.uid, never);
    await volumes.grow(data.uid, 2 * SIZE, never);
    const claimed = await volumes.claim(data.uid, user('a'), 'ReadWrite');
    assert.equal(claimed.sizeBytes, 2 * SIZE);
    await assert.rejects(volumes.check(data.uid, never), failsWith('VOLUME_IN_USE'));
    await volumes.releaseAll(user('a').uid);
    assert.deepEqual(volumes.claimedBy(user('a').uid), []);
  });

  promise('a disk grows whole, and a check tells its result', async (volumes) => {
    const data = identity();
    await volumes.create(data, SIZE, 'ReadWriteOnce');
    await volumes.grow(data.uid, 2 * SIZE, never);
    const grown = await volumes.inspect(data.uid);
    assert.equal(grown?.sizeBytes, 2 * SIZE);
    assert.equal(grown?.short, false);
    const check = await volumes.check(data.uid, never);
    assert.deepEqual((await volumes.inspect(data.uid))?.lastCheck, check);
  });

  promise(
    'a kept disk is found by its name, given to nobody, and taken up under another uid',
    async (volumes) => {
      const [former, next] = [identity(), identity()];
      await volumes.create(former, SIZE, 'ReadWriteOnce');
      assert.equal(volumes.findRetained('default', 'data'), undefined);
      await volumes.retain(former.uid);
      await volumes.retain(former.uid);
      assert.equal(volumes.findRetained('default', 'data'), former.uid);
      assert.equal(volumes.findRetained('default', 'other'), undefined);
      await assert.rejects(volumes.claim(former.uid, user('a'), 'ReadWrite'), failsWith('VOLUME_NOT_READY'));
      await volumes.takeUp(former.uid, next);
      assert.equal(volumes.holds(former.uid), false);
      assert.equal((await volumes.inspect(next.uid))?.retainedAt, undefined);
      await volumes.retain(next.uid);
      await volumes.takeUp(next.uid, next);
      assert.equal((await volumes.inspect(next.uid))?.retainedAt, undefined);
    },
  );

  promise('a disk that was removed is gone, and its uid is told with every change', async (volumes) => {
    const data = identity();
    const told = new Set<string>();
    let changes = 0;
    const end = volumes.onChange((uid) => {
      told.add(uid);
      changes += 1;
    });
    const changesWith = async (act: () => Promise<unknown>): Promise<void> => {
      const before = changes;
      await act();
      assert.ok(changes > before, act.toString());
    };
    await changesWith(() => volumes.create(data, SIZE, 'ReadWriteOnce'));
    await changesWith(() => volumes.claim(data.uid, user('a'), 'ReadWrite'));
    await changesWith(() => volumes.release(data.uid, user('a').uid));
    await changesWith(() => volumes.remove(data.uid));
    await volumes.remove(data.uid);
    assert.equal(volumes.holds(data.uid), false);
    assert.equal(await volumes.inspect(data.uid), undefined);
    assert.deepEqual([...told], [data.uid]);
    end();
  });
}
