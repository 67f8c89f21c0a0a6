// Warm starts, which the software driver alone has: as good as cold ones, and replaced by them when a template is no good.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openSoftwareDriver } from '../../src/vmm/software/driver.ts';
import { BUILD_DIR, connect, run, VmmBench } from './vmm-support.ts';

const MIB = 1024 * 1024;

let bench: VmmBench;
before(async () => {
  bench = await VmmBench.open(undefined, openSoftwareDriver);
});
after(() => bench.close());

const PROBE =
  'cat /proc/mounts | grep " / "; cat /proc/partitions; nproc; grep MemTotal /proc/meminfo; echo $HOME; id -u';

test('a restored guest shows a program the same machine as a booted one', async () => {
  const outputs: string[] = [];
  for (const coldBoot of [true, false, false]) {
    const config = bench.config({ coldBoot });
    const vm = await bench.start(config);
    assert.equal(vm.launch, coldBoot ? 'cold' : 'warm', vm.coldReason);
    const agent = await connect(vm);
    outputs.push((await run(agent, PROBE)).output);
    await agent.close();
    await vm.kill();
    await bench.driver.release(config.dir);
  }
  assert.ok(outputs[0]?.includes('overlay'));
  assert.equal(outputs[1], outputs[0]);
  assert.equal(outputs[2], outputs[0]);
});

test('a restart restores too, with the data of the run before and the true size of its disk', async () => {
  const config = bench.config();
  const first = await bench.start(config);
  const agent = await connect(first);
  await run(agent, 'echo kept > /data; sync');
  await agent.shutdown({ graceMs: 1000 });
  await first.exited;
  await agent.close();
  const second = await bench.start(config);
  assert.equal(second.launch, 'warm', second.coldReason);
  const again = await connect(second);
  assert.equal((await run(again, 'cat /data')).output, 'kept\n');
  assert.match((await run(again, 'grep vdb /proc/partitions')).output, / 131072 vdb/);
  await again.close();
  await second.kill();
  await bench.driver.release(config.dir);
});

test('a disk that is asked larger grows, with its data, in restored and booted guests; it never shrinks', async () => {
  for (const coldBoot of [false, true]) {
    const config = bench.config({ coldBoot });
    const kib: number[] = [];
    for (const mib of [128, 512, 256]) {
      const sizeBytes = mib * 1024 * 1024;
      const vm = await bench.start({ ...config, upper: { ...config.upper, sizeBytes } });
      assert.equal(vm.launch, coldBoot ? 'cold' : 'warm', vm.coldReason);
      const agent = await connect(vm);
      const { output } = await run(
        agent,
        'echo kept >> /data; sync; cat /data; /bin/busybox df -k / | /bin/busybox tail -n 1',
      );
      const lines = output.trim().split('\n');
      assert.equal(lines.filter((line) => line === 'kept').length, kib.length + 1, output);
      kib.push(Number(lines.at(-1)?.trim().split(/ +/)[1]));
      await agent.shutdown({ graceMs: 1000 });
      await vm.exited;
      await agent.close();
    }
    await bench.driver.release(config.dir);
    const [before = 0, grown = 0, after = 0] = kib;
    assert.ok(before > 64 * 1024 && before < 128 * 1024, `${kib}`);
    assert.ok(grown > 450 * 1024 && grown < 512 * 1024, `${kib}`);
    assert.equal(after, grown);
  }
});

test('a restored guest may use all of its memory', async () => {
  const memoryBytes = 256 * MIB;
  const config = bench.config({ memoryBytes });
  const vm = await bench.start({ ...config, upper: { ...config.upper, sizeBytes: 2 * memoryBytes } });
  assert.equal(vm.launch, 'warm', vm.coldReason);
  const agent = await connect(vm);
  // More than fits, so that the guest's page cache takes every free page.
  const fill = '/bin/busybox dd if=/dev/zero of=/fill bs=1M count=300 2>&1 && sync';
  const { exit, output } = await run(agent, `${fill} && cat /fill | /bin/busybox wc -c`);
  assert.deepEqual([exit.exitCode, output.trim().split('\n').at(-1)], [0, String(300 * MIB)], output);
  await agent.close();
  await vm.kill();
  await bench.driver.release(config.dir);
});

test('a VM whose daemon was killed before its restore is restored by the one that adopts it, with the true size of its disk', async () => {
  const config = bench.config();
  for (const data of ['', 'kept\n']) {
    // The template is made by now, so that the next start restores.
    const other = bench.config(data === '' ? {} : { upper: config.upper, id: config.id });
    const before = await bench.start(other);
    assert.equal(before.launch, 'warm', before.coldReason);
    await before.kill();
    await bench.driver.release(other.dir);
    const starter = spawn(
      process.execPath,
      [join(import.meta.dirname, 'vmm-half-starter.ts'), bench.dir, JSON.stringify(config)],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    assert.deepEqual(await once(starter, 'exit'), [null, 'SIGKILL']);
    const vm = await bench.driver.adopt(config.dir);
    assert.ok(vm, 'the VM is adopted');
    const agent = await connect(vm);
    assert.equal((await run(agent, 'cat /data 2>/dev/null; echo kept > /data; sync')).output, data);
    const sectors = `grep -w vdb /proc/partitions | tr -s ' ' | cut -d' ' -f4`;
    assert.equal((await run(agent, sectors)).output, `${config.upper.sizeBytes / 1024}\n`);
    await agent.shutdown({ graceMs: 1000 });
    await vm.exited;
    await agent.close();
    await bench.driver.release(config.dir);
  }
});

test('eight at once all start, each with its own disk', async () => {
  const configs = Array.from({ length: 8 }, () => bench.config());
  const vms = await Promise.all(configs.map((config) => bench.start(config)));
  const answers = await Promise.all(
    vms.map(async (vm, index) => {
      const agent = await connect(vm);
      await run(agent, `echo ${index} > /mine`);
      const { output } = await run(agent, 'cat /mine');
      await agent.close();
      return output;
    }),
  );
  assert.deepEqual(
    answers,
    configs.map((_, index) => `${index}\n`),
  );
  assert.deepEqual(
    vms.map((vm) => vm.launch),
    configs.map(() => 'warm'),
  );
  for (const [index, vm] of vms.entries()) {
    await vm.kill();
    await bench.driver.release(configs[index]?.dir ?? '');
  }
});

test('a broken template means a cold boot that says so, and a new template next time', async () => {
  const warm = async () => {
    const config = bench.config();
    const vm = await bench.start(config);
    const agent = await connect(vm);
    assert.equal((await run(agent, 'echo fine')).output, 'fine\n');
    await agent.close();
    await vm.kill();
    await bench.driver.release(config.dir);
    return vm;
  };
  await warm();
  const templates = join(bench.dir, 'templates');
  for (const name of readdirSync(templates)) {
    truncateSync(join(templates, name, 'state'), 0);
    writeFileSync(join(templates, name, 'state'), 'garbage that is no device state');
  }
  const fallback = await warm();
  assert.equal(fallback.launch, 'cold');
  assert.match(fallback.coldReason ?? '', /QEMU/);
  assert.ok(bench.warnings.some((warning) => warning.includes('boots cold')));
  assert.equal((await warm()).launch, 'warm');
});

/** Starts and ends a VM with a driver that has nothing in memory yet; gives its warnings. */
async function startAfresh(): Promise<string[]> {
  const warnings: string[] = [];
  const config = bench.config();
  const other = await openSoftwareDriver({
    stateDir: bench.dir,
    buildDir: BUILD_DIR,
    onWarning: (message) => warnings.push(message),
  });
  const vm = await other.start(config, AbortSignal.timeout(120_000));
  assert.equal(vm.launch, 'warm', vm.coldReason);
  const agent = await connect(vm);
  assert.equal((await run(agent, 'echo fine')).output, 'fine\n');
  await agent.close();
  await vm.kill();
  await other.release(config.dir);
  await other.close();
  return warnings;
}

test('templates of a daemon before are used again', async () => {
  await startAfresh();
  assert.deepEqual(await startAfresh(), []);
});

test('the limit of the templates counts those of daemons before, and the least recently used go first', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-limit-'));
  try {
    /** What is kept after a driver of its own, with that limit, has started VMs of these sizes. */
    const keptAfter = async (maxTemplateBytes: number, ...sizes: number[]): Promise<string[]> => {
      const driver = await openSoftwareDriver({ stateDir: dir, buildDir: BUILD_DIR, maxTemplateBytes });
      for (const mib of sizes) {
        const config = bench.config({ memoryBytes: mib * MIB });
        const vm = await driver.start(config, AbortSignal.timeout(120_000));
        assert.equal(vm.launch, 'warm', vm.coldReason);
        await vm.kill();
        await driver.release(config.dir);
      }
      await driver.close();
      return readdirSync(join(dir, 'templates')).sort();
    };
    const blocksOf = (name: string) =>
      readdirSync(join(dir, 'templates', name))
        .map((file) => statSync(join(dir, 'templates', name, file)).blocks * 512)
        .reduce((sum, bytes) => sum + bytes);
    const [first = ''] = await keptAfter(Infinity, 128);
    const [second = ''] = (await keptAfter(Infinity, 160)).filter((name) => name !== first);
    const two = blocksOf(first) + blocksOf(second);
    // The first was made first, but used last: room for two and a half costs the second.
    const kept = await keptAfter(two * 1.25, 128, 192);
    assert.equal(kept.length, 2, `${kept}`);
    assert.ok(kept.includes(first) && !kept.includes(second), `${first} ${second}: ${kept}`);
    assert.equal((await keptAfter(1, 224)).length, 1, 'only what is in use is spared');
  } finally {
    rmSync(dir, { recursive: true });
  }
});

for (const [file, words] of [
  ['ram', /guest memory changed/],
  ['state', /device state changed/],
] as const)
  test(`one wrong bit in the ${file} file of a template is noticed, and the template made again`, async () => {
    await startAfresh();
    const templates = join(bench.dir, 'templates');
    for (const name of readdirSync(templates)) {
      const fd = openSync(join(templates, name, file), 'r+');
      const offset = Math.floor(fstatSync(fd).size / 2);
      const byte = Buffer.alloc(1);
      readSync(fd, byte, 0, 1, offset);
      byte[0] = (byte[0] ?? 0) ^ 1;
      writeSync(fd, byte, 0, 1, offset);
      closeSync(fd);
    }
    assert.match((await startAfresh()).join('\n'), words);
    assert.deepEqual(await startAfresh(), []);
  });

test('a full disk is a clear error that leaves nothing, and a start works when there is room again', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', dir]);
  try {
    const base = bench.config();
    const vmDir = join(dir, base.id);
    mkdirSync(vmDir, { mode: 0o700 });
    writeFileSync(join(dir, 'ballast'), Buffer.alloc(8 * 1024 * 1024 - 64 * 1024));
    const config = {
      ...base,
      dir: vmDir,
      upper: { path: join(vmDir, 'upper.img'), sizeBytes: 1 << 30 },
    };
    await assert.rejects(bench.start({ ...config, coldBoot: true }), { code: 'DISK_FULL' });
    assert.equal(existsSync(config.upper.path), false);
    assert.equal(existsSync(`${config.upper.path}.new`), false);
    await assert.rejects(bench.start(config), { code: 'DISK_FULL' });
    rmSync(join(dir, 'ballast'));
    const vm = await bench.start({ ...config, coldBoot: true });
    await vm.kill();
    await bench.driver.release(vmDir);
  } finally {
    execFileSync('umount', ['-l', dir]);
    rmSync(dir, { recursive: true, force: true });
  }
});

test('a template that there is no room for is given up at once, and the VM boots cold and says why', async () => {
  const small = await VmmBench.open(undefined, openSoftwareDriver);
  const templates = join(small.dir, 'templates');
  mkdirSync(templates, { mode: 0o700 });
  // Room for the disk and the device state of a template, not for its memory.
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=700', 'tmpfs', templates]);
  try {
    const config = small.config();
    const vm = await small.start(config);
    assert.equal(vm.launch, 'cold');
    assert.match(vm.coldReason ?? '', /No space left on device/);
    const agent = await connect(vm);
    assert.equal((await run(agent, 'echo fine')).output, 'fine\n');
    await agent.close();
    await vm.kill();
    await small.driver.release(config.dir);
    assert.deepEqual(readdirSync(templates), [], 'nothing of the try is left');
  } finally {
    execFileSync('umount', ['-l', templates]);
    await small.close();
  }
});
