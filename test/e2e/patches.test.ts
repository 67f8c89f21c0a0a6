// Patches on a real VM: each kind, paths that try to leave the root, and what happens at a restart.
import assert from 'node:assert/strict';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BUILTIN_IMAGE, TestDaemon } from './daemon-harness.ts';

let daemon: TestDaemon;

before(async () => {
  daemon = await TestDaemon.start();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
});

const sandbox = (name: string, patches: string, more = ''): string => `apiVersion: bulkhead.dev/v1alpha1
kind: Sandbox
metadata: {name: ${name}}
spec:
  image: "${BUILTIN_IMAGE}"
  resources: {memory: 128Mi}
${more}
  patches:
${patches}`;

async function sh(script: string): Promise<string> {
  return daemon.ok('exec', 'box', '--', '/bin/sh', '-c', script);
}

test('every kind is there when the main process starts, links stay within the root, and a restart changes nothing', async () => {
  const patches = `
    - {mkdir: {path: /app/data, mode: "0700"}}
    - {text: {path: /app/greeting, content: "Hello!\\n", mode: "0640"}}
    - {append: {path: /app/greeting, content: "and more\\n"}}
    - {append: {path: /etc/hosts, content: "192.0.2.7 build.example\\n"}}
    - {symlink: {path: /app/link, target: /app/greeting}}
    - {symlink: {path: /app/link, target: greeting}}
    - {symlink: {path: /app/up, target: ../../../../../..}}
    - {text: {path: /app/up/tmp/through-a-link, content: x}}
    - {text: {path: /app/gone, content: x}}
    - {remove: {path: /app/gone}}
    - {remove: {path: /app/never-there}}
`;
  const more = '  main: {command: [/bin/sh, -c, "cat /app/link > /app/seen; sleep 100000"]}';
  // Not from the folder, which would put the restart back.
  assert.equal((await daemon.cliWithInput(sandbox('box', patches, more), 'apply', '-f', '-')).code, 0);
  await daemon.waitReady('box');
  assert.equal(await sh('cat /app/greeting'), 'Hello!\nand more\n');
  assert.equal(await sh('until [ -s /app/seen ]; do sleep 0.1; done; cat /app/seen'), 'Hello!\nand more\n');
  assert.equal(await sh('stat -c "%a %U" /app/greeting /app/data'), '640 root\n700 root\n');
  assert.equal(
    await sh('readlink /app/link; cat /tmp/through-a-link; ls /app'),
    'greeting\nxdata\ngreeting\nlink\nseen\nup\n',
  );
  assert.match(await sh('cat /etc/hosts'), /192\.0\.2\.7\s+build\.example/);

  await sh('echo changed > /app/greeting; rm /app/link');
  await daemon.ok('restart', 'box', '--timeout', '180s');
  await daemon.waitReady('box');
  assert.equal(
    await sh('cat /app/greeting; ls /app/link 2>&1 | wc -l; wc -c < /app/greeting'),
    'changed\n1\n8\n',
  );
  assert.match(await sh('cat /etc/hosts'), /192\.0\.2\.7\s+build\.example/);
});

test('a patch that cannot be made is named in the status', async () => {
  const patches = `
    - {mkdir: {path: /app}}
    - {text: {path: /app, content: x}}
`;
  await daemon.write('bad.yaml', sandbox('bad', patches, '  restartPolicy: Never'));
  await daemon.ok('wait', 'sandbox/bad', '--for=condition=Finished', '--timeout', '180s');
  assert.match(await daemon.ok('describe', 'sandbox', 'bad'), /spec\.patches\[1\] \(text \/app\): /);
});

/** A folder with a program in a folder, a link and a link that leads out. */
async function makeTree(path: string): Promise<void> {
  await mkdir(join(path, 'bin'), { recursive: true });
  await writeFile(join(path, 'bin', 'run'), '#!/bin/sh\necho ran\n');
  await chmod(join(path, 'bin', 'run'), 0o750);
  await writeFile(join(path, 'large'), Buffer.alloc(3_000_000, 'x'));
  await symlink('bin/run', join(path, 'again'));
  await symlink('/etc/hostname', join(path, 'out'));
}

const CHECKS =
  'stat -c "%a %U" /opt/tools/bin/run; /opt/tools/again; wc -c < /opt/tools/large; readlink /opt/tools/out';
const CHECKED = '750 root\nran\n3000000\n/etc/hostname\n';

test('folders are copied from beside the manifest, in folder mode and by apply', async () => {
  await makeTree(join(daemon.manifests, '.tree'));
  const copy = (from: string) => `    - {copy: {from: ${from}, path: /opt/tools}}\n`;
  await daemon.write('copied.yaml', sandbox('copied', copy('.tree')));
  const applied = join(daemon.root, 'applied');
  await makeTree(join(applied, 'tree'));
  await writeFile(join(applied, 'box.yaml'), sandbox('applied', copy('./tree')));
  await daemon.ok('apply', '-f', join(applied, 'box.yaml'));
  for (const name of ['copied', 'applied']) {
    await daemon.waitReady(name);
    assert.equal(await daemon.ok('exec', name, '--', '/bin/sh', '-c', CHECKS), CHECKED);
  }
  assert.match(await daemon.ok('apply', '-f', join(applied, 'box.yaml')), /unchanged/);
  assert.equal(await daemon.ok('diff', '-f', join(applied, 'box.yaml')), '');
  await writeFile(join(applied, 'tree', 'bin', 'run'), 'other');
  const changed = await daemon.cli('apply', '-f', join(applied, 'box.yaml'));
  assert.equal(changed.code, 1);
  assert.match(changed.stderr, /patches cannot change/);
  await writeFile(join(applied, 'wrong.yaml'), sandbox('wrong', copy('tree/out')));
  const wrong = await daemon.cli('validate', '-f', join(applied, 'wrong.yaml'));
  assert.match(
    wrong.stderr,
    /wrong\.yaml:1:1: document 1: spec\.patches\[0\]\.copy\.from: tree\/out: it is a link/,
  );
});

test('what the image has is replaced only when the patch says so', async () => {
  const text = (more: string) => `    - {text: {path: /bin/sh, content: x${more}}}\n`;
  await daemon.write('refused.yaml', sandbox('refused', text(''), '  restartPolicy: Never'));
  await daemon.write('told.yaml', sandbox('told', text(', replace: true')));
  await daemon.ok('wait', 'sandbox/refused', '--for=condition=Finished', '--timeout', '180s');
  assert.match(
    await daemon.ok('describe', 'sandbox', 'refused'),
    /spec\.patches\[0\] \(text \/bin\/sh\): the image has a \w+ at \/bin\/sh; say `replace: true`/,
  );
  await daemon.waitReady('told');
  assert.equal(await daemon.ok('exec', 'told', '--', '/bin/busybox', 'cat', '/bin/sh'), 'x');
});
