// kill -9 at random moments: running VMs go on, none starts twice, none is lost, nothing leaks.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as passTime } from 'node:timers/promises';
import { randomFrom } from '../fixtures/chance.ts';
import {
  hostResources,
  nameOf,
  openFilesOf,
  parentOf,
  type SandboxStatusView,
  sandboxYaml,
  TestDaemon,
} from './daemon-harness.ts';
import { allEvents, condition, eventually } from './daemon-observations.ts';

const SOAK = process.env.BULKHEAD_SOAK === '1';
const DAEMON_KILLS = SOAK ? 200 : 10;
/** Sandboxes whose VMMs and supervisors are killed. The back-off doubles with every crash of one: five take 310 s of waiting. */
const PHOENIXES = SOAK ? 20 : 2;
const KILLS_EACH = SOAK ? 5 : 2;
/** A VM lives for up to so long before it is killed: from its boot to well into its work. */
const KILL_WITHIN_MS = 10_000;
/** The waiting, and 2.5 times as much again for the starts, on two crowded cores. */
const CAMPAIGN_TIMEOUT_MS = SOAK ? 1_800_000 : 600_000;
const CHURNING_NAMES = ['churn-a', 'churn-b', 'churn-c'];

/** Prints 1, 2, 3 ... for ever: a gap or a repeat in the log is lost or repeated output. */
const COUNTER = { command: ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'] };

test(`${DAEMON_KILLS} daemon crashes over a churning set lose, repeat and leak nothing`, async (t) => {
  await using daemon = await TestDaemon.start();
  const random = seededRandom(Number(process.env.BULKHEAD_SEED ?? Date.now()), t);
  const uids = new Set<string>();
  const before = hostResources(daemon.stateDir, uids);

  await daemon.write('steady.yaml', sandboxYaml('steady', { main: COUNTER }));
  await daemon.waitReady('steady');
  const steady = await daemon.get('steady');

  for (let kill = 0; kill < DAEMON_KILLS; kill++) {
    const name = CHURNING_NAMES[Math.floor(random() * CHURNING_NAMES.length)] ?? 'churn-a';
    if (existsSync(join(daemon.manifests, `${name}.yaml`))) await daemon.remove(`${name}.yaml`);
    else await daemon.write(`${name}.yaml`, sandboxYaml(name));
    // The random moment is the point of this test: the crash must be harmless wherever it falls.
    await passTime(random() * 3000);
    await daemon.crash();
    // The others were deleted without a crash in between; their events tell of them.
    for (const uid of readdirSync(join(daemon.stateDir, 'sandboxes'))) uids.add(uid);
    await daemon.launch();
    assert.deepEqual(doubled(daemon.stateDir), [], 'a VM was started twice');
  }

  const after = await daemon.get('steady');
  assert.equal(after.status.vm?.pid, steady.status.vm?.pid, 'the steady VM was restarted');
  assert.equal(after.status.restarts ?? 0, 0);
  const numbers = (await daemon.ok('logs', 'steady')).trim().split('\n').map(Number);
  numbers.forEach((value, index) => {
    assert.equal(value, index + 1, `output was lost or repeated at line ${index + 1}`);
  });

  for (const name of CHURNING_NAMES) {
    if (existsSync(join(daemon.manifests, `${name}.yaml`))) await daemon.waitReady(name);
    else await daemon.waitGone(name);
  }
  await daemon.write('keep.yaml', sandboxYaml('keep', { operatingMode: 'Suspended' }));
  for (const file of readdirSync(daemon.manifests)) if (file !== 'keep.yaml') await daemon.remove(file);
  for (const name of ['steady', ...CHURNING_NAMES]) await daemon.waitGone(name);
  for (const [, uid] of (await allEvents(daemon)).matchAll(/"uid": "([0-9a-f-]{36})"/g)) uids.add(uid ?? '');
  t.diagnostic(`${uids.size} sandboxes and events`);
  assert.deepEqual(hostResources(daemon.stateDir, uids), before);
});

test(`${PHOENIXES * KILLS_EACH} kills of VMMs and supervisors each end with the true reason and restart by policy`, async (t) => {
  await using daemon = await TestDaemon.start();
  const random = seededRandom(Number(process.env.BULKHEAD_SEED ?? Date.now()), t);
  const uids = new Set<string>();
  const before = hostResources(daemon.stateDir, uids);
  const names = Array.from({ length: PHOENIXES }, (_, index) => `phoenix-${index}`);
  for (const name of names) {
    await daemon.write(`${name}.yaml`, sandboxYaml(name, { main: COUNTER, restartPolicy: 'Always' }));
  }
  const victims = new Map(names.map((name, index) => [name, new Victim(index, random)]));
  await eventually(
    'the last restart',
    async () => {
      const { items } = JSON.parse(await daemon.ok('get', 'sandboxes', '-o', 'json')) as SandboxList;
      const done = items.filter(({ metadata, status }) => victims.get(metadata.name)?.step(status) === true);
      return done.length === PHOENIXES ? true : undefined;
    },
    () => [...victims].map(([name, victim]) => `${name}: ${victim.describe()}`).join('\n'),
    CAMPAIGN_TIMEOUT_MS,
  );
  const told = [...victims.values()].flatMap((victim) => victim.terminations);
  assert.equal(told.length, PHOENIXES * KILLS_EACH);
  for (const reason of new Set(told))
    t.diagnostic(`${told.filter((each) => each === reason).length} ${reason}`);
  for (const name of names) uids.add((await daemon.get(name)).metadata.uid);
  for (const name of names) await daemon.remove(`${name}.yaml`);
  for (const name of names) await daemon.waitGone(name);
  assert.deepEqual(hostResources(daemon.stateDir, uids), before);
});

test('a VMM that is killed under the policy Never ends the sandbox as a failure', async () => {
  await using daemon = await TestDaemon.start();
  await daemon.write('mortal.yaml', sandboxYaml('mortal', { main: COUNTER }));
  await daemon.waitReady('mortal');
  const mortal = await daemon.get('mortal');
  process.kill(mortal.status.vm?.pid ?? 0, 'SIGKILL');
  await daemon.ok('wait', 'sandbox/mortal', '--for=condition=Finished', '--timeout', '180s');
  const failed = await daemon.get('mortal');
  assert.equal(failed.status.phase, 'Failed');
  assert.match(failed.status.lastTermination?.message ?? '', /SIGKILL|killed/i);
});

interface SandboxList {
  items: { metadata: { name: string }; status?: SandboxStatusView }[];
}

/** One sandbox whose processes are killed again and again, at random moments between the start of the VM and long after. */
class Victim {
  /** Reason and message of each end. */
  readonly terminations: string[] = [];
  readonly #index: number;
  readonly #random: () => number;
  #pid = 0;
  #killAt = Infinity;
  #kills = 0;

  constructor(index: number, random: () => number) {
    this.#index = index;
    this.#random = random;
  }

  /** Looks at the sandbox, checks what came of the last kill, kills when it is time. True when all is over and well. */
  step(status: SandboxStatusView | undefined): boolean {
    const pid = status?.vm?.pid ?? 0;
    if (pid !== 0 && pid !== this.#pid) {
      if (this.#pid !== 0) this.#check(status);
      this.#pid = pid;
      this.#killAt = performance.now() + this.#random() * KILL_WITHIN_MS;
    }
    if (this.#kills > this.terminations.length) return false;
    if (this.#kills === KILLS_EACH) {
      return condition(status?.conditions ?? [], 'Ready')?.status === 'True';
    }
    if (pid === this.#pid && performance.now() >= this.#killAt) this.#kill();
    return false;
  }

  describe(): string {
    return `${this.#kills} kills, ${this.terminations.length} ends; the last VM was ${this.#pid}`;
  }

  /** The VMM and its supervisor by turns. */
  get #target(): 'vmm' | 'supervisor' {
    return (this.#index + this.#kills) % 2 === 0 ? 'vmm' : 'supervisor';
  }

  #kill(): void {
    const supervisor = parentOf(String(this.#pid));
    // A number that came to mean another process must never be killed.
    assert.equal(nameOf(supervisor), 'bulkhead-vmm', `VMM ${this.#pid} is gone before it was killed`);
    process.kill(this.#target === 'vmm' ? this.#pid : Number(supervisor), 'SIGKILL');
    this.#kills++;
  }

  #check(status: SandboxStatusView | undefined): void {
    assert.equal(status?.restarts, this.#kills, 'each kill is one restart');
    const { reason = '', message = '' } = status?.lastTermination ?? {};
    // The kill before the present one decides: `#target` has moved on.
    if (this.#target === 'supervisor') {
      assert.deepEqual([reason, message], ['VmCrashed', 'The VMM was ended with SIGKILL.']);
    } else {
      assert.equal(reason, 'VmLost');
      assert.match(message, /supervisor were killed and left no record/);
    }
    this.terminations.push(`${reason}: ${message}`);
  }
}

/** VM directories for which more than one supervisor runs. */
function doubled(stateDir: string): string[] {
  const holders = new Map<string, Set<string>>();
  for (const pid of hostResources(stateDir).processes.map((line) => line.split(' ')[0] ?? '')) {
    for (const file of openFilesOf(pid)) {
      const uid = /\/sandboxes\/([0-9a-f-]{36})\/lock$/.exec(file)?.[1];
      if (uid !== undefined && nameOf(pid) === 'bulkhead-vmm') {
        holders.set(uid, (holders.get(uid) ?? new Set()).add(pid));
      }
    }
  }
  return [...holders].filter(([, pids]) => pids.size > 1).map(([uid]) => uid);
}

/** The seed is printed so that a failing run can be repeated. */
function seededRandom(seed: number, t: { diagnostic(message: string): void }): () => number {
  t.diagnostic(`seed ${seed}; repeat with BULKHEAD_SEED=${seed}`);
  return randomFrom(seed);
}
