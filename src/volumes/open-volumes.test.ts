import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import { checkDisk, growFileSystem } from './disk-tools.ts';
import { type OpenVolumesOptions, openVolumes } from './open-volumes.ts';
import { readSuperblock } from './superblock.ts';
import { volumesContract } from './volumes.contract.ts';
import type { VolumeIdentity, Volumes } from './volumes.ts';

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
const root = mkdtempSync(join(tmpdir(), 'volumes-'));
after(() => rmSync(root, { recursive: true }));
const never = new AbortController().signal;

/** Keeps holes, as the product's own copy does, and replaces nothing. */
const sparseCopy = async (source: string, target: string) => {
  await promisify(execFile)('cp', ['--sparse=always', '--no-clobber', source, target]);
};

let folders = 0;
const newFolder = (): string => {
  folders += 1;
  return join(root, `folder-${folders}`);
};
const open = (dir: string, more: Partial<OpenVolumesOptions> = {}): Promise<Volumes> =>
  openVolumes({ dir, sparseCopy, ...more });
const identity = (name = 'data'): VolumeIdentity => ({ uid: randomUUID(), namespace: 'default', name });
const diskOf = (dir: string, uid: string): string => join(dir, uid, 'disk.img');
const sandbox = (name: string) => ({ uid: `uid-${name}`, name: `default/${name}` });
const failsWith = (code: ErrorCode) => (error: unknown) =>
  error instanceof BulkheadError && error.code === code;

function debugfs(disk: string, request: string): string {
  return execFileSync('/sbin/debugfs', ['-w', '-R', request, disk], {
    stdio: ['ignore', 'pipe', 'ignore'],
  }).toString();
}
function putFile(disk: string, name: string, content: string): void {
  const source = join(root, `source-${randomUUID()}`);
  writeFileSync(source, content);
  debugfs(disk, `write ${source} ${name}`);
  rmSync(source);
}
const fileIn = (disk: string, name: string): string => debugfs(disk, `cat ${name}`);
/** Name of a process; empty when it is gone, also as a zombie that nobody has reaped. */
function nameOf(pid: string): string {
  try {
    const [, name = '', state] = /^\d+ \((.*)\) (.)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
    return state === 'Z' ? '' : name;
  } catch {
    return '';
  }
}
/** As a killed VM leaves it: the journal asks to be replayed. */
const leaveUnclean = (disk: string): void => void debugfs(disk, 'feature needs_recovery');
const isSound = (disk: string): void => void execFileSync('/sbin/e2fsck', ['-fn', disk], { stdio: 'pipe' });

volumesContract('files', () => open(newFolder()));

test('a new volume is a clean, sparse disk of its capacity', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const data = identity();
  await volumes.create(data, 1024 * MIB, 'ReadWriteOnce');
  await volumes.create(data, 1024 * MIB, 'ReadWriteOnce'); // again: nothing
  const disk = await volumes.inspect(data.uid);
  assert.equal(disk?.sizeBytes, 1024 * MIB);
  assert.equal(disk?.state, 'Clean');
  assert.equal(disk?.short, false);
  assert.ok((disk?.diskBytes ?? 0) < 8 * MIB, 'holes stay holes');
  assert.ok((disk?.usage?.availableBytes ?? 0) > 900 * MIB);
  assert.equal(disk?.usage?.inodesUsed, 11);
  isSound(diskOf(dir, data.uid));
  assert.equal(statSync(diskOf(dir, data.uid)).mode & 0o777, 0o600);
  await volumes.close();
});

test('two daemons never share a folder', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  await assert.rejects(open(dir), failsWith('CONFLICT'));
  await volumes.close();
  await (await open(dir)).close();
});

test('one writer, or many readers, and a claim outlives the daemon', async () => {
  const dir = newFolder();
  const data = identity();
  {
    const volumes = await open(dir);
    await assert.rejects(volumes.claim(data.uid, sandbox('a'), 'ReadWrite'), failsWith('NOT_FOUND'));
    await volumes.create(data, SIZE, 'ReadWriteOnce');
    const first = await volumes.claim(data.uid, sandbox('a'), 'ReadWrite');
    assert.deepEqual(first, { diskPath: diskOf(dir, data.uid), readOnly: false, sizeBytes: SIZE });
    await volumes.close();
  }
  const volumes = await open(dir);
  const claim = (name: string, mode: 'ReadWrite' | 'ReadOnly') =>
    volumes.claim(data.uid, sandbox(name), mode);
  await assert.rejects(claim('b', 'ReadWrite'), failsWith('VOLUME_IN_USE'));
  await assert.rejects(claim('b', 'ReadOnly'), failsWith('VOLUME_IN_USE'));
  assert.deepEqual(await claim('a', 'ReadWrite'), {
    diskPath: diskOf(dir, data.uid),
    readOnly: false,
    sizeBytes: SIZE,
  });
  // Not even a change of the access mode lets a reader in beside the writer.
  await volumes.setAccessMode(data.uid, 'ReadOnlyMany');
  await assert.rejects(claim('b', 'ReadOnly'), failsWith('VOLUME_IN_USE'));
  await volumes.release(data.uid, sandbox('a').uid);
  await volumes.release(data.uid, sandbox('a').uid);
  assert.equal((await claim('b', 'ReadOnly')).readOnly, true);
  await claim('c', 'ReadOnly');
  await assert.rejects(claim('d', 'ReadWrite'), failsWith('VOLUME_READ_ONLY'));
  await volumes.setAccessMode(data.uid, 'ReadWriteOnce');
  await assert.rejects(claim('d', 'ReadWrite'), failsWith('VOLUME_IN_USE'));
  await volumes.releaseAll(sandbox('b').uid);
  await volumes.releaseAll(sandbox('c').uid);
  await claim('d', 'ReadWrite');
  await volumes.close();
});

test('of many writers that ask at once exactly one gets the volume, and each release is told', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const data = identity();
  await volumes.create(data, SIZE, 'ReadWriteOnce');
  const told: string[] = [];
  const end = volumes.onChange((uid) => told.push(uid));
  for (let round = 0; round < 5; round += 1) {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) => volumes.claim(data.uid, sandbox(`s${index}`), 'ReadWrite')),
    );
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
    const winner = (await volumes.inspect(data.uid))?.claims[0]?.sandbox ?? '';
    await volumes.release(data.uid, winner);
  }
  assert.deepEqual(told, Array(10).fill(data.uid));
  end();
  await volumes.close();
});

test('after an unclean end nobody gets the disk before it was checked', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const data = identity();
  await volumes.create(data, SIZE, 'ReadWriteOnce');
  putFile(diskOf(dir, data.uid), 'kept', 'what was written');
  await volumes.claim(data.uid, sandbox('a'), 'ReadWrite');
  leaveUnclean(diskOf(dir, data.uid));
  assert.equal((await volumes.inspect(data.uid))?.state, 'Unknown', 'a disk that is written is not judged');
  await assert.rejects(volumes.check(data.uid, never), failsWith('VOLUME_IN_USE'));
  await volumes.claim(data.uid, sandbox('a'), 'ReadWrite'); // who has it keeps it
  await volumes.release(data.uid, sandbox('a').uid);
  assert.equal((await volumes.inspect(data.uid))?.state, 'Unclean');
  await assert.rejects(volumes.claim(data.uid, sandbox('b'), 'ReadWrite'), failsWith('VOLUME_NOT_READY'));
  assert.equal((await volumes.check(data.uid, never)).result, 'Recovered');
  await volumes.claim(data.uid, sandbox('b'), 'ReadWrite');
  assert.equal((await volumes.inspect(data.uid))?.lastCheck?.result, 'Recovered');
  assert.equal(fileIn(diskOf(dir, data.uid), 'kept'), 'what was written');
  assert.equal(statSync(diskOf(dir, data.uid)).uid, process.getuid?.());
  await volumes.close();
});

test('a check ends with the daemon that began it, so that the next one has the disk for itself', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const data = identity();
  await volumes.create(data, 1024 * 1024 * MIB, 'ReadWriteOnce'); // large: its check takes seconds
  await volumes.close();
  const tools = join(import.meta.dirname, 'disk-tools.ts');
  const script = `import { checkDisk } from ${JSON.stringify(tools)};
    await checkDisk(${JSON.stringify(diskOf(dir, data.uid))}, new AbortController().signal);`;
  const daemon = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = once(daemon, 'exit');
  const children = `/proc/${daemon.pid}/task/${daemon.pid}/children`;
  let checker = '';
  while (checker === '' && daemon.exitCode === null) {
    await new Promise((resolve) => setImmediate(resolve));
    const pids = existsSync(children) ? readFileSync(children, 'utf8').split(' ').filter(Boolean) : [];
    checker = pids.find((pid) => nameOf(pid) === 'e2fsck') ?? '';
  }
  assert.notEqual(checker, '', 'the check was seen');
  daemon.kill('SIGKILL');
  await ended;
  while (nameOf(checker) === 'e2fsck') await new Promise((resolve) => setImmediate(resolve));
});

test('damage is repaired and said; what cannot be repaired is refused', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const data = identity();
  await volumes.create(data, SIZE, 'ReadWriteOnce');
  assert.equal((await volumes.check(data.uid, never)).result, 'Clean');
  const disk = diskOf(dir, data.uid);
  putFile(disk, 'good', 'good');
  putFile(disk, 'lost', 'lost');
  debugfs(disk, 'clri lost');
  const { result, message } = await volumes.check(data.uid, never);
  assert.equal(result, 'Repaired');
  assert.match(message, /files may be missing/);
  assert.equal(fileIn(disk, 'good'), 'good');
  isSound(disk);
  writeFileSync(disk, Buffer.alloc(SIZE));
  assert.equal((await volumes.inspect(data.uid))?.state, 'Unclean');
  await assert.rejects(volumes.check(data.uid, never), failsWith('VOLUME_DAMAGED'));
  await assert.rejects(volumes.claim(data.uid, sandbox('a'), 'ReadWrite'), failsWith('VOLUME_NOT_READY'));
  await volumes.close();
});

for (const [what, bytes] of [
  ['in place', 700 * MIB + 4096],
  ['beyond what its descriptors have room for', 80 * 1024 * MIB],
] as const)
  test(`a disk grows ${what}, with its file system and what is in it`, async () => {
    const dir = newFolder();
    const volumes = await open(dir);
    const data = identity();
    await volumes.create(data, SIZE, 'ReadWriteOnce');
    const disk = diskOf(dir, data.uid);
    putFile(disk, 'kept', 'x'.repeat(100_000));
    const before = await volumes.inspect(data.uid);
    await volumes.grow(data.uid, bytes, never);
    const after = await volumes.inspect(data.uid);
    assert.equal(after?.sizeBytes, bytes);
    assert.equal(after?.short, false);
    assert.equal(after?.usage?.usedBytes, before?.usage?.usedBytes);
    assert.ok((after?.usage?.availableBytes ?? 0) > bytes * 0.9);
    assert.equal(fileIn(disk, 'kept'), 'x'.repeat(100_000));
    isSound(disk);
    await assert.rejects(volumes.grow(data.uid, bytes - 4096, never), failsWith('VOLUME_SHRINK'));
    await volumes.claim(data.uid, sandbox('a'), 'ReadWrite');
    await assert.rejects(volumes.grow(data.uid, bytes * 2, never), failsWith('VOLUME_IN_USE'));
    await volumes.close();
  });

test('a growth whose resize2fs is killed at any moment loses nothing and is finished later', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const base = identity();
  await volumes.create(base, SIZE, 'ReadWriteOnce');
  const content = 'precious '.repeat(50_000);
  putFile(diskOf(dir, base.uid), 'kept', content);
  const disk = join(root, 'killed.img');
  let interrupted = 0;
  for (let delay = 0; delay < 24; delay += 1) {
    rmSync(disk, { force: true });
    await sparseCopy(diskOf(dir, base.uid), disk);
    truncateSync(disk, 3000 * MIB);
    const resize = spawn('/sbin/resize2fs', ['-f', disk], { stdio: 'ignore' });
    const ended = once(resize, 'exit');
    // The moment of the kill is the point here: any of them will do.
    setTimeout(() => resize.kill('SIGKILL'), delay);
    const [, signal] = await ended;
    if (signal === 'SIGKILL') interrupted += 1;
    await checkDisk(disk, never);
    await growFileSystem(disk, never);
    assert.equal((await readSuperblock(disk))?.blocks, (3000 * MIB) / 4096);
    assert.equal(fileIn(disk, 'kept'), content, `killed after ${delay} ms`);
    isSound(disk);
  }
  assert.ok(interrupted > 0, 'at least one kill came in time');
  await volumes.close();
});

test('what is kept is found again by name, with its data, and what is removed is gone', async () => {
  const dir = newFolder();
  const volumes = await open(dir, { now: () => new Date('2026-01-02T03:04:05Z') });
  const [first, second] = [identity(), identity()];
  await volumes.create(first, SIZE, 'ReadWriteOnce');
  putFile(diskOf(dir, first.uid), 'kept', 'still here');
  await volumes.retain(first.uid);
  await assert.rejects(volumes.claim(first.uid, sandbox('a'), 'ReadWrite'), failsWith('VOLUME_NOT_READY'));
  assert.equal(volumes.findRetained('default', 'data'), first.uid);
  assert.equal(volumes.findRetained('other', 'data'), undefined);
  await volumes.takeUp(first.uid, second);
  assert.equal(volumes.findRetained('default', 'data'), undefined);
  assert.equal(volumes.holds(first.uid), false);
  assert.equal(fileIn(diskOf(dir, second.uid), 'kept'), 'still here');
  await volumes.claim(second.uid, sandbox('a'), 'ReadWrite');
  await assert.rejects(volumes.remove(second.uid), failsWith('VOLUME_IN_USE'));
  await assert.rejects(volumes.retain(second.uid), failsWith('VOLUME_IN_USE'));
  await volumes.releaseAll(sandbox('a').uid);
  await volumes.remove(second.uid);
  await volumes.remove(second.uid);
  assert.equal(volumes.holds(second.uid), false);
  assert.deepEqual(
    readdirSync(dir).filter((name) => name !== 'lock' && name !== '.templates'),
    [],
  );
  await volumes.close();
});

test('a copy has the content, is sparse, and waits for the volume of its name', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const data = identity();
  await volumes.create(data, 1024 * MIB, 'ReadWriteOnce');
  putFile(diskOf(dir, data.uid), 'kept', 'copied');
  await volumes.copy(data.uid, { namespace: 'default', name: 'twin' }, 'ReadOnlyMany');
  const uid = volumes.findRetained('default', 'twin') ?? '';
  const twin = await volumes.inspect(uid);
  assert.equal(twin?.accessMode, 'ReadOnlyMany');
  assert.ok((twin?.diskBytes ?? Number.POSITIVE_INFINITY) < 8 * MIB);
  assert.equal(fileIn(diskOf(dir, uid), 'kept'), 'copied');
  await assert.rejects(
    volumes.copy(data.uid, { namespace: 'default', name: 'twin' }, 'ReadWriteOnce'),
    failsWith('ALREADY_EXISTS'),
  );
  await volumes.claim(data.uid, sandbox('a'), 'ReadWrite');
  await assert.rejects(
    volumes.copy(data.uid, { namespace: 'default', name: 'other' }, 'ReadWriteOnce'),
    failsWith('VOLUME_IN_USE'),
  );
  await volumes.close();
});

test('an exported image imports into another volume, larger ones included; nothing is overwritten unasked', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const [data, larger] = [identity(), identity('larger')];
  await volumes.create(data, SIZE, 'ReadWriteOnce');
  await volumes.create(larger, 2 * SIZE, 'ReadWriteOnce');
  putFile(diskOf(dir, data.uid), 'kept', 'travelled');
  const image = join(root, 'backup.img');
  await volumes.exportTo(data.uid, image);
  assert.equal(statSync(image).size, SIZE);
  assert.ok(statSync(image).blocks * 512 < 8 * MIB, 'holes stay holes');
  await assert.rejects(volumes.exportTo(data.uid, image), failsWith('ALREADY_EXISTS'));
  await volumes.importFrom(larger.uid, image, false, never);
  assert.equal(fileIn(diskOf(dir, larger.uid), 'kept'), 'travelled');
  assert.equal((await volumes.inspect(larger.uid))?.short, false);
  await assert.rejects(volumes.importFrom(larger.uid, image, false, never), failsWith('ALREADY_EXISTS'));
  await volumes.importFrom(larger.uid, image, true, never);
  await assert.rejects(
    volumes.exportTo(data.uid, join(root, 'no-such-folder', 'x')),
    failsWith('VOLUME_UNAVAILABLE'),
  );
  assert.deepEqual(
    readdirSync(root).filter((name) => name.includes('partial')),
    [],
  );
  await volumes.close();
});

test('what is no image, too large or broken is refused, and the volume stays as it was', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const data = identity();
  await volumes.create(data, SIZE, 'ReadWriteOnce');
  const file = (name: string, content: Buffer) => {
    writeFileSync(join(root, name), content);
    return join(root, name);
  };
  const whole = readFileSync(diskOf(dir, data.uid));
  const torn = Buffer.from(whole);
  torn.fill(0xff, 2048);
  const large = join(root, 'large');
  writeFileSync(large, whole);
  truncateSync(large, SIZE + 4096);
  for (const path of [
    join(root, 'missing'),
    root,
    file('text', Buffer.from('hello')),
    file('zeros', Buffer.alloc(SIZE)),
    file('torn', torn),
    large,
  ])
    await assert.rejects(volumes.importFrom(data.uid, path, true, never), failsWith('INVALID'), path);
  assert.deepEqual(readFileSync(diskOf(dir, data.uid)), whole);
  assert.deepEqual(readdirSync(join(dir, data.uid)).sort(), ['disk.img', 'volume.json']);
  await volumes.close();
});

test('a host without room makes no half disk and says so', async () => {
  const dir = newFolder();
  const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  const volumes = await open(dir, { sparseCopy: () => Promise.reject(full) });
  const data = identity();
  await assert.rejects(volumes.create(data, SIZE, 'ReadWriteOnce'), failsWith('DISK_FULL'));
  assert.equal(volumes.holds(data.uid), false);
  assert.deepEqual(
    readdirSync(dir).filter((name) => name.includes(data.uid)),
    [],
  );
  await volumes.close();
});

test('a record that cannot be understood keeps its disk from everyone, and from being removed', async () => {
  const dir = newFolder();
  const data = identity();
  let volumes = await open(dir);
  await volumes.create(data, SIZE, 'ReadWriteOnce');
  await volumes.close();
  writeFileSync(join(dir, data.uid, 'volume.json'), '{"version":1,"claims":[{}]}');
  volumes = await open(dir);
  await assert.rejects(volumes.inspect(data.uid), failsWith('VOLUME_UNAVAILABLE'));
  await assert.rejects(volumes.claim(data.uid, sandbox('a'), 'ReadWrite'), failsWith('VOLUME_UNAVAILABLE'));
  assert.ok(existsSync(diskOf(dir, data.uid)));
  await volumes.close();
});

/** A process that is killed at its `at`th step; false when it came to its end before. */
async function killedAt(at: number, dir: string, act: (volumes: Volumes) => Promise<void>): Promise<boolean> {
  const killed = Promise.withResolvers<true>();
  let steps = 0;
  const onStep = (): Promise<void> => {
    steps += 1;
    if (steps < at) return Promise.resolve();
    killed.resolve(true);
    return new Promise(() => {}); // nothing of a killed process goes on
  };
  const volumes = await open(dir, { onStep, lock: () => ({ release: () => {} }) });
  return Promise.race([act(volumes).then(() => false), killed.promise]);
}

/** Kills `act` at each of its steps, and begins again in a new process until it comes to its end. */
async function atEveryStep(
  prepare: (volumes: Volumes) => Promise<void>,
  act: (volumes: Volumes) => Promise<void>,
  verify: (volumes: Volumes, dir: string) => Promise<void>,
): Promise<void> {
  for (let at = 1; ; at += 1) {
    const dir = newFolder();
    mkdirSync(dir);
    await killedAt(Number.POSITIVE_INFINITY, dir, prepare);
    const killed = await killedAt(at, dir, act);
    if (killed) await killedAt(Number.POSITIVE_INFINITY, dir, act);
    const volumes = await open(dir);
    await verify(volumes, dir);
    assert.deepEqual(
      readdirSync(dir).filter((name) => /making|deleting/.test(name)),
      [],
    );
    await volumes.close();
    rmSync(dir, { recursive: true });
    if (!killed) {
      assert.ok(at > 1, 'there are steps to be killed at');
      return;
    }
  }
}

test('killed at any step, making a disk ends in one whole disk', async () => {
  const data = identity();
  const make = async (volumes: Volumes) => {
    const found = await volumes.inspect(data.uid);
    if (found !== undefined) assert.equal(found.state, 'Clean', 'what is there is whole');
    await volumes.create(data, SIZE, 'ReadWriteOnce');
  };
  await atEveryStep(
    async () => {},
    make,
    async (volumes, dir) => {
      assert.equal((await volumes.list()).length, 1);
      isSound(diskOf(dir, data.uid));
    },
  );
});

test('killed at any step, removing a disk ends in nothing', async () => {
  const data = identity();
  await atEveryStep(
    (volumes) => volumes.create(data, SIZE, 'ReadWriteOnce'),
    (volumes) => volumes.remove(data.uid),
    async (volumes, dir) => {
      assert.equal(volumes.holds(data.uid), false);
      assert.equal(existsSync(join(dir, data.uid)), false);
    },
  );
});

test('killed at any step, taking up a kept disk ends with its data under the new uid', async () => {
  const [former, next] = [identity(), identity()];
  await atEveryStep(
    async (volumes) => {
      await volumes.create(former, SIZE, 'ReadWriteOnce');
      await volumes.retain(former.uid);
    },
    async (volumes) => {
      const retained = volumes.findRetained('default', 'data');
      if (retained !== undefined) await volumes.takeUp(retained, next);
    },
    async (volumes) => {
      assert.deepEqual(
        (await volumes.list()).map(({ uid, retainedAt }) => [uid, retainedAt]),
        [[next.uid, undefined]],
      );
    },
  );
});

for (const bytes of [4 * SIZE, 80 * 1024 * MIB])
  test(`killed at any step, growing to ${bytes} bytes ends in a sound disk of that size`, async () => {
    const data = identity();
    await atEveryStep(
      (volumes) => volumes.create(data, SIZE, 'ReadWriteOnce'),
      async (volumes) => {
        if ((await volumes.inspect(data.uid))?.state === 'Unclean') await volumes.check(data.uid, never);
        await volumes.grow(data.uid, bytes, never);
      },
      async (volumes, dir) => {
        const disk = await volumes.inspect(data.uid);
        assert.equal(disk?.sizeBytes, bytes);
        assert.equal(disk?.short, false);
        isSound(diskOf(dir, data.uid));
        assert.deepEqual(readdirSync(join(dir, data.uid)).sort(), ['disk.img', 'volume.json']);
      },
    );
  });

test('killed at any step, an import leaves the former or the new content', async () => {
  const [source, data] = [identity('source'), identity()];
  const image = join(root, 'step.img');
  await atEveryStep(
    async (volumes) => {
      rmSync(image, { force: true });
      await volumes.create(source, SIZE, 'ReadWriteOnce');
      await volumes.create(data, SIZE, 'ReadWriteOnce');
      await volumes.exportTo(source.uid, image);
    },
    (volumes) => volumes.importFrom(data.uid, image, true, never),
    async (_volumes, dir) => {
      isSound(diskOf(dir, data.uid));
      assert.deepEqual(readdirSync(join(dir, data.uid)).sort(), ['disk.img', 'volume.json']);
    },
  );
});

test('a copy that would take what is kept for guests is refused, and leaves nothing', async () => {
  const dir = newFolder();
  let kept = 0;
  const volumes = await open(dir, { keptFreeBytes: async () => kept });
  const { uid } = identity();
  await volumes.create({ uid, namespace: 'default', name: 'data' }, SIZE, 'ReadWriteOnce');
  putFile(diskOf(dir, uid), 'file', 'kept');
  const image = join(root, 'copy-room.img');
  await volumes.exportTo(uid, image);
  const before = readdirSync(dir).toSorted();
  const rootBefore = readdirSync(root).toSorted();
  kept = Number.MAX_SAFE_INTEGER;
  const target = { namespace: 'default', name: 'other' };
  await assert.rejects(volumes.copy(uid, target, 'ReadOnlyMany'), failsWith('DISK_FULL'));
  await assert.rejects(volumes.exportTo(uid, join(root, 'copy-room-2.img')), failsWith('DISK_FULL'));
  await assert.rejects(volumes.importFrom(uid, image, true, never), failsWith('DISK_FULL'));
  assert.deepEqual(readdirSync(dir).toSorted(), before);
  assert.deepEqual(readdirSync(root).toSorted(), rootBefore);
  assert.deepEqual(readdirSync(join(dir, uid)).toSorted(), ['disk.img', 'volume.json']);
  assert.equal((await volumes.inspect(uid))?.busy, undefined);
  assert.equal(volumes.findRetained('default', 'other'), undefined);
  kept = 0;
  await volumes.copy(uid, target, 'ReadOnlyMany');
  await volumes.close();
});

test('of two volumes that are copied to one name at once, one is', async () => {
  const dir = newFolder();
  const volumes = await open(dir);
  const sources = [identity('a'), identity('b')];
  for (const source of sources) await volumes.create(source, SIZE, 'ReadWriteOnce');
  const target = { namespace: 'default', name: 'copy' };
  const copied = await Promise.allSettled(
    sources.map(({ uid }) => volumes.copy(uid, target, 'ReadWriteOnce')),
  );
  assert.deepEqual(copied.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
  assert.equal((await volumes.list()).filter(({ name }) => name === 'copy').length, 1);
  const kept = volumes.findRetained('default', 'copy') ?? '';
  assert.ok(copied.some((each) => each.status === 'fulfilled' && each.value === kept));
  await volumes.remove(kept);
  await volumes.copy(sources[0]?.uid ?? '', target, 'ReadWriteOnce');
  await volumes.close();
});
