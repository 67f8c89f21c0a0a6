// Images made of sandboxes that run and that rest, on real VMs.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';

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

/** What a new sandbox of the image finds. */
async function found(name: string, image: string, script: string): Promise<string> {
  await create(name, { image });
  return sh(name, script);
}

test('a sandbox that runs and writes goes on, and its image has what was there', async () => {
  await create('box', { main: { command: ['/bin/sh', '-c', 'while :; do date >> /log; sleep 0.05; done'] } });
  const image = await sh('box', 'ls /bin | wc -l');
  await sh(
    'box',
    'set -e; mkdir -p /opt/app/deep; echo one > /opt/app/deep/file; ln /opt/app/deep/file /opt/app/twin; ln -s deep/file /opt/app/link; ' +
      'chmod 4750 /opt/app/deep/file; chown 1000:70000 /opt/app/twin; mkfifo /opt/pipe; rm /bin/wc; mv /bin /bin-moved; ' +
      '/bin-moved/busybox mkdir /bin; /bin-moved/busybox cp /bin-moved/busybox /bin/busybox; /bin/busybox ln -s busybox /bin/sh',
  );
  assert.match(await daemon.ok('commit', 'box', 'made:1'), /^made:1@sha256:[0-9a-f]{64}\n$/);
  const size = () => daemon.ok('exec', 'box', '--', '/bin/busybox', 'stat', '-c', '%s', '/log').then(Number);
  const first = await size();
  await daemon.ok(
    'exec',
    'box',
    '--',
    '/bin/busybox',
    'sh',
    '-c',
    'n=$(busybox stat -c %s /log); until [ $(busybox stat -c %s /log) -gt $n ]; do :; done',
  );
  assert.ok((await size()) > first, 'it writes on');

  const script =
    'busybox cat /opt/app/link; busybox stat -c "%a %u %g %h %i" /opt/app/twin /opt/app/deep/file; busybox test -p /opt/pipe && echo pipe; ' +
    'busybox ls /bin; busybox ls /bin-moved | busybox wc -l; busybox test -s /log && echo log';
  const lines = (await found('again', 'made:1', script)).split('\n');
  assert.deepEqual([lines[0], ...lines.slice(3, 6)], ['one', 'pipe', 'busybox', 'sh']);
  assert.match(lines[1] ?? '', /^4750 1000 70000 2 /);
  assert.equal(lines[1], lines[2], 'one file with two names');
  assert.equal(
    Number(lines[6]),
    Number(image) - 1,
    'what was removed stays removed, what was moved is whole',
  );
  assert.equal(lines[7], 'log');
  assert.deepEqual(readdirSync(join(daemon.stateDir, 'uploads')), []);
  assert.deepEqual(readdirSync(join(daemon.stateDir, 'images', 'tmp')), []);
});

test('a sandbox that is suspended is committed as it is, and one of its image too', async () => {
  await create('still');
  await sh('still', 'echo kept > /kept');
  await daemon.ok('suspend', 'still', '--timeout', '120s');
  await daemon.ok('commit', 'still', 'made:2');
  await create('next', { image: 'made:2' });
  await sh('next', 'echo more > /more');
  await daemon.ok('suspend', 'next', '--timeout', '120s');
  await daemon.ok('commit', 'next', 'made:3');
  assert.equal(await found('last', 'made:3', 'cat /kept /more'), 'kept\nmore\n');
  const saved = join(daemon.root, 'saved.tar');
  await daemon.ok('image', 'save', 'made:3', '-o', saved);
  await daemon.ok('image', 'load', saved, '--reference', 'loaded:1');
});

test('what cannot be committed is said', async () => {
  const missing = await daemon.cli('commit', 'nobody', 'made:4');
  assert.match(missing.stderr, /"nobody" not found/);
  const wrong = await daemon.cli('commit', 'still', 'Not A Name');
  assert.equal(wrong.code, 1);
});
