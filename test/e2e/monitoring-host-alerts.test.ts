// Alerts of the host, its volumes, the gateway and the machinery, in a real Prometheus. No VM is started here.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants, mkdir, open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { freePort, Prometheus } from './prometheus.ts';

const run = promisify(execFile);
const MIB = 2 ** 20;
/** Rules with their durations this many times as short. */
const SPEED = 40;
/** Nothing listens there: each pull fails at once. */
const NO_IMAGE = '127.0.0.1:1/nothing:1';

const VOLUME = {
  apiVersion: 'bulkhead.dev/v1alpha1',
  kind: 'Volume',
  metadata: { name: 'volume' },
  spec: { capacity: '64Mi', reclaimPolicy: 'Delete' },
};

/** Kills each gateway as it comes, until `signal` aborts. */
async function killGateways(stateDir: string, signal: AbortSignal): Promise<void> {
  const record = join(stateDir, 'network', 'gateway.json');
  while (!signal.aborted) {
    try {
      const { pid } = JSON.parse(readFileSync(record, 'utf8')) as { pid: number };
      if (readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('bulkhead')) process.kill(pid, 'SIGKILL');
    } catch {
      // None runs now.
    }
    await delay(50, undefined, { signal }).catch(() => {});
  }
}

/** The disk answers again, with nothing in it; does nothing where nobody waits for it. */
async function answer(pipe: string): Promise<void> {
  const file = await open(pipe, constants.O_WRONLY | constants.O_NONBLOCK).catch(() => undefined);
  await file?.close();
}

/** The pause between two daemons may be longer than its shortened bound. */
const REPLACED = 'BulkheadControllerDown';

let daemon: TestDaemon;
let prometheus: Prometheus;
let args: string[] = [];
let volumeDir = '';

before(async () => {
  const target = `127.0.0.1:${await freePort()}`;
  daemon = await TestDaemon.start({ image: false });
  await daemon.stop();
  volumeDir = join(daemon.root, 'volumes');
  await mkdir(volumeDir);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=128m,mode=0700', 'tmpfs', volumeDir]);
  args = ['--metrics-address', target, '--volume-dir', volumeDir];
  await daemon.launch(args);
  prometheus = await Prometheus.start({ target, speed: SPEED });
});

after(async () => {
  await prometheus?.[Symbol.asyncDispose]();
  await daemon?.stop();
  await run('umount', ['--lazy', volumeDir]);
  await daemon?.[Symbol.asyncDispose]();
});

test('a gateway that ends again and again makes its alert fire, which ends when one stays', async () => {
  await prometheus.until('gateway_up', (up) => up === 1);
  const mended = new AbortController();
  const killing = killGateways(daemon.stateDir, mended.signal);
  try {
    await prometheus.untilFiring(['BulkheadGatewayDown']);
  } finally {
    mended.abort();
    await killing;
  }
  await prometheus.untilQuiet();
});

test('reconciles that fail in numbers, and one that hangs on a disk, make their alerts fire', async () => {
  // A folder that is emptied is not believed at once.
  await daemon.write('volume.yaml', `${JSON.stringify(VOLUME)}\n`);
  await daemon.write('hung.yaml', sandboxYaml('hung', { image: NO_IMAGE }));
  await daemon.ok('wait', 'sandbox/hung', '--for=condition=ImageReady=False', '--timeout', '60s');
  const { uid } = (await daemon.get('hung')).metadata;
  await daemon.stop();
  // A pipe to which nobody writes answers as a disk that hangs.
  const record = join(daemon.stateDir, 'sandboxes', uid, 'run.json');
  await mkdir(join(daemon.stateDir, 'sandboxes', uid), { recursive: true });
  await run('mkfifo', [record]);
  try {
    await daemon.launch(args);
    const failing = Array.from({ length: 40 }, (_, index) => `failing-${index}`);
    await daemon.write(
      'failing.yaml',
      failing.map((name) => sandboxYaml(name, { image: NO_IMAGE })).join('---\n'),
    );
    // None of them starts, which an alert of its own says after a while.
    const stuck = ['hung', ...failing].map((name) => `BulkheadSandboxStuckStarting ${name}`);
    await prometheus.untilFiring(
      ['BulkheadReconcileErrorBurst', 'BulkheadQueueStuck sandbox'],
      [...stuck, REPLACED],
    );
    await daemon.remove('failing.yaml');
    await answer(record);
    await daemon.remove('hung.yaml');
    await prometheus.untilQuiet();
    assert.equal((await daemon.cli('get', 'sandbox', 'hung')).code, 1);
  } finally {
    await answer(record);
  }
});
test('a full file system and a damaged volume make their alerts fire, and no other', async () => {
  await daemon.write('volume.yaml', `${JSON.stringify(VOLUME)}\n`);
  await daemon.ok('wait', 'volume/volume', '--for=condition=Ready', '--timeout', '60s');
  const { metadata } = JSON.parse(await daemon.ok('get', 'volume', 'volume', '-o', 'json')) as {
    metadata: { uid: string };
  };
  // An increase is seen only from a count that was scraped.
  await prometheus.until('volume_checks_total{result="Damaged"}');
  await daemon.crash();
  const { stdout } = await run('find', [join(volumeDir, metadata.uid), '-size', '+1M', '-type', 'f']);
  const disk = stdout.trim();
  await truncate(disk, 0);
  await truncate(disk, 64 * MIB);
  await writeFile(join(volumeDir, 'filler'), Buffer.alloc(118 * MIB));
  await daemon.launch(args);
  await prometheus.untilFiring(['BulkheadNodeStorageNearlyFull', 'BulkheadVolumeDamaged'], [REPLACED]);
});
