// From a file in a folder to a running microVM and back, as a user sees it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostResources, sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { TEST_DRIVER } from './test-driver.ts';

test('a file in the folder becomes a running microVM that follows the file', async (t) => {
  await using daemon = await TestDaemon.start();
  const uids = new Set<string>();
  const before = hostResources(daemon.stateDir, uids);

  await t.test('it boots, runs its own kernel, and says so in status', async () => {
    await daemon.write('web.yaml', sandboxYaml('web'));
    await daemon.waitReady('web');
    assert.match(await daemon.ok('exec', 'web', '--', 'uname', '-r'), /^6\.1\..*-bulkhead/);
    const { status } = await daemon.get('web');
    assert.equal(status.phase, 'Running');
    assert.equal(status.vm?.driver, TEST_DRIVER);
  });

  await t.test('a broken edit keeps the last good version and names the place', async () => {
    const uid = (await daemon.get('web')).metadata.uid;
    await daemon.write('web.yaml', sandboxYaml('web').replace('"image"', '"imge"'));
    const events = await eventually(daemon, 'web', /imge/);
    assert.match(events, /image/, 'the nearest valid name is offered');
    assert.equal((await daemon.get('web')).metadata.uid, uid);
    assert.equal((await daemon.cli('exec', 'web', '--', 'true')).code, 0, 'the VM runs on');
  });

  await t.test('mending and renaming the file restarts nothing', async () => {
    const pid = (await daemon.get('web')).status.vm?.pid;
    await daemon.write('web.yaml', sandboxYaml('web', { terminationGracePeriodSeconds: 5 }));
    await daemon.ok(
      'wait',
      'sandbox/web',
      '--for=jsonpath={.spec.terminationGracePeriodSeconds}=5',
      '--timeout',
      '60s',
    );
    await daemon.write('renamed.yaml', sandboxYaml('web', { terminationGracePeriodSeconds: 5 }));
    await daemon.remove('web.yaml');
    await daemon.write('second.yaml', sandboxYaml('second'));
    await daemon.waitReady('second'); // a later change was taken in, so the rename was too
    assert.equal((await daemon.get('web')).status.vm?.pid, pid);
  });

  await t.test('a file removed while the daemon was down is pruned at its next start', async () => {
    for (const name of ['web', 'second']) uids.add((await daemon.get(name)).metadata.uid);
    await daemon.crash();
    await daemon.remove('second.yaml');
    await daemon.launch();
    await daemon.waitGone('second');
    assert.equal((await daemon.cli('exec', 'web', '--', 'true')).code, 0);
  });

  await t.test('removing the last file leaves nothing on the host', async () => {
    await daemon.write('keep.yaml', sandboxYaml('keep', { operatingMode: 'Suspended' }));
    await daemon.ok('wait', 'sandbox/keep', '--for=condition=Suspended', '--timeout', '60s');
    await daemon.remove('renamed.yaml');
    await daemon.waitGone('web');
    assert.deepEqual(hostResources(daemon.stateDir, uids), before);
  });
});

test('programs, exit codes and restarts are what the manifest says', async (t) => {
  await using daemon = await TestDaemon.start();

  await t.test(
    'a main process that ends well makes the sandbox Succeeded, with its output kept',
    async () => {
      await daemon.write(
        'job.yaml',
        sandboxYaml('job', { main: { command: ['sh', '-c', 'echo done; exit 0'] } }),
      );
      await daemon.ok('wait', 'sandbox/job', '--for=condition=Finished', '--timeout', '180s');
      assert.equal((await daemon.get('job')).status.phase, 'Succeeded');
      assert.equal(await daemon.ok('logs', 'job'), 'done\n');
    },
  );

  await t.test('one that fails says with which code', async () => {
    await daemon.write('fail.yaml', sandboxYaml('fail', { main: { command: ['sh', '-c', 'exit 42'] } }));
    await daemon.ok('wait', 'sandbox/fail', '--for=condition=Finished', '--timeout', '180s');
    const { status } = await daemon.get('fail');
    assert.equal(status.phase, 'Failed');
    assert.equal(status.lastTermination?.exitCode, 42);
  });

  await t.test('exec passes the exit code, standard input and both outputs', async () => {
    await daemon.write('idle.yaml', sandboxYaml('idle'));
    await daemon.waitReady('idle');
    const result = await daemon.cliWithInput(
      'hello',
      'exec',
      '-i',
      'idle',
      '--',
      'sh',
      '-c',
      'cat; echo err >&2; exit 7',
    );
    assert.deepEqual(result, { code: 7, stdout: 'hello', stderr: 'err\n' });
    assert.equal((await daemon.cli('exec', 'idle', '--', 'no-such-program')).code, 127);
    assert.equal((await daemon.cli('exec', 'idle', '--', '/etc/passwd')).code, 126);
    assert.equal((await daemon.cli('exec', 'idle', '--', 'sh', '-c', 'kill -9 $$')).code, 137);
  });

  await t.test('run boots, attaches, exits with the code and removes', async () => {
    const result = await daemon.cli(
      'run',
      '--rm',
      'bulkhead.local/busybox:latest',
      '--',
      'sh',
      '-c',
      'echo out; exit 3',
    );
    assert.equal(result.code, 3, result.stderr);
    assert.equal(result.stdout, 'out\n');
    assert.doesNotMatch(await daemon.ok('get', 'sandboxes', '-o', 'name'), /run-/);
  });

  await t.test('suspend keeps the disks, resume brings them back', async () => {
    // Not from the folder: what a file declares, the folder puts back.
    const applied = await daemon.cliWithInput(sandboxYaml('nap'), 'apply', '-f', '-');
    assert.equal(applied.code, 0, applied.stderr);
    await daemon.waitReady('nap');
    await daemon.ok('exec', 'nap', '--', 'sh', '-c', 'echo kept > /root/file');
    await daemon.ok('suspend', 'nap');
    await daemon.ok('wait', 'sandbox/nap', '--for=condition=Suspended', '--timeout', '60s');
    assert.notEqual((await daemon.cli('exec', 'nap', '--', 'true')).code, 0);
    await daemon.ok('resume', 'nap');
    await daemon.waitReady('nap');
    assert.equal(await daemon.ok('exec', 'nap', '--', 'cat', '/root/file'), 'kept\n');
  });

  await t.test('what a file declares is put back when it is changed through the API', async () => {
    await daemon.ok('suspend', 'idle');
    await daemon.ok(
      'wait',
      'sandbox/idle',
      '--for=jsonpath={.spec.operatingMode}=Running',
      '--timeout',
      '60s',
    );
    await daemon.waitReady('idle');
  });
});

async function eventually(daemon: TestDaemon, name: string, pattern: RegExp): Promise<string> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const text = await daemon.ok('events');
    if (pattern.test(text)) return text;
    assert.ok(Date.now() < deadline, `no event about ${name} matched ${pattern}:\n${text}`);
  }
}
