// kill -9 at random moments: running VMs go on, none starts twice, none is lost, nothing leaks.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as passTime } from 'node:timers/promises';
import { hostResources, nameOf, openFilesOf, sandboxYaml, TestDaemon } from './daemon-harness.ts';

const SOAK = process.env.BULKHEAD_SOAK === '1';
const DAEMON_KILLS = SOAK ? 200 : 10;
/** The back-off doubles with every crash of one sandbox: more than three would mostly be waiting. */
const VMM_KILLS = 3;
const CHURNING_NAMES = ['churn-a', 'churn-b', 'churn-c'];

/** Prints 1, 2, 3 ... for ever: a gap or a repeat in the log is lost or repeated output. */
const COUNTER = { command: ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'] };

test(`${DAEMON_KILLS} daemon crashes over a churning set lose, repeat and leak nothing`, async (t) => {
  await using daemon = await TestDaemon.start();
  const random = seededRandom(Number(process.env.BULKHEAD_SEED ?? Date.now()), t);
  const before = hostResources(daemon.stateDir);

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
  assert.deepEqual(hostResources(daemon.stateDir), before);
});

test(`${VMM_KILLS} VMM crashes each end with the true reason and restart by policy`, async () => {
  await using daemon = await TestDaemon.start();
  await daemon.write('phoenix.yaml', sandboxYaml('phoenix', { main: COUNTER, restartPolicy: 'Always' }));
  await daemon.write('mortal.yaml', sandboxYaml('mortal', { main: COUNTER }));
  await daemon.waitReady('phoenix');
  await daemon.waitReady('mortal');

  for (let kill = 1; kill <= VMM_KILLS; kill++) {
    const { status } = await daemon.get('phoenix');
    process.kill(status.vm?.pid ?? 0, 'SIGKILL');
    await daemon.ok(
      'wait',
      'sandbox/phoenix',
      `--for=jsonpath={.status.restarts}=${kill}`,
      '--timeout',
      '180s',
    );
    await daemon.waitReady('phoenix');
  }
  const phoenix = await daemon.get('phoenix');
  assert.match(phoenix.status.lastTermination?.message ?? '', /SIGKILL|killed/i);

  const mortal = await daemon.get('mortal');
  process.kill(mortal.status.vm?.pid ?? 0, 'SIGKILL');
  await daemon.ok('wait', 'sandbox/mortal', '--for=condition=Finished', '--timeout', '180s');
  const failed = await daemon.get('mortal');
  assert.equal(failed.status.phase, 'Failed');
  assert.match(failed.status.lastTermination?.message ?? '', /SIGKILL|killed/i);
});

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

/** Mulberry32; the seed is printed so that a failing run can be repeated. */
function seededRandom(seed: number, t: { diagnostic(message: string): void }): () => number {
  t.diagnostic(`seed ${seed}; repeat with BULKHEAD_SEED=${seed}`);
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
