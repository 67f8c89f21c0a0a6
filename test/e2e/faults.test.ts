// What breaks around the daemon: a clear reason while it is broken, recovery by itself when it is mended, nothing lost.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { debianImage, startRegistry, type TestRegistry } from '../fixtures/images.ts';
import { type SandboxStatusView, sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { allEvents, condition, eventually, until, untilEvent } from './daemon-observations.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const COUNTER = { command: ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done'] };

/** The blobs and manifests that a registry stores, largest first. */
async function storedData(registry: TestRegistry): Promise<string[]> {
  const entries = await readdir(registry.storage, { recursive: true });
  const paths = entries
    .filter((entry) => entry.endsWith('/data'))
    .map((entry) => join(registry.storage, entry));
  const sizes = await Promise.all(paths.map(async (path) => ({ path, size: (await stat(path)).size })));
  return sizes.sort((a, b) => b.size - a.size).map(({ path }) => path);
}

/** Mounts a small file system of its own on a folder of the stopped daemon. */
async function limitSpace(folder: string, megabytes: number): Promise<AsyncDisposable> {
  await mkdir(folder, { recursive: true, mode: 0o711 });
  await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=711`, 'tmpfs', folder]);
  return { [Symbol.asyncDispose]: async () => void (await run('umount', ['-l', folder])) };
}

async function pidOf(daemon: TestDaemon, name: string): Promise<number | undefined> {
  return (await daemon.get(name)).status.vm?.pid;
}

test('a disk that is full while an image is pulled: DiskFull, and the pull ends well when there is room', async () => {
  await using registry = await startRegistry();
  const image = await registry.push(await debianImage(), 't/debian:full');
  await using daemon = await TestDaemon.start();
  await daemon.stop();
  const images = join(daemon.stateDir, 'images');
  await rm(images, { recursive: true });
  await using _space = await limitSpace(images, 48);
  await daemon.launch();
  await daemon.write('full.yaml', sandboxYaml('full', { image }));
  await until(daemon, 'full', ({ conditions }) => condition(conditions, 'ImageReady')?.reason === 'DiskFull');
  assert.match(await allEvents(daemon), /FailedPull/);
  assert.deepEqual(await readdir(join(images, 'disks')), [], 'no half of an image takes space');
  await run('mount', ['-o', 'remount,size=1g', images]);
  await daemon.waitReady('full');
  await daemon.ok('delete', 'sandbox', 'full', '--timeout', '60s');
  await daemon.remove('full.yaml');
  await daemon.stop();
});

/** What the guest writes: more than there is room for. */
const FILL_MIB = 40;
/** Room for the sandboxes' directories, and what of it is taken before the guest begins. */
const ROOM_MIB = 64;
const BALLAST_MIB = 40;
/** The VM stands still for so long at least: a clock that lost it is plainly wrong. */
const STALL_MS = 5_000;
/** What the clock may be off by: the guest says whole seconds, and is set when it is off by a second. */
const CLOCK_TOLERANCE_MS = 2_000;
/** Writes, reads back from the disk, and says what it saw. */
const FILL = [
  'until [ -e /begin ]; do sleep 0.2; done',
  `yes bulkhead | dd of=/fill bs=1M count=${FILL_MIB} iflag=fullblock conv=fsync 2>/dev/null`,
  'echo "dd $?"; sync; echo 3 > /proc/sys/vm/drop_caches',
  `a=$(md5sum < /fill); b=$(yes bulkhead | head -c ${FILL_MIB * MIB} | md5sum)`,
  '[ "$a" = "$b" ] && echo intact || echo corrupt',
  'while :; do sleep 1000; done',
].join('\n');

for (const killed of [false, true]) {
  const during = killed ? ', also when the daemon is killed meanwhile' : '';
  test(`a disk that is full while a VM runs: the VM waits, says so, and goes on when there is room${during}`, async () => {
    await using daemon = await TestDaemon.start();
    await daemon.stop();
    const sandboxes = join(daemon.stateDir, 'sandboxes');
    const ballast = join(sandboxes, 'ballast');
    await using _space = await limitSpace(sandboxes, ROOM_MIB);
    await daemon.launch();
    await daemon.write('full.yaml', sandboxYaml('full', { main: { command: ['sh', '-c', FILL] } }));
    await daemon.waitReady('full');
    const pid = await pidOf(daemon, 'full');
    await writeFile(ballast, Buffer.alloc(BALLAST_MIB * MIB, 1));
    await daemon.ok('exec', 'full', '--', 'touch', '/begin');

    const fullAt = Date.now();
    const isFull = ({ conditions }: SandboxStatusView) =>
      condition(conditions, 'Ready')?.status === 'False' &&
      condition(conditions, 'Ready')?.reason === 'DiskFull';
    const { conditions } = await until(daemon, 'full', isFull);
    assert.match(condition(conditions, 'Ready')?.message ?? '', /sandboxes.* is full.*Free space/);
    assert.equal(condition(conditions, 'Stalled'), undefined, 'it goes on by itself');
    await untilEvent(daemon, /"DiskFull"/);
    if (killed) {
      await daemon.crash();
      await daemon.launch();
      await until(daemon, 'full', isFull);
    }
    await delay(Math.max(0, fullAt + STALL_MS - Date.now()));

    await rm(ballast);
    await daemon.waitReady('full');
    await untilEvent(daemon, /"Resumed"/);
    await eventually(
      'a clock in the guest that knows of the pause',
      async () => {
        const before = Date.now();
        const guest = Number(await daemon.ok('exec', 'full', '--', 'date', '+%s')) * 1_000;
        const right = guest > before - CLOCK_TOLERANCE_MS && guest < Date.now() + CLOCK_TOLERANCE_MS;
        return right ? true : undefined;
      },
      () => daemon.log(),
    );
    await eventually(
      'the end of the writing',
      async () => (/intact|corrupt/.test(await daemon.ok('logs', 'full')) ? true : undefined),
      () => daemon.log(),
    );
    assert.equal(await daemon.ok('logs', 'full'), 'dd 0\nintact\n');
    const { status } = await daemon.get('full');
    assert.equal(status.vm?.pid, pid, 'it is the same VM');
    assert.equal(status.restarts ?? 0, 0);
    await daemon.remove('full.yaml');
    await daemon.waitGone('full');
    await daemon.stop();
  });
}

test('a registry that goes down is said so, and the image is pulled when it is up again', async () => {
  await using registry = await startRegistry();
  const image = await registry.push(await debianImage(), 't/debian:down');
  await registry.stop();
  await using daemon = await TestDaemon.start();
  await daemon.write('down.yaml', sandboxYaml('down', { image }));
  const { conditions } = await until(
    daemon,
    'down',
    (status) => condition(status.conditions, 'Ready')?.reason === 'RegistryUnavailable',
  );
  assert.match(condition(conditions, 'Ready')?.message ?? '', /ECONNREFUSED/);
  assert.notEqual(condition(conditions, 'Stalled')?.status, 'True', 'it is tried again by itself');
  await registry.restart();
  await daemon.waitReady('down');
});

test('a blob that is cut short or altered in the registry is refused by its digest, and taken when it is whole', async (t) => {
  await using registry = await startRegistry();
  const image = await registry.push(await debianImage(), 't/debian:bad');
  await using daemon = await TestDaemon.start();
  const [blob = ''] = await storedData(registry);
  const whole = join(daemon.root, 'whole');
  await copyFile(blob, whole);

  await t.test('cut short: it is tried again, and found when it is whole', async () => {
    await writeFile(blob, (await readFile(whole)).subarray(0, MIB));
    await daemon.write('cut.yaml', sandboxYaml('cut', { image }));
    await until(daemon, 'cut', ({ conditions }) => {
      const { reason = '' } = condition(conditions, 'ImageReady') ?? {};
      return reason === 'RegistryUnavailable' || reason === 'ImageInvalid';
    });
    assert.equal(
      (await daemon.ok('image', 'ls', '-q')).trim().split('\n').length,
      1,
      'only the built-in image',
    );
    await copyFile(whole, blob);
    if (condition((await daemon.get('cut')).status.conditions, 'Stalled')?.status === 'True')
      await daemon.ok('restart', 'cut');
    await daemon.waitReady('cut');
    await daemon.remove('cut.yaml');
    await daemon.ok('delete', 'sandbox', 'cut', '--timeout', '60s');
    await daemon.ok('image', 'rm', image);
  });

  await t.test('altered: ImageInvalid with the digest, and nothing boots', async () => {
    const bytes = await readFile(whole);
    bytes.fill(0x55, bytes.length >> 1, (bytes.length >> 1) + 16);
    await writeFile(blob, bytes);
    await daemon.write('altered.yaml', sandboxYaml('altered', { image }));
    const { conditions, vm } = await until(
      daemon,
      'altered',
      (status) => condition(status.conditions, 'Stalled')?.reason === 'ImageInvalid',
    );
    assert.match(condition(conditions, 'Stalled')?.message ?? '', /digest/);
    assert.equal(vm, undefined);
  });

  await t.test('a digest that the registry does not hold is ImageNotFound', async () => {
    const wrong = `${image.replace(/:bad$/, '')}@sha256:${'0'.repeat(64)}`;
    await daemon.write('wrong.yaml', sandboxYaml('wrong', { image: wrong }));
    await until(
      daemon,
      'wrong',
      (status) => condition(status.conditions, 'Stalled')?.reason === 'ImageNotFound',
    );
  });
});

test('a daemon that is killed while it pulls: the next one pulls the image again and leaves nothing of the first', async () => {
  await using registry = await startRegistry();
  const image = await registry.push(await debianImage(), 't/debian:killed');
  await using daemon = await TestDaemon.start();
  await daemon.write('killed.yaml', sandboxYaml('killed', { image }));
  const staging = join(daemon.stateDir, 'images', 'tmp');
  await eventually(
    'a pull under way',
    async () => ((await readdir(staging)).length > 0 ? true : undefined),
    () => daemon.log(),
  );
  await daemon.crash();
  assert.notDeepEqual(await readdir(staging), [], 'it was killed in the middle');
  await daemon.launch();
  await daemon.waitReady('killed');
  assert.deepEqual(await readdir(staging), []);
});

test('what goes wrong with the state directory and the folder never touches a running VM', async (t) => {
  await using daemon = await TestDaemon.start();
  await daemon.write('steady.yaml', sandboxYaml('steady', { main: COUNTER }));
  await daemon.waitReady('steady');
  const pid = await pidOf(daemon, 'steady');
  const store = join(daemon.stateDir, 'store.db');

  await t.test('a second daemon on the same state directory is refused', async () => {
    const second = daemon.spawnCli(
      'daemon',
      '--socket',
      join(daemon.root, 'second.sock'),
      '--metrics-address',
      'none',
    );
    const said: Buffer[] = [];
    second.stderr?.on('data', (chunk: Buffer) => said.push(chunk));
    second.stdout?.on('data', (chunk: Buffer) => said.push(chunk));
    const [code] = (await once(second, 'close')) as [number | null];
    assert.notEqual(code, 0);
    assert.match(Buffer.concat(said).toString(), /Another daemon uses this state directory/);
    assert.equal(await pidOf(daemon, 'steady'), pid);
  });

  await t.test(
    'a folder that cannot be read holds everything, and is followed again when it is back',
    async () => {
      const away = `${daemon.manifests}.away`;
      await rename(daemon.manifests, away);
      await writeFile(daemon.manifests, 'not a folder');
      await untilEvent(daemon, /SourceUnavailable/);
      assert.equal(await pidOf(daemon, 'steady'), pid);
      await rm(daemon.manifests);
      await rename(away, daemon.manifests);
      await untilEvent(daemon, /SourceMended/);
      assert.equal(await pidOf(daemon, 'steady'), pid);
    },
  );

  await t.test(
    'a corrupted store.db is refused with what to do; its copy brings everything back',
    async () => {
      await daemon.stop();
      const copies = [store, `${store}-wal`].filter((path) => path === store);
      for (const path of copies) await copyFile(path, `${path}.backup`);
      const bytes = await readFile(store);
      bytes.fill(0x55, 4096);
      await writeFile(store, bytes);
      await assert.rejects(daemon.launch(), /is damaged.*Restore it from a backup, or move it/s);
      assert.doesNotThrow(() => process.kill(pid ?? 0, 0), 'the VM runs on');
      await copyFile(`${store}.backup`, store);
      await daemon.launch();
      await daemon.waitReady('steady');
      assert.equal(await pidOf(daemon, 'steady'), pid, 'the VM was adopted');
      const numbers = (await daemon.ok('logs', 'steady')).trim().split('\n').map(Number);
      numbers.forEach((value, index) => {
        assert.equal(value, index + 1, 'no output was lost');
      });
    },
  );

  await t.test('a damaged log of the store is refused too: what was deleted does not come back', async () => {
    await daemon.write('brief.yaml', sandboxYaml('brief', { operatingMode: 'Suspended' }));
    await eventually(
      'the object',
      async () => ((await daemon.cli('get', 'sandbox', 'brief')).code === 0 ? true : undefined),
      () => daemon.log(),
    );
    await daemon.remove('brief.yaml');
    await daemon.waitGone('brief');
    await daemon.crash();
    const log = `${store}-wal`;
    await copyFile(log, `${log}.backup`);
    const bytes = await readFile(log);
    await writeFile(log, bytes.fill(0x55, 32));
    await assert.rejects(daemon.launch(), /was acknowledged.*store\.db-wal is damaged or missing/s);
    assert.doesNotThrow(() => process.kill(pid ?? 0, 0), 'the VM runs on');
    await copyFile(`${log}.backup`, log);
    await daemon.launch();
    await daemon.waitReady('steady');
    assert.equal(await pidOf(daemon, 'steady'), pid, 'the VM was adopted');
    assert.notEqual((await daemon.cli('get', 'sandbox', 'brief')).code, 0);
  });
});

test('a wall clock that jumps', {
  skip: 'would change the clock of this machine; the unit tests of deadlines and back-off jump a clock of their own',
}, () => {});
