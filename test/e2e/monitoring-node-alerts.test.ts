// Alerts of a node that is too slow and too small for what it runs, and of a guest that wants out, in a real Prometheus.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, statfs } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { composeImage, folder, tar } from '../fixtures/images-compose.ts';
import { fakeRegistry } from '../fixtures/images-fake-registry.ts';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { freePort, Prometheus } from './prometheus.ts';

const run = promisify(execFile);
/** Rules with their durations this many times as short. */
const SPEED = 40;
const MIB = 2 ** 20;
/** Where a thing never comes, its test is to fail, not the whole run. */
const LIMITED = { timeout: 540_000 };
/** The objective of starts is 10 s. */
const SLOW_MS = 11_000;
/** Together with the other two as many as the alert on starts wants. */
const SLOW = Array.from({ length: 8 }, (_, index) => `slow-${index}`);
const ALL = [...SLOW, 'flood', 'writer'];
/** The least that may be given of a host. All ten together get more than nine tenths of it. */
const OVERCOMMIT = 0.1;
const MEMORY = `${Math.floor((0.95 * OVERCOMMIT * totalmem()) / MIB / ALL.length)}Mi`;

test(
  'slow starts, a full node, a flood of refusals and VMs without room make their alerts fire, and no other; mended, all end',
  LIMITED,
  async () => {
    const target = `127.0.0.1:${await freePort()}`;
    await using registry = await fakeRegistry(composeImage([tar(folder('tmp/'))]));
    await using daemon = await TestDaemon.start();
    await daemon.stop();
    const disks = join(daemon.stateDir, 'sandboxes');
    await mkdir(disks, { recursive: true });
    await run('mount', ['-t', 'tmpfs', '-o', 'size=400m,mode=711', 'tmpfs', disks]);
    const resize = (mebibytes: number) => run('mount', ['-o', `remount,size=${mebibytes}m`, disks]);
    try {
      await daemon.launch(['--metrics-address', target, '--memory-overcommit', String(OVERCOMMIT)]);
      await using prometheus = await Prometheus.start({ target, speed: SPEED });
      await prometheus.until('sandbox_start_duration_seconds_count');
      registry.opened = delay(SLOW_MS);
      const resources = { cpus: 1, memory: MEMORY, disk: '256Mi' };
      for (const name of ALL) {
        const image = SLOW.includes(name) ? { image: `${registry.host}/t/image:latest` } : {};
        await daemon.write(`${name}.yaml`, sandboxYaml(name, { resources, ...image }));
      }
      await daemon.waitReady('flood');
      // A private address: closed without any policy.
      const flood = 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (while :; do nc -w 1 10.9.8.7 80; done) & done';
      await daemon.ok('exec', 'flood', '--', 'sh', '-c', `(${flood}) </dev/null >/dev/null 2>&1`);
      const faults = [
        'BulkheadStartLatencySLOBurn',
        'BulkheadNodeOutOfCapacity',
        'BulkheadEgressDeniedSpike flood',
      ];
      await prometheus.untilFiring(
        faults,
        // A slow start is one that takes long.
        ALL.map((name) => `BulkheadSandboxStuckStarting ${name}`),
      );

      for (const name of ALL) if (name !== 'writer') await daemon.remove(`${name}.yaml`);
      for (const name of SLOW) await daemon.waitGone(name);
      const { bsize, blocks, bfree } = await statfs(disks);
      // Little: what a VMM writes to this file system counts as its memory.
      await resize(Math.ceil(((blocks - bfree) * bsize) / MIB) + 16);
      const write = 'yes bulkhead | dd of=/x bs=1M count=64 iflag=fullblock conv=fsync && touch /written';
      await daemon.ok('exec', 'writer', '--', 'sh', '-c', `(${write}) </dev/null >/dev/null 2>&1 &`);
      await prometheus.untilFiring(
        ['BulkheadVmsStalled'],
        // A guest that stands still does not answer.
        [...faults, 'BulkheadSandboxAgentUnreachable writer'],
      );
      assert.match(await daemon.ok('status'), /sandbox default\/writer: Running, DiskFull/);
      await resize(400);
      await prometheus.untilQuiet();
      await daemon.ok('exec', 'writer', '--', 'sh', '-c', 'until [ -e /written ]; do usleep 100000; done');
    } finally {
      // Before their directories are out of sight.
      await daemon.cli('delete', 'sandbox', '--all', '--timeout', '60s');
      await daemon.stop();
      await run('umount', ['--lazy', disks]);
    }
  },
);
