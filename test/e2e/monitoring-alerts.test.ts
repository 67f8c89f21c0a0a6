// Alerts of the daemon, its folder, volumes and leftovers, in a real Prometheus. No VM is started here.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { boards } from '../../monitoring/boards/boards.ts';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { freePort, Prometheus } from './prometheus.ts';

const run = promisify(execFile);
const MIB = 2 ** 20;
/** Rules with their durations this many times as short. */
const SPEED = 40;

/** An ext4 image with a file that fills most of it. */
async function fullDisk(dir: string): Promise<string> {
  const [content, image] = [join(dir, 'content'), join(dir, 'full.img')];
  await mkdir(content);
  await writeFile(join(content, 'big'), Buffer.alloc(118 * MIB, 1));
  await run('truncate', ['-s', '128M', image]);
  await run('/sbin/mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', '-d', content, image]);
  return image;
}

function volumeYaml(name: string, capacity: string): string {
  const spec = { capacity, reclaimPolicy: 'Delete' };
  return `${JSON.stringify({ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Volume', metadata: { name }, spec })}\n`;
}

test('each fault around the daemon makes its own alert fire, and no other; mended, all end', async () => {
  const target = `127.0.0.1:${await freePort()}`;
  const args = ['--metrics-address', target];
  await using daemon = await TestDaemon.start({ extraArgs: args, image: false });
  await daemon.stop();
  const orphan = join(daemon.stateDir, 'sandboxes', '01234567-89ab-4cde-8f01-23456789abcd');
  await mkdir(orphan);
  await writeFile(join(orphan, 'kept'), '');
  await run('chattr', ['+i', join(orphan, 'kept')]);
  const faults = [
    'BulkheadSandboxStuckStarting stuck',
    'BulkheadSourceSyncFailing',
    'BulkheadVmmOrphaned',
    'BulkheadVolumeNearlyFull volume',
  ];
  await daemon.launch(args);
  await using prometheus = await Prometheus.start({ target, speed: SPEED });
  try {
    // A folder that is emptied is not believed at once.
    await daemon.write('other.yaml', volumeYaml('other', '64Mi'));
    await daemon.write('volume.yaml', volumeYaml('volume', '128Mi'));
    await daemon.ok('wait', 'volume/volume', '--for=condition=Ready', '--timeout', '60s');
    await daemon.ok('volume', 'import', 'volume', await fullDisk(daemon.root));
    await daemon.write('stuck.yaml', sandboxYaml('stuck', { image: '127.0.0.1:1/nothing:1' }));
    await daemon.write('broken.yaml', 'kind: [');
    await prometheus.untilFiring(faults);
    // Those of sandboxes that run have no figures here, but no query may be wrong.
    for (const { title, board } of boards()) {
      const empty = await prometheus.emptyPanels(board, 'stuck');
      if (title === 'Controller') assert.deepEqual(empty, []);
    }
    const page = await daemon.ok('status');
    for (const expected of [
      /sandbox default\/stuck: Pending/,
      /volume default\/volume: .* full/,
      /folder: 1 /,
    ])
      assert.match(page, expected);
  } finally {
    await run('chattr', ['-i', join(orphan, 'kept')]);
  }

  await daemon.crash();
  await prometheus.untilFiring(['BulkheadControllerDown'], faults);
  for (const file of ['volume.yaml', 'stuck.yaml', 'broken.yaml']) await daemon.remove(file);
  await daemon.launch(args);
  await prometheus.untilQuiet();
});
