// Power cuts under a load of checked writes: what was acknowledged is there, and never two have the disk.
import assert from 'node:assert/strict';
import { readdirSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { SANDBOX_KIND, VOLUME_KIND } from '../../src/api/kinds.ts';
import type { ResourceKind } from '../../src/api/meta.ts';
import { BulkheadClient } from '../../src/client/client.ts';
import { campaign, rounds } from '../fixtures/campaign.ts';
import { nameOf, type SandboxStatusView, TestDaemon } from './daemon-harness.ts';
import { condition, eventually } from './daemon-observations.ts';
import { type VolumeView, volumeYaml, withVolumes } from './volume-harness.ts';

const CUTS = rounds('BULKHEAD_POWER_CUTS', { short: 4, soak: 500 });
/** The daemon dies just before the VM in one cut of so many: the short form has one. */
const DAEMON_DIES_EVERY = 10;
const DAEMON_DIES_AT = 2;
/** Long campaigns run beside other work, as what is least urgent. */
const OBSERVATION_TIMEOUT_MS = 900_000;
/** Acknowledged writes before each cut: at least one, up to so many. */
const WRITES_MAX = 24;
/** Lines that the next writer checks; older ones go, so that a cut of a long campaign costs what the first one did. */
const LINES_KEPT = 500;
/** Each line says itself what it must be: number, checksum, padding that makes it cross blocks. */
const LINE = '{ printf "%d %d x%0699d\\n", i, (i * 7919 + 13) % 1000003, i }';
const CHECK =
  'NR == 1 { n = $1 } ' +
  // As a text: to busybox's awk a number with zeros in front is an octal one.
  '{ good = $3 == sprintf("x%0699d", n) && $2 == (n * 7919 + 13) % 1000003 && $1 == n } ' +
  '!good { print "torn", NR; exit } { last = n; n++ } END { print "found", last + 0 }';
const LOAD = [
  'touch /data/log',
  `awk '${CHECK}' /data/log > /tmp/found; grep torn /tmp/found`,
  // For whoever has to find out why: what is there in place of the line, and how long the file is.
  `n=$(sed -n 's/torn //p' /tmp/found); [ -z "$n" ] || { wc /data/log; sed -n "$n,$((n+1))p" /data/log | cut -c-900 | od -c | head -n 12; }`,
  // What was never acknowledged may be torn: it goes.
  '[ -z "$n" ] || { head -n $((n-1)) /data/log > /data/whole; sync; mv /data/whole /data/log; }',
  `tail -n ${LINES_KEPT} /data/log > /data/whole; sync; mv /data/whole /data/log; sync`,
  `i=$(sed -n 's/found //p' /tmp/found); echo "found $i"`,
  'while :; do i=$((i+1))',
  // Never synced, so that the journal has names to play back and to forget.
  'echo $i > /data/unsynced.$((i % 20)); mv /data/unsynced.$((i % 20)) /data/renamed.$((i % 7))',
  `awk -v i=$i 'BEGIN ${LINE}' | dd of=/data/log oflag=append conv=notrunc,fsync 2>/dev/null || exit 1`,
  'echo "wrote $i"; done',
].join('\n');

/** Processes that have this file open to write, the supervisors of VMs not counted. */
function writersOf(disk: Stats): string[] {
  const has = (pid: string): boolean => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => {
        const { ino, dev } = statSync(`/proc/${pid}/fd/${fd}`);
        return ino === disk.ino && dev === disk.dev;
      });
    } catch {
      return false; // it has ended, or it has closed a file meanwhile
    }
  };
  return readdirSync('/proc').filter(
    (pid) => /^\d+$/.test(pid) && nameOf(pid) !== 'bulkhead-vmm' && has(pid),
  );
}

/** Two sandboxes that want one volume: each that loses its power gives it to the other one. */
class Writers {
  readonly #daemon: TestDaemon;
  readonly #client: BulkheadClient;
  /** The last line that was acknowledged. */
  acknowledged = 0;

  constructor(daemon: TestDaemon) {
    this.#daemon = daemon;
    this.#client = new BulkheadClient({ socketPath: daemon.socket });
  }

  async create(kind: ResourceKind, document: string): Promise<void> {
    await this.#client.create(kind, 'default', JSON.parse(document));
  }

  async until(name: string, holds: (status: SandboxStatusView) => boolean): Promise<SandboxStatusView> {
    let last = '';
    return eventually(
      `the status of ${name} that ${holds}`,
      async () => {
        const { status } = (await this.#client.get(SANDBOX_KIND, 'default', name)) as {
          status?: SandboxStatusView;
        };
        last = JSON.stringify(status);
        return status?.conditions !== undefined && holds(status) ? status : undefined;
      },
      () => `${last}\n--- daemon log\n${this.#daemon.log().slice(-3_000)}`,
      OBSERVATION_TIMEOUT_MS,
    );
  }

  /** Follows what the writer says until it has acknowledged so many writes. */
  async follow(name: string, writes: number): Promise<void> {
    const log = await this.#client.logs('default', name, { follow: true });
    log.on('error', () => undefined); // it is left in the middle
    const said: string[] = [];
    let found = -1;
    try {
      for await (const line of createInterface({ input: log })) {
        said.push(line.slice(0, 200));
        const [, what, number] = /^(found|wrote) (\d+)$/.exec(line) ?? [];
        if (what === 'found') {
          found = Number(number);
          assert.ok(found >= this.acknowledged, `${this.acknowledged} were acknowledged\n${said.join('\n')}`);
        }
        if (what === 'wrote' && Number(number) >= found + writes) return;
      }
      assert.fail(`the log of ${name} ended before its power\n${said.join('\n')}`);
    } finally {
      log.destroy();
    }
  }

  /** What it acknowledged by its end. */
  async count(name: string): Promise<void> {
    const log = await text(await this.#client.logs('default', name));
    const wrote = [...log.matchAll(/^wrote (\d+)$/gm)].map(([, number]) => Number(number));
    assert.ok(wrote.length > 0, `${name} wrote nothing`);
    this.acknowledged = Math.max(this.acknowledged, ...wrote);
  }

  async runAgain(name: string, cut: number): Promise<void> {
    const annotations = { 'bulkhead.dev/restartedAt': `cut ${cut}` };
    await this.#client.patch(SANDBOX_KIND, 'default', name, { metadata: { annotations } });
  }

  async volume(): Promise<VolumeView> {
    return (await this.#client.get(VOLUME_KIND, 'default', 'data')) as unknown as VolumeView;
  }
}

test(`${CUTS} power cuts: what was acknowledged is there every time, and the other one is given the disk`, async (t) => {
  await using daemon = await TestDaemon.start();
  const writers = new Writers(daemon);
  await writers.create(VOLUME_KIND, volumeYaml('data', { capacity: '256Mi' }));
  const load = { main: { command: ['sh', '-c', LOAD] } };
  await writers.create(SANDBOX_KIND, withVolumes('a', ['data'], load));
  await writers.until('a', ({ phase }) => phase === 'Running');
  await writers.create(SANDBOX_KIND, withVolumes('b', ['data'], load));
  const disk = join(daemon.stateDir, 'volumes', (await writers.volume()).metadata.uid, 'disk.img');

  await campaign(t, CUTS, async (cut) => {
    const [writer, rival] = cut % 2 === 0 ? ['a', 'b'] : ['b', 'a'];
    const { vm } = await writers.until(writer, ({ phase }) => phase === 'Running');
    // Only now, as who asks first has the disk.
    if (cut > 0) await writers.runAgain(rival, cut);
    await writers.until(rival, ({ conditions, vm }) => {
      assert.equal(vm, undefined, `${rival} runs beside ${writer}`);
      return condition(conditions, 'Ready')?.reason === 'VolumeInUse';
    });
    await writers.follow(writer, 1 + Math.floor(Math.random() * WRITES_MAX));
    assert.deepEqual(writersOf(statSync(disk)), [String(vm?.pid)]);

    const withDaemon = cut % DAEMON_DIES_EVERY === DAEMON_DIES_AT;
    if (withDaemon) await daemon.crash();
    process.kill(vm?.pid ?? 0, 'SIGKILL');
    if (withDaemon) await daemon.launch();
    await writers.until(writer, ({ phase }) => phase === 'Failed');
    await writers.count(writer);
  });

  // The disk of the last cut may be under its check still.
  const health = await eventually(
    'the result of the last check',
    async () => {
      const found = condition((await writers.volume()).status.conditions, 'Healthy');
      return found?.status === 'Unknown' ? undefined : found;
    },
    () => daemon.log().slice(-3_000),
    OBSERVATION_TIMEOUT_MS,
  );
  assert.equal(health.reason, 'FileSystemRecovered', health.message);
  t.diagnostic(`${writers.acknowledged} acknowledged writes`);
});
