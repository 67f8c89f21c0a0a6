// What Prometheus is told is what happens, and alerts of guests fire for their own faults.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { boards } from '../../monitoring/boards/boards.ts';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { scheduled } from './daemon-observations.ts';
import { freePort, Prometheus } from './prometheus.ts';

const MIB = 2 ** 20;
/** Rules with their durations this many times as short. */
const SPEED = 20;
const WORK = '{namespace="default",name="work"}';
const COUNTERS = [
  'sandbox_cpu_usage_seconds_total',
  'sandbox_fs_reads_bytes_total',
  'sandbox_fs_writes_bytes_total',
  'sandbox_network_receive_bytes_total',
  'sandbox_network_transmit_packets_total',
  'sandbox_restarts_total',
];

function near(what: string, measured: number, truth: number, tolerance: number, slack = 0): void {
  const text = `${what}: Prometheus says ${measured.toFixed(2)}, it was ${truth.toFixed(2)}`;
  console.log(text);
  assert.ok(Math.abs(measured - truth) <= truth * tolerance + slack, text);
}

test('what a guest uses is seen in the right series, through a kill of the daemon, and on every panel', async (t) => {
  const target = `127.0.0.1:${await freePort()}`;
  await using daemon = await TestDaemon.start({ extraArgs: ['--metrics-address', target] });
  await using prometheus = await Prometheus.start({ target, speed: SPEED });
  await daemon.write(
    'work.yaml',
    sandboxYaml('work', { resources: { cpus: 1, memory: '512Mi', disk: '1Gi' } }),
  );
  await daemon.waitReady('work');
  const { pid = 0 } = (await daemon.get('work')).status.vm ?? {};
  const cpu = `sandbox_cpu_usage_seconds_total${WORK}`;
  const written = `sandbox_fs_writes_bytes_total${WORK}`;
  const guestUsed = `sandbox_memory_guest_used_bytes${WORK}`;
  const resident = `sandbox_memory_resident_bytes${WORK}`;
  await prometheus.until(guestUsed);
  /** The next scrapes have been taken when this resolves. */
  const scraped = async () => {
    const now = await prometheus.value('vector(time())');
    await prometheus.until(`timestamp(${cpu})`, (at) => at > now + 1);
  };

  await t.test('a CPU that is burnt for 10 s', async () => {
    await scraped();
    const [before, truthBefore] = [await prometheus.value(cpu), scheduled(pid)];
    await daemon.cli('exec', 'work', '--', 'timeout', '10', 'sh', '-c', 'while :; do :; done');
    await scraped();
    const [after, truthAfter] = [await prometheus.value(cpu), scheduled(pid)];
    const ran = truthAfter.ran - truthBefore.ran;
    // The readings are up to a second apart, in which the emulated guest idles.
    near('CPU seconds', after - before, ran, 0.05, 0.5);
    // On a crowded host the guest waited for the rest of its 10 s.
    const share = ran + truthAfter.waited - truthBefore.waited;
    assert.ok(share >= 9.5, `it ran ${ran} s and with waiting ${share} s`);
  });

  await t.test('200 MiB of memory', async () => {
    const [host, guest] = [await prometheus.value(resident), await prometheus.value(guestUsed)];
    const fill = 'mkdir /m && mount -t tmpfs -o size=300m m /m && dd if=/dev/zero of=/m/x bs=1M count=200';
    await daemon.ok('exec', 'work', '--', 'sh', '-c', fill);
    const seen = await prometheus.until(guestUsed, (used) => used > guest + 150 * MIB);
    near('MiB in the guest', (seen - guest) / MIB, 200, 0.05);
    await scraped();
    // A guest takes pages that it used before first, so the host gives it a little less.
    near('MiB on the host', ((await prometheus.value(resident)) - host) / MIB, 200, 0.1);
  });

  await t.test('300 MiB on its disk', async () => {
    const used = `sandbox_fs_guest_used_bytes${WORK}`;
    const [before, usedBefore] = [await prometheus.value(written), await prometheus.value(used)];
    await daemon.ok('exec', 'work', '--', 'dd', 'if=/dev/zero', 'of=/x', 'bs=1M', 'count=300', 'conv=fsync');
    await scraped();
    near('MiB written', ((await prometheus.value(written)) - before) / MIB, 300, 0.05);
    const after = await prometheus.until(used, (value) => value > usedBefore + 250 * MIB);
    near('MiB in use on the root disk', (after - usedBefore) / MIB, 300, 0.05);
  });

  await t.test('every query of every board has an answer', async () => {
    // Rates of starts want one that Prometheus did not find there already.
    await daemon.write('another.yaml', sandboxYaml('another'));
    await daemon.waitReady('another');
    await scraped();
    for (const { title, board } of boards())
      assert.deepEqual(await prometheus.emptyPanels(board, 'work'), [], title);
  });

  await t.test('counters go on after a kill of the daemon, without a reset or a spike', async () => {
    await scraped();
    const before = await prometheus.value(cpu);
    await daemon.crash();
    await prometheus.until('up{job="bulkhead"} == 0');
    await daemon.launch(['--metrics-address', target]);
    await daemon.waitReady('work');
    const after = await prometheus.until(cpu);
    assert.ok(after >= before);
    await scraped();
    for (const name of COUNTERS) {
      assert.equal(await prometheus.value(`resets(${name}${WORK}[15m])`), 0, name);
    }
    const highest = await prometheus.value(`max_over_time(rate(${cpu}[5s])[15m:1s])`);
    assert.ok(highest < 2, `one virtual CPU looked like ${highest}`);
  });
});

test('each fault of a guest makes its own alert fire, and no other; mended, all end', async () => {
  const target = `127.0.0.1:${await freePort()}`;
  await using daemon = await TestDaemon.start({ extraArgs: ['--metrics-address', target] });
  await using prometheus = await Prometheus.start({ target, speed: SPEED });
  const names = ['hung', 'full-disk', 'full-memory'];
  const resources = { cpus: 1, memory: '256Mi', disk: '256Mi' };
  for (const name of names) await daemon.write(`${name}.yaml`, sandboxYaml(name, { resources }));
  for (const name of names) await daemon.waitReady(name);
  assert.deepEqual(await prometheus.firing(), []);

  const main = { command: ['false'] };
  await daemon.write('loop.yaml', sandboxYaml('loop', { main, restartPolicy: 'Always' }));
  await daemon.write('failed.yaml', sandboxYaml('failed', { main, restartPolicy: 'Never' }));
  const hung = (await daemon.get('hung')).status.vm?.pid ?? 0;
  process.kill(hung, 'SIGSTOP');
  const fill =
    'mkdir /m; mount -t tmpfs -o size=100% m /m; i=0; ' +
    'while [ $(sed -n "s/^MemAvailable: *\\([0-9]*\\) kB/\\1/p" /proc/meminfo) -gt 8000 ]; ' +
    'do i=$((i+1)); dd if=/dev/zero of=/m/$i bs=256k count=4 2>/dev/null; done';
  await daemon.ok('exec', 'full-memory', '--', 'sh', '-c', fill);
  await daemon.cli('exec', 'full-disk', '--', 'dd', 'if=/dev/zero', 'of=/x', 'bs=1M');
  await prometheus.untilFiring(
    [
      'BulkheadSandboxAgentUnreachable hung',
      'BulkheadSandboxDiskNearlyFull full-disk',
      'BulkheadSandboxMemoryNearlyFull full-memory',
      'BulkheadSandboxRestartLoop loop',
      'BulkheadSandboxStalled failed',
    ],
    // Its back-off is not shortened with the rules: at full length a pause of 5 minutes is below the 10 of this one.
    ['BulkheadSandboxStuckStarting loop'],
  );
  process.kill(hung, 'SIGCONT');
  for (const file of readdirSync(daemon.manifests)) await daemon.remove(file);
  await prometheus.untilQuiet();
});
