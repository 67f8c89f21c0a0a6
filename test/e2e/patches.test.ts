// Patches on a real VM: each kind, paths that try to leave the root, and what happens at a restart.
import assert from 'node:assert/strict';
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
