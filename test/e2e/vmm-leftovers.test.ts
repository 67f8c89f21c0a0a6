// What a killed daemon leaves on the host is gone after the next one has opened its driver.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type RunningRecord, readRunningRecord } from '../../src/vmm/records.ts';
import { onlyWith, openTestDriver } from './test-driver.ts';
import { BUILD_DIR, VmmBench } from './vmm-support.ts';

const POLL_MS = 5;

let bench: VmmBench;
let other: VmmBench;
before(async () => {
  bench = await VmmBench.open();
  other = await VmmBench.open();
});
after(async () => {
  await bench.close();
  await other.close();
});

const alive = (pid: number) =>
  existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

function cgroupsOf(id: string): string[] {
  return readdirSync('/sys/fs/cgroup')
    .concat('.')
    .map((name) => join('/sys/fs/cgroup', name, 'bulkhead', id))
    .filter((path) => existsSync(path));
}

/** Starts a process that opens a driver on the bench's state directory and starts a VM. */
function starter(from: VmmBench, overrides: { coldBoot?: boolean } = {}) {
  const config = from.config(overrides);
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'vmm-starter.ts'), from.dir, JSON.stringify(config)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  return { child, config };
}

async function kill9(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** Resolves when a template of the state directory is being made by a running VM. */
async function makerOf(dir: string): Promise<RunningRecord> {
  const templates = join(dir, 'templates');
  for (;;) {
    const name = existsSync(templates) && readdirSync(templates).find((item) => item.startsWith('template-'));
    const record = name ? await readRunningRecord(join(templates, name)) : undefined;
    if (record) return record;
    await sleep(POLL_MS);
  }
}

test(
  'a template machine whose daemon was killed is ended and removed; the one of another daemon goes on',
  onlyWith('software', 'it makes no templates'),
  async () => {
    const mine = starter(bench);
    const theirs = starter(other);
    const [orphan, busy] = await Promise.all([makerOf(bench.dir), makerOf(other.dir)]);
    await kill9(mine.child);
    assert.ok(alive(orphan.vmm.pid), 'VMs outlive their daemon');
    const [line] = await Promise.all([once(theirs.child.stdout, 'data'), reopen()]);
    assert.ok(!alive(orphan.vmm.pid) && !alive(orphan.supervisor.pid));
    assert.deepEqual(cgroupsOf(orphan.id), []);
    assert.deepEqual(
      readdirSync(join(bench.dir, 'templates')).filter((name) => name.startsWith('template-')),
      [],
    );
    assert.deepEqual(readdirSync(join(bench.dir, 'host-users')), []);
    assert.ok(alive(Number(line)), 'the other daemon made its template and started its VM');
    assert.notEqual(busy.id, orphan.id);
    const vm = await other.driver.adopt(theirs.config.dir);
    assert.equal(vm?.launch, 'warm');
    await kill9(theirs.child);
    await vm?.kill();
    await other.driver.release(theirs.config.dir);
  },
);

test('a VM whose directory is gone is ended with its cgroup; one whose directory is there runs on', async () => {
  const lost = bench.config({ coldBoot: true });
  const kept = bench.config({ coldBoot: true });
  const lostVm = await bench.start(lost);
  const keptVm = await bench.start(kept);
  rmSync(lost.dir, { recursive: true });
  writeFileSync(join(bench.dir, 'host-users', '1900000000'), 'torn', { flag: 'w' });
  await reopen();
  await lostVm.exited;
  assert.ok(!alive(lostVm.pid));
  assert.deepEqual(cgroupsOf(lost.id), []);
  assert.ok(alive(keptVm.pid));
  assert.equal(readdirSync(join(bench.dir, 'host-users')).length, 1, 'only the claim of the VM that runs');
  await keptVm.kill();
  await bench.driver.release(kept.dir);
});

test('half-made disks are removed', async () => {
  const disks = join(bench.dir, 'disk-templates');
  writeFileSync(join(disks, 'ext4-2-1.img.abc.tmp'), 'half');
  await reopen();
  assert.deepEqual(
    readdirSync(disks).filter((name) => name.endsWith('.tmp')),
    [],
  );
});

/** What a daemon does when it starts again. */
async function reopen(): Promise<void> {
  const warnings: string[] = [];
  const driver = await openTestDriver({
    stateDir: bench.dir,
    buildDir: BUILD_DIR,
    onWarning: (message) => warnings.push(message),
  });
  await driver.close();
  assert.deepEqual(warnings, []);
}
