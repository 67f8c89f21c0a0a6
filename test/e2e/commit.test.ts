// Images made of sandboxes that run and that rest, on real VMs.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type CliResult, sandboxYaml, TestDaemon } from './daemon-harness.ts';

/** After it a frozen guest goes on whatever happens. */
const THAWS_BY_ITSELF_MS = 60_000;

let daemon: TestDaemon;

before(async () => {
  daemon = await TestDaemon.start();
});
after(async () => {
  await daemon?.[Symbol.asyncDispose]();
});

const sh = (name: string, script: string) => daemon.ok('exec', name, '--', '/bin/sh', '-c', script);

async function create(name: string, spec: Record<string, unknown> = {}): Promise<void> {
  assert.equal((await daemon.cliWithInput(sandboxYaml(name, spec), 'apply', '-f', '-')).code, 0);
  await daemon.waitReady(name);
}

/** The first name in a folder, as soon as there is one. */
async function firstIn(folder: string, begin: () => unknown = () => {}): Promise<string> {
  const watcher = watch(folder);
  try {
    const changed = once(watcher, 'change');
    begin();
    if (readdirSync(folder).length === 0) await changed;
    return readdirSync(folder)[0] ?? assert.fail(`nothing in ${folder}`);
  } finally {
    watcher.close();
  }
}

/** What a new sandbox of the image finds. */
async function found(name: string, image: string, script: string): Promise<string> {
  await create(name, { image });
  return sh(name, script);
}

test('a sandbox that runs and writes goes on, and its image has what was there', async () => {
  await create('box', { main: { command: ['/bin/sh', '-c', 'while :; do date >> /log; sleep 0.05; done'] } });
  const applets = Number(await sh('box', 'ls /usr/bin | wc -l'));
  await sh(
    'box',
    'set -e; mkdir -p /opt/app/deep; echo one > /opt/app/deep/file; ln /opt/app/deep/file /opt/app/twin; ' +
      'ln -s deep/file /opt/app/link; chown 1000:70000 /opt/app/twin; chmod 4750 /opt/app/deep/file; ' +
      'mkfifo /opt/pipe; rm /usr/bin/wc; mv /usr/bin /usr/bin-moved; mkdir /usr/bin; echo own > /usr/bin/own',
  );
  assert.match(await daemon.ok('commit', 'box', 'made:1'), /^made:1@sha256:[0-9a-f]{64}\n$/);
  const size = async () => Number(await sh('box', 'busybox stat -c %s /log'));
  const first = await size();
  await sh('box', `until [ $(busybox stat -c %s /log) -gt ${first} ]; do :; done`);
  assert.ok((await size()) > first, 'it writes on');

  const script =
    'cat /opt/app/link; busybox stat -c "%a %u %g %h %i" /opt/app/twin /opt/app/deep/file; test -p /opt/pipe && echo pipe; ' +
    'ls /usr/bin; ls /usr/bin-moved | busybox wc -l; test -s /log && echo log';
  const lines = (await found('again', 'made:1', script)).split('\n');
  assert.deepEqual([lines[0], ...lines.slice(3, 5)], ['one', 'pipe', 'own']);
  assert.match(lines[1] ?? '', /^4750 1000 70000 2 /);
  assert.equal(lines[1], lines[2], 'one file with two names');
  assert.equal(Number(lines[5]), applets - 1, 'what was removed stays removed, what was moved is whole');
  assert.equal(lines[6], 'log');
  assert.deepEqual(readdirSync(join(daemon.stateDir, 'uploads')), []);
  assert.deepEqual(readdirSync(join(daemon.stateDir, 'images', 'tmp')), []);
});

test('a sandbox that is suspended is committed as it is, and one of its image too', async () => {
  await create('still');
  await sh('still', 'echo kept > /kept');
  await daemon.ok('stop', 'still', '--timeout', '120s');
  await daemon.ok('commit', 'still', 'made:2');
  await create('next', { image: 'made:2' });
  await sh('next', 'echo more > /more');
  await daemon.ok('stop', 'next', '--timeout', '120s');
  await daemon.ok('commit', 'next', 'made:3');
  assert.equal(await found('last', 'made:3', 'cat /kept /more'), 'kept\nmore\n');
  const saved = join(daemon.root, 'saved.tar');
  await daemon.ok('image', 'save', 'made:3', '-o', saved);
  await daemon.ok('image', 'load', saved, '--reference', 'loaded:1');
});

test('a daemon that is killed while a guest stands still leaves it frozen for no longer than the next one takes to come', async (t) => {
  await create('cold', { resources: { cpus: 1, memory: '128Mi', disk: '2Gi' } });
  // Enough for a copy that takes longer than the kill.
  await sh('cold', 'dd if=/dev/zero of=/large bs=1M count=600 2>/dev/null; sync');
  const uploads = join(daemon.stateDir, 'uploads');
  const commit = Promise.withResolvers<CliResult>();
  const folder = await firstIn(uploads, () => daemon.cli('commit', 'cold', 'made:5').then(commit.resolve));
  // It is frozen first, then copied.
  const copy = join(uploads, folder, await firstIn(join(uploads, folder)));
  await daemon.crash();
  assert.notEqual((await commit.promise).code, 0);
  t.diagnostic(`${statSync(copy).blocks >> 11} MiB were copied`);
  const killed = performance.now();
  await daemon.launch();
  await sh('cold', 'echo goes on > /after; sync');
  const waited = Math.round(performance.now() - killed);
  assert.ok(waited < THAWS_BY_ITSELF_MS / 2, `${waited} ms`);
  assert.deepEqual(readdirSync(uploads), []);
  await daemon.ok('commit', 'cold', 'made:5');
  assert.equal(await found('colder', 'made:5', 'cat /after'), 'goes on\n');
});

test('what cannot be committed is said', async () => {
  const missing = await daemon.cli('commit', 'nobody', 'made:4');
  assert.match(missing.stderr, /"nobody" not found/);
  const wrong = await daemon.cli('commit', 'still', 'Not A Name');
  assert.equal(wrong.code, 1);
});
