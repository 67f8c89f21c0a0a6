// A host that is full: who does not fit waits, says why, and starts by itself; also when the daemon that knew is gone.
import assert from 'node:assert/strict';
import { totalmem } from 'node:os';
import { test } from 'node:test';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';

/** A small part of the host may be given, so that one sandbox fits into it and two do not. */
const FACTOR = 0.1;
const MEMORY = `${Math.floor((0.6 * FACTOR * totalmem()) / 1024 ** 2)}Mi`;
const FULL = ['--memory-overcommit', String(FACTOR)];
const WAITS = ['--timeout', '120s'];

const scheduled = (reason: string) =>
  `jsonpath={.status.conditions[?(@.type=="Scheduled")].reason}=${reason}`;

test('who does not fit waits and starts by itself, over a restart of the daemon too', async () => {
  await using daemon = await TestDaemon.start();
  await daemon.stop();
  await daemon.launch(FULL);
  const resources = { cpus: 1, memory: MEMORY, disk: '256Mi' };
  for (const name of ['first', 'second'])
    assert.equal((await daemon.cliWithInput(sandboxYaml(name, { resources }), 'apply', '-f', '-')).code, 0);
  const running = async (): Promise<string[]> => {
    const found: string[] = [];
    for (const name of ['first', 'second'])
      if ((await daemon.get(name)).status.phase === 'Running') found.push(name);
    return found;
  };
  await Promise.any(
    ['first', 'second'].map((name) =>
      daemon.ok('wait', `sandbox/${name}`, '--for=condition=Ready', ...WAITS),
    ),
  );
  const [winner = ''] = await running();
  const loser = winner === 'first' ? 'second' : 'first';
  await daemon.ok('wait', `sandbox/${loser}`, `--for=${scheduled('InsufficientMemory')}`, ...WAITS);
  assert.match(
    await daemon.ok('describe', 'sandbox', loser),
    /sandboxes of this host have \d+Mi of the \d+Mi/,
  );

  await daemon.crash();
  await daemon.launch(FULL);
  await daemon.waitReady(winner);
  await daemon.ok('wait', `sandbox/${loser}`, `--for=${scheduled('InsufficientMemory')}`, ...WAITS);
  assert.deepEqual(await running(), [winner]);

  await daemon.ok('delete', 'sandbox', winner);
  await daemon.waitReady(loser);
  await daemon.ok('wait', `sandbox/${loser}`, `--for=${scheduled('Scheduled')}`, ...WAITS);
});

test('below the mark of the disk nothing starts and nothing is fetched, and what runs goes on', async () => {
  await using daemon = await TestDaemon.start();
  assert.equal((await daemon.cliWithInput(sandboxYaml('old'), 'apply', '-f', '-')).code, 0);
  await daemon.waitReady('old');
  await daemon.crash();
  // More than any disk of a test has.
  await daemon.launch(['--min-free-disk', '1Pi']);
  assert.equal((await daemon.cliWithInput(sandboxYaml('new'), 'apply', '-f', '-')).code, 0);
  await daemon.ok('wait', 'sandbox/new', `--for=${scheduled('InsufficientDisk')}`, ...WAITS);
  // As a pull would.
  const made = await daemon.cli('commit', 'old', 'made:1');
  assert.equal(made.code, 1);
  assert.match(made.stderr, /free, of which \d+Mi are kept for sandboxes/);
  assert.equal(await daemon.ok('exec', 'old', '--', '/bin/echo', 'alive'), 'alive\n');
  await daemon.crash();
  await daemon.launch();
  await daemon.waitReady('new');
});
