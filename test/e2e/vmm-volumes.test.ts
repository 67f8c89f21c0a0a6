// Disks of volumes under a driver: what the guest sees of them, what it can do, and how it leaves them.
import assert from 'node:assert/strict';
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { GuestVolume } from '../../src/guest/agent.ts';
import type { VmConfig, VmVolume } from '../../src/vmm/driver.ts';
import { openVmHost } from '../../src/vmm/vm-host.ts';
import type { DiskFactory } from '../../src/volumes/disk.ts';
import { readSuperblock } from '../../src/volumes/superblock.ts';
import { onlyWith } from './test-driver.ts';
import { BUILD_DIR, connect, run, VmmBench } from './vmm-support.ts';

const MIB = 1024 * 1024;

/** O_PATH, which Node does not name. */
const O_PATH = 0o10000000;
/** Of a directory of the host: nobody that the host knows. */
const OWNER = 12_345;

let bench: VmmBench;
let disks: DiskFactory;
before(async () => {
  bench = await VmmBench.open();
  disks = (await openVmHost({ stateDir: join(bench.dir, 'host'), buildDir: BUILD_DIR })).disks;
});
after(() => bench.close());

async function volume(name: string, sizeMib: number, readOnly = false): Promise<VmVolume> {
  const path = join(bench.dir, `${name}.img`);
  await disks.create(path, sizeMib * MIB);
  return { path, sizeBytes: sizeMib * MIB, readOnly };
}

/** Starts the VM with its volumes at /a, /b and so on. */
async function startWith(config: VmConfig, volumes: readonly VmVolume[]) {
  const vm = await bench.start({ ...config, volumes });
  const agent = await connect(vm);
  const names = volumes.map((_, index) => 'abc'[index] ?? '');
  const guest = volumes.map(({ readOnly }, index): GuestVolume => {
    const device = `vd${'cde'[index]}`;
    return { name: names[index] ?? '', source: { kind: 'disk', device, readOnly } };
  });
  const mounts = volumes.map(({ readOnly }, index) => ({
    ...{ volume: names[index] ?? '', mountPath: `/${names[index]}`, readOnly },
  }));
  const mount = () => agent.mountVolumes(guest, mounts);
  await mount();
  const stop = async () => {
    await agent.shutdown({ graceMs: 1000 });
    await vm.exited;
    await agent.close();
  };
  return { vm, agent, mount, stop };
}

test('three disks of any size are what their files are, at every kind of start, and left in order', async () => {
  const volumes = [await volume('one', 64), await volume('two', 1024), await volume('three', 300)];
  const config = bench.config();
  // The first start of a sandbox, one that finds its disk, and one that boots.
  for (const [round, coldBoot] of [false, false, true].entries()) {
    const { agent, stop } = await startWith({ ...config, coldBoot }, volumes);
    const { output } = await run(
      agent,
      'for v in a b c; do cat /$v/log 2>/dev/null; echo $v >> /$v/log; done; cat /proc/partitions; cat /proc/mounts',
    );
    assert.equal(output.match(/^[abc]$/gm)?.length ?? 0, round * 3, output);
    for (const [index, { sizeBytes }] of volumes.entries())
      assert.match(output, new RegExp(` ${sizeBytes / 1024} vd${'cde'[index]}\\n`));
    assert.match(output, /\/dev\/vdc \/a ext4 rw,.*nodev/);
    const { fileSystems } = await agent.stats();
    assert.deepEqual(
      fileSystems.map((each) => each.volume),
      [undefined, 'a', 'b', 'c'],
    );
    assert.ok((fileSystems[2]?.availableBytes ?? 0) > 900 * MIB);
    await stop();
    for (const { path } of volumes) assert.equal((await readSuperblock(path))?.clean, true, path);
  }
  await bench.driver.release(config.dir);
});

test('a disk that is only read is shared, and nothing the guest does changes it', async () => {
  const written = await volume('shared', 64);
  const writer = bench.config();
  const first = await startWith(writer, [written]);
  await run(first.agent, 'echo kept > /a/file');
  await first.stop();
  const shared = { ...written, readOnly: true };
  const configs = [bench.config(), bench.config()];
  const vms = await Promise.all(configs.map((config) => startWith(config, [shared])));
  const former = statSync(shared.path).mtimeMs;
  for (const { agent } of vms) {
    const line =
      'cat /a/file; echo x > /a/file; /bin/busybox mount -o remount,rw /a; echo x > /a/file;' +
      "/bin/busybox mknod /tmp/disk b $(/bin/busybox awk '/vdc/ {print $1, $2}' /proc/partitions);" +
      '/bin/busybox dd if=/dev/zero of=/tmp/disk bs=4096 count=1 conv=fsync';
    const { output, exit } = await run(agent, line);
    assert.match(output, /^kept\n/);
    assert.notEqual(exit.exitCode, 0, output);
  }
  for (const { stop } of vms) await stop();
  assert.equal(statSync(shared.path).mtimeMs, former);
  for (const { dir } of [writer, ...configs]) await bench.driver.release(dir);
});

test('a disk that fills up says so, and its neighbours and the root are unharmed', async () => {
  const volumes = [await volume('full', 64), await volume('beside', 64)];
  const config = bench.config();
  const { agent, stop } = await startWith(config, volumes);
  const { output } = await run(
    agent,
    '/bin/busybox dd if=/dev/zero of=/a/fill bs=1M; echo x > /b/file && cat /b/file; echo y > /file && cat /file',
  );
  assert.match(output, /No space left on device.*x\ny\n$/s);
  await stop();
  assert.equal(statSync(volumes[0]?.path ?? '').size, 64 * MIB);
  await bench.driver.release(config.dir);
});

test(
  'a disk grows under a running guest',
  onlyWith('software', 'libkrun tells its guest no new size'),
  async () => {
    const data = await volume('growing', 64);
    const config = bench.config();
    const { vm, agent, mount, stop } = await startWith(config, [data]);
    const size = async () => (await agent.stats()).fileSystems[1]?.totalBytes ?? 0;
    assert.ok((await size()) < 64 * MIB);
    await vm.growVolume?.(0, 512 * MIB, AbortSignal.timeout(60_000));
    await mount();
    assert.ok((await size()) > 450 * MIB);
    assert.equal(statSync(data.path).size, 512 * MIB);
    await stop();
    const superblock = await readSuperblock(data.path);
    assert.deepEqual([superblock?.clean, superblock?.blocks], [true, (512 * MIB) / 4096]);
    await bench.driver.release(config.dir);
  },
);

test('directories and files of the host, among two dozen mounts, are those of their owner, with the modes that were given, whatever the guest does', async () => {
  const [shared, single] = [join(bench.dir, 'shared'), join(bench.dir, 'single')];
  mkdirSync(shared);
  writeFileSync(join(shared, 'file'), 'host\n');
  writeFileSync(join(shared, 'others'), 'root\n', { mode: 0o600 });
  writeFileSync(single, 'single\n');
  for (const path of [shared, join(shared, 'file'), single]) chownSync(path, OWNER, OWNER);
  const fds = [openSync(shared, O_PATH), openSync(single, O_PATH)];
  const memory = Array.from({ length: 20 }, (_, index) => `m${index}`);
  const config = bench.config({
    shares: fds.map((fd, index) => ({ fd, readOnly: index === 1 })),
    volumes: [await volume('beside', 64), await volume('shelf', 64)],
  });
  const vm = await bench.start(config);
  for (const fd of fds) closeSync(fd);
  const agent = await connect(vm);
  await agent.mountVolumes(
    [
      ...fds.map((_, entry): GuestVolume => {
        return { name: `s${entry}`, source: { kind: 'share', entry, readOnly: entry === 1 } };
      }),
      { name: 'd0', source: { kind: 'disk', device: 'vdc', readOnly: false } },
      { name: 'd1', source: { kind: 'disk', device: 'vdd', readOnly: false } },
      ...memory.map((name): GuestVolume => ({ name, source: { kind: 'memory', sizeBytes: MIB } })),
    ],
    [
      ...['d0', 'd1', ...memory].map((name) => ({ volume: name, mountPath: `/m/${name}`, readOnly: false })),
      { volume: 's0', mountPath: '/shared', readOnly: false },
      { volume: 's0', mountPath: '/made', subPath: 'new/place', readOnly: false },
      { volume: 's1', mountPath: '/etc/single', readOnly: true },
    ],
  );
  const { output } = await run(
    agent,
    'for m in /m/*; do echo $m > $m/own && cat $m/own; done; grep -c " /m/" /proc/mounts;' +
      'cat /shared/file /etc/single; echo guest > /shared/made; echo deep > /made/file;' +
      '/bin/busybox mount -o remount,rw /etc/single; echo x > /etc/single; cat /shared/others;' +
      '/bin/busybox chmod 4755 /shared/made; /bin/busybox mknod /shared/null c 1 3; /bin/busybox chown 5 /shared/made;' +
      '/bin/busybox ln -s ../single /shared/link; cat /shared/link /shared/../single; true',
  );
  assert.equal(output.match(/^\/m\/[dm]\d+$/gm)?.length, 22, output);
  assert.match(output, /^22\nhost\nsingle\n/m);
  assert.doesNotMatch(output, /^root$/m);
  assert.equal(output.match(/^single$/gm)?.length, 1, output);
  assert.equal(readFileSync(single, 'utf8'), 'single\n');
  assert.equal(readFileSync(join(shared, 'new/place/file'), 'utf8'), 'deep\n');
  assert.ok(!existsSync(join(shared, 'null')));
  const { uid, gid, mode } = statSync(join(shared, 'made'));
  assert.deepEqual([uid, gid, mode & 0o7000], [OWNER, OWNER, 0]);
  await agent.shutdown({ graceMs: 1000 });
  assert.equal((await vm.exited).kind, 'clean');
  await agent.close();
  await bench.driver.release(config.dir);
});
