// A VM as the host sees it: started once, found again, ended with the true reason, gone without a trace.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BulkheadError } from '../../src/api/errors.ts';
import { readRunningRecord } from '../../src/vmm/records.ts';
import { connect, run, VmmBench } from './vmm-support.ts';

let bench: VmmBench;
before(async () => {
  bench = await VmmBench.open();
});
after(() => bench.close());

const alive = (pid: number) =>
  existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

async function recordOf(dir: string) {
  const record = await readRunningRecord(dir);
  assert.ok(record, 'a running VM has a record');
  return record;
}

/** cgroup folders that carry the id, in every hierarchy. */
function cgroupsOf(id: string): string[] {
  return readdirSync('/sys/fs/cgroup')
    .concat('.')
    .map((name) => join('/sys/fs/cgroup', name, 'bulkhead', id))
    .filter((path) => existsSync(path));
}

test('a second VM is refused while the first one runs, and the first goes on', async () => {
  const config = bench.config({ coldBoot: true });
  const vm = await bench.start(config);
  await assert.rejects(
    bench.start(config),
    (error) => error instanceof BulkheadError && error.code === 'VM_ALREADY_RUNNING',
  );
  assert.ok(alive(vm.pid));
  assert.equal((await run(await connect(vm), 'echo on')).output, 'on\n');
  await vm.kill();
  await bench.driver.release(config.dir);
});

test('a VM outlives the process that started it, and is found again with its exit', async () => {
  const config = bench.config({ coldBoot: true });
  const starter = spawn(
    process.execPath,
    [join(import.meta.dirname, 'vmm-starter.ts'), bench.dir, JSON.stringify(config)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const [line] = await once(starter.stdout, 'data');
  starter.kill('SIGKILL');
  await once(starter, 'exit');
  const vm = await bench.driver.adopt(config.dir);
  assert.ok(vm, 'the VM is adopted');
  assert.equal(vm.pid, Number(line));
  assert.equal(vm.launch, 'cold');
  const agent = await connect(vm);
  assert.equal((await run(agent, 'echo adopted')).output, 'adopted\n');
  const stats = await vm.stats();
  assert.ok(stats.cpuSeconds > 0 && stats.memoryBytes > 0 && stats.memoryLimitBytes > config.memoryBytes);
  await agent.shutdown({ graceMs: 1000 });
  assert.equal((await vm.exited).kind, 'clean');
  await agent.close();
  assert.equal(await bench.driver.adopt(config.dir), undefined);
  assert.equal((await bench.driver.lastExit(config.dir))?.kind, 'clean');
  await bench.driver.release(config.dir);
});

/** The control group that limits a process's memory, with its files' names; `undefined` when none of ours does. */
function memoryGroup(pid: number): { dir: string; used: string; limit: string } | undefined {
  for (const line of readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n')) {
    const [, controllers = '', path = ''] = line.split(':');
    if (!path.includes('/bulkhead/')) continue;
    if (controllers.split(',').includes('memory')) {
      const dir = join('/sys/fs/cgroup/memory', path);
      return { dir, used: 'memory.usage_in_bytes', limit: 'memory.limit_in_bytes' };
    }
    const dir = join('/sys/fs/cgroup', path);
    if (controllers === '' && existsSync(join(dir, 'memory.max'))) {
      return { dir, used: 'memory.current', limit: 'memory.max' };
    }
  }
  return undefined;
}

test('kill -9 of the VMM is recorded as that', async () => {
  const config = bench.config({ coldBoot: true });
  const vm = await bench.start(config);
  process.kill(vm.pid, 'SIGKILL');
  const exit = await vm.exited;
  assert.equal(exit.kind, 'killed');
  assert.equal(exit.signal, 'SIGKILL');
  assert.equal(exit.oomKilled, false);
  await assert.rejects(vm.dialAgent(AbortSignal.timeout(1000)), { code: 'SANDBOX_NOT_RUNNING' });
  await bench.driver.release(config.dir);
});

test('a VMM that outgrows its memory limit is killed for that, and its exit says so', async (t) => {
  const config = bench.config({ coldBoot: true });
  const vm = await bench.start(config);
  try {
    const group = memoryGroup(vm.pid);
    if (group === undefined) return t.skip(`this host sets no memory limits: ${vm.limitations.join(' ')}`);
    const agent = await connect(vm);
    // The limit that a VM gets leaves room for all of the guest, so that only a smaller one can be reached.
    const used = Number(await readFile(join(group.dir, group.used), 'utf8'));
    await writeFile(join(group.dir, group.limit), String(used + 8 * 1024 * 1024));
    const filling = run(agent, '/bin/busybox dd if=/dev/urandom of=/fill bs=1M count=64');
    // The link to the guest may break a moment before the exit is known.
    const outcome = await Promise.race([vm.exited, filling.catch(() => vm.exited)]);
    assert.ok(
      'kind' in outcome,
      `the guest filled its page cache, and nothing happened: ${JSON.stringify(outcome)}`,
    );
    const exit = outcome;
    await Promise.allSettled([agent.close(), filling]);
    assert.equal(exit.kind, 'crashed', exit.message);
    assert.equal(exit.oomKilled, true);
    assert.equal(exit.signal, 'SIGKILL');
    assert.equal(exit.message, 'The VMM was killed because its memory limit was reached.');
    const next = await bench.driver.lastExit(config.dir);
    assert.deepEqual([next?.kind, next?.oomKilled], ['crashed', true], 'a later daemon reads the same');
  } finally {
    await vm.kill();
    await bench.driver.release(config.dir);
  }
});

test('kill -9 of the supervisor ends the VMM too, and the VM counts as lost', async () => {
  const config = bench.config({ coldBoot: true });
  const vm = await bench.start(config);
  const { supervisor } = await recordOf(config.dir);
  process.kill(supervisor.pid, 'SIGKILL');
  assert.equal((await vm.exited).kind, 'lost');
  assert.ok(!alive(vm.pid), 'no VMM without its supervisor');
  const again = await bench.start(config);
  await again.kill();
  await bench.driver.release(config.dir);
});

test('SIGTERM to the supervisor ends the VM and is recorded as asked for', async () => {
  const config = bench.config({ coldBoot: true });
  const vm = await bench.start(config);
  process.kill((await recordOf(config.dir)).supervisor.pid, 'SIGTERM');
  const exit = await vm.exited;
  assert.equal(exit.kind, 'killed');
  assert.match(exit.message, /supervisor was told/);
  await bench.driver.release(config.dir);
});

test('a cancelled start leaves neither process, cgroup, host user nor disk', async () => {
  for (const afterMs of [0, 5, 20, 40, 80]) {
    const config = bench.config({ coldBoot: true });
    const start = bench.driver.start(config, AbortSignal.timeout(afterMs));
    const vm = await start.catch(() => undefined);
    if (vm) {
      await vm.kill(); // it was faster
      await bench.driver.release(config.dir);
      continue;
    }
    assert.deepEqual(cgroupsOf(config.id), []);
    assert.equal(existsSync(config.upper.path), false);
    assert.deepEqual(readdirSync(join(bench.dir, 'host-users')), []);
    const record = await readRunningRecord(config.dir);
    if (record) assert.ok(!alive(record.vmm.pid) && !alive(record.supervisor.pid));
  }
});

test('nothing on the host answers what a guest sends', async () => {
  const config = bench.config({ coldBoot: true });
  const vm = await bench.start(config);
  const agent = await connect(vm);
  const line =
    'cd /sys/class/net; for d in e*; do /bin/busybox ip link set $d up; /bin/busybox ip addr add 10.77.0.2/24 dev $d; done; ' +
    'ping -c 2 -W 1 10.77.0.1; echo status $?; cat e*/statistics/tx_packets e*/statistics/rx_packets';
  const { output } = await run(agent, line);
  const [status = '', sent = '', received = ''] = output.trim().split('\n').slice(-3);
  assert.equal(status, 'status 1', output);
  assert.ok(Number(sent) > 0, output);
  assert.equal(received, '0', output);
  await agent.close();
  await vm.kill();
  await bench.driver.release(config.dir);
});

test('a guest that ends by itself with a panic counts as crashed', async () => {
  const config = bench.config({ coldBoot: true });
  const vm = await bench.start(config);
  const agent = await connect(vm);
  await run(agent, 'echo c > /proc/sysrq-trigger').catch(() => undefined);
  const exit = await vm.exited;
  await agent.close();
  assert.equal(exit.kind, 'crashed');
  assert.match(exit.message, /panic/);
  await bench.driver.release(config.dir);
});

test('20 starts and ends leave no process, cgroup, host user, mount, socket or descriptor', async () => {
  const openFds = () => readdirSync('/proc/self/fd').length;
  const mounts = () => readFileSync('/proc/self/mountinfo', 'utf8').split('\n').length;
  const cycle = async () => {
    const config = bench.config();
    const vm = await bench.start(config);
    const { supervisor, vmm } = await recordOf(config.dir);
    await vm.kill();
    await bench.driver.release(config.dir);
    assert.ok(!alive(vmm.pid) && !alive(supervisor.pid), 'no process is left');
    assert.deepEqual(cgroupsOf(config.id), []);
  };
  await cycle(); // makes the template, which stays
  const before = { fds: openFds(), mounts: mounts() };
  for (let i = 0; i < 20; i++) await cycle();
  assert.deepEqual({ fds: openFds(), mounts: mounts() }, before);
  assert.deepEqual(readdirSync(join(bench.dir, 'host-users')), []);
});
