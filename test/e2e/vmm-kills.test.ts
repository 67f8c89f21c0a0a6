// kill -9 at random moments of a start and after it: of the launcher, the VMM, the daemon (here a process that has the driver and
// nothing else), and of daemon and launcher at once. Whatever was hit, the next daemon finds a whole VM or none, and can start one.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadHostLibrary } from '../../src/vmm/ffi.ts';
import { LOCK_FILE, readRunningRecord } from '../../src/vmm/records.ts';
import { campaign, rounds } from '../fixtures/campaign.ts';
import { randomFrom } from '../fixtures/chance.ts';
import { BUILD_DIR, connect, run, VmmBench } from './vmm-support.ts';

const TARGETS = ['daemon', 'launcher', 'vmm', 'daemon and launcher'] as const;
type Target = (typeof TARGETS)[number];

const ROUNDS = rounds('BULKHEAD_KILL_ROUNDS', { short: TARGETS.length, soak: 200 });
const SEED = Number(process.env.BULKHEAD_SEED ?? Date.now() % 1_000_000);
/** Processes that were killed are gone well before. */
const CONVERGES_WITHIN_MS = 60_000;
const POLL_MS = 10;

const library = loadHostLibrary(BUILD_DIR);
let bench: VmmBench;
before(async () => {
  bench = await VmmBench.open();
});
after(() => bench.close());

/** Its children, whichever of its threads started them. */
function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return []; // it has ended
  }
}

function kill9(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  } catch (error) {
    assert.ok(error instanceof Error && 'code' in error && error.code === 'ESRCH', String(error));
  }
}

/** Starts a process that opens a driver on the bench's state directory, starts a VM and says so. */
function starter(config: ReturnType<VmmBench['config']>): { child: ChildProcess; up: Promise<unknown> } {
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'vmm-starter.ts'), bench.dir, JSON.stringify(config)],
    // What a start says that was cut off is of no interest.
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  assert.ok(child.stdout);
  const failed = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`the start ended with ${code ?? signal}`);
  });
  const up = Promise.race([once(child.stdout, 'data'), failed]);
  up.catch(() => undefined); // a start that is killed is not waited for
  return { child, up };
}

/** Kills the target as far as it is there; what the daemon had started. */
async function hit(target: Target, child: ChildProcess, dir: string): Promise<number[]> {
  const record = await readRunningRecord(dir);
  const started = childrenOf(child.pid ?? 0);
  if (target === 'vmm') kill9(record?.vmm.pid);
  if (target.endsWith('launcher'))
    for (const pid of record === undefined ? started : [record.supervisor.pid]) kill9(pid);
  if (target.startsWith('daemon')) kill9(child.pid);
  return started;
}

function alive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false; // gone, now or while it was read
  }
}

/**
 * What the next daemon does: takes up the VM that runs, and ends it, until nobody has the directory, or is about to take it.
 * Whether there was one.
 */
async function settle(dir: string, started: readonly number[] = []): Promise<boolean> {
  const deadline = performance.now() + CONVERGES_WITHIN_MS;
  let found = false;
  for (;;) {
    const vm = await bench.driver.adopt(dir);
    found ||= vm !== undefined;
    await vm?.kill();
    if (vm === undefined && !library.lockIsHeld(join(dir, LOCK_FILE)) && !started.some(alive)) return found;
    assert.ok(performance.now() < deadline, `somebody still has ${dir}`);
    await sleep(POLL_MS);
  }
}

function cgroupsOf(id: string): string[] {
  return readdirSync('/sys/fs/cgroup')
    .concat('.')
    .map((name) => join('/sys/fs/cgroup', name, 'bulkhead', id))
    .filter((path) => existsSync(path));
}

/** Milliseconds until a VM is up that nobody disturbs. */
async function undisturbed(): Promise<number> {
  const config = bench.config({ coldBoot: true });
  const began = performance.now();
  const { child, up } = starter(config);
  await up;
  const elapsed = performance.now() - began;
  kill9(child.pid);
  assert.equal(await settle(config.dir), true, 'the VM outlives its daemon');
  await bench.driver.release(config.dir);
  return elapsed;
}

test(`${ROUNDS} kills at random moments leave a whole VM or none, and nothing else`, async (t) => {
  t.diagnostic(`seed ${SEED}; repeat with BULKHEAD_SEED=${SEED}`);
  const random = randomFrom(SEED);
  const startMs = await undisturbed();
  let survivors = 0;
  await campaign(t, ROUNDS, async (index) => {
    const target = TARGETS[index % TARGETS.length] ?? 'daemon';
    const config = bench.config({ coldBoot: true });
    const { child, up } = starter(config);
    const ended = once(child, 'exit');
    // From before its driver is open to soon after the VM is up. The moment is what this test is about.
    const afterMs = random() * 1.2 * startMs;
    const what = `round ${index}: ${target} after ${afterMs.toFixed(0)} of ${startMs.toFixed(0)} ms`;
    try {
      await sleep(afterMs);
      const started = await hit(target, child, config.dir);
      // A daemon that lives goes on until its start has failed, or its VM is up.
      if (!target.startsWith('daemon')) await up.catch(() => undefined);
      kill9(child.pid);
      await ended;
      if (await settle(config.dir, started)) survivors++;
      await bench.driver.release(config.dir);
      assert.deepEqual(cgroupsOf(config.id), []);
      assert.deepEqual(readdirSync(join(bench.dir, 'host-users')), []);
      const vm = await bench.start(config);
      const agent = await connect(vm);
      assert.equal((await run(agent, 'echo again')).output, 'again\n');
      await agent.close();
      await vm.kill();
      await bench.driver.release(config.dir);
    } catch (error) {
      throw new Error(what, { cause: error });
    } finally {
      kill9(child.pid);
    }
  });
  t.diagnostic(`${survivors} VMs outlived the kill`);
});
