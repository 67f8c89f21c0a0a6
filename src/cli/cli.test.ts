import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { FOLLOWERS_MAX } from '../server/limits.ts';
import { type Harness, sandboxDocument, startHarness } from '../server/testing/harness.ts';
import { BULKHEAD, bulkhead, environment, start } from './testing/bulkhead.ts';

const KEY = { kind: 'Sandbox', namespace: 'default' };
const TIME = '2026-01-01T00:00:00.000Z';

function condition(type: string, status = 'True', reason = type, message = '') {
  return { type, status, reason, message, lastTransitionTime: TIME, observedGeneration: 1 };
}

async function create(harness: Harness, name: string, labels?: Record<string, string>) {
  return harness.client.create(SANDBOX_KIND, 'default', sandboxDocument(name, {}, labels));
}

function manifest(name: string, spec = ''): string {
  return `apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: ${name}}\nspec:\n  image: busybox:1.36\n${spec}`;
}

/** Ages move, so they are taken out of tables. */
function withoutAges(text: string): string {
  return text.replace(/\b\d+s\b/g, 'AGE').replace(/ +/g, ' ');
}

test('apply creates, changes and leaves alone, and says which', async () => {
  await using harness = await startHarness();
  const file = join(harness.dir, 'a.yaml');
  const run = () => bulkhead(harness.socketPath, 'apply', '-f', file);
  await writeFile(file, `${manifest('a')}---\n${manifest('b')}`);
  assert.deepEqual(await run(), {
    code: 0,
    stdout: 'sandbox.bulkhead.dev/a created\nsandbox.bulkhead.dev/b created\n',
    stderr: '',
  });
  await writeFile(file, `${manifest('a', '  hostname: x\n')}---\n${manifest('b')}`);
  assert.equal((await run()).stdout, 'sandbox.bulkhead.dev/a configured\nsandbox.bulkhead.dev/b unchanged\n');
});

test('apply says where a mistake is, applies the rest and fails', async () => {
  await using harness = await startHarness();
  const input = `${manifest('a', '  resources: {cpus: two}\n')}---\n${manifest('b')}`;
  const result = await start(harness.socketPath, ['apply', '-f', '-'], { input }).result;
  assert.equal(result.code, 1);
  assert.equal(result.stdout, 'sandbox.bulkhead.dev/b created\n');
  assert.match(result.stderr, /^standard input:6:\d+: document 1: spec\.resources\.cpus: /);
});

test('get prints a table, wide, names, json, yaml and jsonpath', async () => {
  await using harness = await startHarness();
  const { socketPath, store } = harness;
  await create(harness, 'a', { team: 'x' });
  await create(harness, 'b');
  await store.updateStatus(
    { ...KEY, name: 'a' },
    { phase: 'Running', conditions: [condition('Ready')], nodeName: 'n1', vm: { bootMilliseconds: 87 } },
  );
  const get = async (...args: string[]) => (await bulkhead(socketPath, 'get', ...args)).stdout;
  assert.equal(
    withoutAges(await get('sbx')),
    'NAME READY STATUS IMAGE NODE AGE\n' +
      'a True Running docker.io/library/busybox:1.36 n1 AGE\n' +
      'b <none> <none> docker.io/library/busybox:1.36 <none> AGE\n',
  );
  assert.match(await get('sandboxes', 'a', '-o', 'wide'), /BOOT-MS .*\n.* 87 /);
  assert.equal(await get('sandbox', '-o', 'name'), 'sandbox.bulkhead.dev/a\nsandbox.bulkhead.dev/b\n');
  assert.equal(await get('sbx', '-l', 'team=x', '-o', 'name'), 'sandbox.bulkhead.dev/a\n');
  const list = JSON.parse(await get('sbx', '-o', 'json')) as { kind: string; items: unknown[] };
  assert.equal(list.kind, 'List');
  assert.equal(list.items.length, 2);
  assert.equal((JSON.parse(await get('sbx/a', '-o', 'json')) as { kind: string }).kind, 'Sandbox');
  assert.match(await get('sbx/a', '-o', 'yaml'), /^apiVersion: bulkhead.dev\/v1alpha1\nkind: Sandbox\n/);
  assert.equal(await get('sbx', '-o', 'jsonpath={range .items[*]}{.metadata.name}{"\\n"}{end}'), 'a\nb\n');
});

test('a list longer than one page is printed whole, in order and with one header', async () => {
  await using harness = await startHarness();
  const names = Array.from({ length: 1_001 }, (_, index) => `s${String(index).padStart(4, '0')}`);
  for (let at = 0; at < names.length; at += 100) {
    await Promise.all(names.slice(at, at + 100).map((name) => create(harness, name)));
  }
  const { stdout } = await bulkhead(harness.socketPath, 'get', 'sbx', '-o', 'name');
  assert.deepEqual(
    stdout.trimEnd().split('\n'),
    names.map((name) => `sandbox.bulkhead.dev/${name}`),
  );
  const [header, ...rows] = (await bulkhead(harness.socketPath, 'get', 'sbx')).stdout.trimEnd().split('\n');
  assert.match(header ?? '', /^NAME /);
  assert.deepEqual(
    rows.map((row) => row.split(' ')[0]),
    names,
  );
});

test('unknown names, kinds and commands are refused with the nearest one', async () => {
  await using harness = await startHarness();
  const { socketPath } = harness;
  await create(harness, 'counter');
  const missing = await bulkhead(socketPath, 'get', 'sandbox', 'cuonter');
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /"cuonter" not found; did you mean "counter"\?/);
  const kind = await bulkhead(socketPath, 'get', 'sandbxes');
  assert.equal(kind.code, 2);
  assert.match(kind.stderr, /did you mean "sandboxes"\?/);
  const command = await bulkhead(socketPath, 'descibe', 'sbx');
  assert.equal(command.code, 2);
  assert.match(command.stderr, /did you mean "describe"\?/);
  assert.equal((await bulkhead(socketPath, 'get', 'sbx', '--nothing')).code, 2);
  assert.match((await bulkhead(socketPath, 'exec', 'conter', '--', 'echo')).stderr, /did you mean "counter"/);
});

test('get -w goes on with changes', async () => {
  await using harness = await startHarness();
  await create(harness, 'a');
  const watching = start(harness.socketPath, ['get', 'sbx', '-w', '-o', 'name']);
  await watching.printed('sandbox.bulkhead.dev/a\n');
  await create(harness, 'b');
  await watching.printed('sandbox.bulkhead.dev/b\n');
  watching.child.kill('SIGINT');
  assert.equal((await watching.result).code, 0);
});

test('wait ends when the condition comes, also for an object that comes later', async () => {
  await using harness = await startHarness();
  const { socketPath, store } = harness;
  const waiting = start(socketPath, ['wait', 'sandbox/a', '--for=condition=Ready', '--timeout', '60s']);
  await create(harness, 'a');
  await store.updateStatus({ ...KEY, name: 'a' }, { conditions: [condition('Ready')] });
  assert.deepEqual(await waiting.result, {
    code: 0,
    stdout: 'sandbox.bulkhead.dev/a condition met\n',
    stderr: '',
  });
});

test('wait for a value and for a deletion', async () => {
  await using harness = await startHarness();
  const { socketPath, client } = harness;
  await create(harness, 'a');
  const value = await bulkhead(socketPath, 'wait', 'sbx/a', '--for=jsonpath={.spec.restartPolicy}=Never');
  assert.equal(value.code, 0);
  const gone = start(socketPath, ['wait', 'sbx', 'a', '--for=delete', '--timeout', '1m']);
  await client.delete(SANDBOX_KIND, 'default', 'a');
  assert.deepEqual(await gone.result, { code: 0, stdout: 'sandbox.bulkhead.dev/a deleted\n', stderr: '' });
});

test('wait that is too long says why the object is not there yet', async () => {
  await using harness = await startHarness();
  await create(harness, 'a');
  await harness.store.updateStatus(
    { ...KEY, name: 'a' },
    { conditions: [condition('Ready', 'False', 'ImagePulling', 'pulling busybox')] },
  );
  const result = await bulkhead(
    harness.socketPath,
    'wait',
    'sbx/a',
    '--for=condition=Ready',
    '--timeout',
    '1s',
  );
  assert.equal(result.code, 1);
  assert.match(result.stderr, /timed out waiting .*ImagePulling: pulling busybox/);
});

test('delete waits until finalizers are gone', async () => {
  await using harness = await startHarness();
  const { socketPath, client, store } = harness;
  await create(harness, 'a');
  await store.patch({ ...KEY, name: 'a' }, { metadata: { finalizers: ['bulkhead.dev/vm'] } });
  const deleting = start(socketPath, ['delete', 'sandbox', 'a', '--now']);
  await deleting.printed('sandbox.bulkhead.dev "a" deleted\n');
  const { spec } = await client.get(SANDBOX_KIND, 'default', 'a');
  assert.equal((spec as { terminationGracePeriodSeconds: number }).terminationGracePeriodSeconds, 1);
  await store.patch({ ...KEY, name: 'a' }, { metadata: { finalizers: [] } });
  assert.equal((await deleting.result).code, 0);
});

test('more objects than a daemon lets follow at once are deleted and waited for', async () => {
  await using harness = await startHarness();
  const { socketPath, store } = harness;
  const names = Array.from({ length: FOLLOWERS_MAX + 100 }, (_, index) => `s${index}`);
  const change = async (name: string, finalizers: string[]) =>
    void (await store.patch({ ...KEY, name }, { metadata: { finalizers } }));
  for (let at = 0; at < names.length; at += 100) {
    await Promise.all(names.slice(at, at + 100).map((name) => create(harness, name)));
  }
  await Promise.all(names.map((name) => change(name, ['bulkhead.dev/vm'])));
  const deleting = start(socketPath, ['delete', 'sandbox', '--all']);
  await deleting.printed(`"${[...names].sort().at(-1)}" deleted\n`);
  // Some go while the others are not even looked at yet.
  for (const name of names) await change(name, []);
  const { code, stderr } = await deleting.result;
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
});

test('delete by label, of all, from files, and of what is not there', async () => {
  await using harness = await startHarness();
  const { socketPath, dir } = harness;
  for (const name of ['a', 'b', 'c']) await create(harness, name, { team: name === 'a' ? 'x' : 'y' });
  assert.equal(
    (await bulkhead(socketPath, 'delete', 'sbx', '-l', 'team=x')).stdout,
    'sandbox.bulkhead.dev "a" deleted\n',
  );
  await writeFile(join(dir, 'b.yaml'), manifest('b'));
  assert.equal((await bulkhead(socketPath, 'delete', '-f', join(dir, 'b.yaml'))).code, 0);
  assert.equal(
    (await bulkhead(socketPath, 'delete', 'sbx', '--all')).stdout,
    'sandbox.bulkhead.dev "c" deleted\n',
  );
  assert.equal((await bulkhead(socketPath, 'delete', 'sbx', 'c')).code, 1);
  assert.equal((await bulkhead(socketPath, 'delete', 'sbx', 'c', '--ignore-not-found')).code, 0);
  assert.equal((await bulkhead(socketPath, 'delete', 'sbx')).code, 2);
});

test("exec passes output, input and the command's exit code", async () => {
  await using harness = await startHarness();
  const { socketPath } = harness;
  await create(harness, 'a');
  const exec = (...args: string[]) => bulkhead(socketPath, 'exec', 'a', '--', ...args);
  assert.deepEqual(await exec('fail'), { code: 3, stdout: 'to stdout\n', stderr: 'to stderr\n' });
  assert.equal((await exec('killed')).code, 137);
  assert.equal((await exec('missing')).code, 127);
  assert.equal((await bulkhead(socketPath, 'exec', 'a')).code, 125);
  const piped = start(socketPath, ['exec', '-i', 'a', 'cat'], { input: 'x'.repeat(300_000) });
  const { code, stdout } = await piped.result;
  assert.deepEqual([code, stdout.length], [0, 300_000]);
  harness.sandboxes.stopped.add('a');
  assert.equal((await exec('echo')).code, 125);
});

test('signals of exec reach the command', async () => {
  await using harness = await startHarness();
  await create(harness, 'a');
  const running = start(harness.socketPath, ['exec', 'a', '--', 'trap']);
  await running.printed('ready');
  running.child.kill('SIGTERM');
  const { code, stdout } = await running.result;
  assert.deepEqual([code, stdout], [9, 'ready\nSIGTERM\n']);
});

test('exec ends at the third signal when its command does not', async () => {
  await using harness = await startHarness({
    commands: {
      deaf: async ({ out, nextSignal }) => {
        await out('ready\n');
        for (;;) await out(`${await nextSignal()}\n`);
      },
    },
  });
  await create(harness, 'a');
  const running = start(harness.socketPath, ['exec', 'a', '--', 'deaf']);
  await running.printed('ready');
  running.child.kill('SIGINT');
  await running.printed('SIGINT');
  running.child.kill('SIGTERM');
  await running.printed('SIGTERM');
  running.child.kill('SIGTERM');
  const { code, stderr } = await running.result;
  assert.equal(code, 143);
  assert.match(stderr, /asked to end several times/);
  await harness.sandboxes.agent.processes[0]?.released;
});

test('attach leaves with ctrl-c and the detach keys, and the process goes on', async () => {
  await using harness = await startHarness();
  const { sandboxes, socketPath } = harness;
  sandboxes.main = async ({ out }) => {
    await out('main\n');
    return new Promise(() => {});
  };
  await create(harness, 'a');
  const interrupted = start(socketPath, ['attach', 'a']);
  await interrupted.printed('main');
  interrupted.child.kill('SIGINT');
  assert.equal((await interrupted.result).code, 0);
  const detached = start(socketPath, ['attach', '-i', 'a'], { input: 'open' });
  await detached.printed('main');
  detached.child.stdin?.write('typed\x1d');
  assert.equal((await detached.result).code, 0);
});

test('logs asks for what the options say', async () => {
  await using harness = await startHarness();
  const { sandboxes, socketPath } = harness;
  await create(harness, 'a');
  const time = new Date(TIME);
  sandboxes.logs.set('a', [
    { time, stream: 'stdout', data: Buffer.from('one\ntwo\nthr'), lostBytes: 0 },
    { time, stream: 'stdout', data: Buffer.from('ee\n'), lostBytes: 0 },
    { time, stream: 'stderr', data: Buffer.alloc(0), lostBytes: 7 },
  ]);
  assert.equal(
    (await bulkhead(socketPath, 'logs', 'a')).stdout,
    'one\ntwo\nthree\nbulkhead: 7 bytes of stderr were lost here\n',
  );
  assert.equal(
    (await bulkhead(socketPath, 'logs', 'a', '--timestamps')).stdout,
    `${TIME} one\n${TIME} two\n${TIME} three\nbulkhead: 7 bytes of stderr were lost here\n`,
  );
  await bulkhead(socketPath, 'logs', 'sbx/a', '--tail', '2', '-p', '--since', '10m');
  const options = sandboxes.logOptions.at(-1);
  assert.equal(options?.tailLines, 2);
  assert.equal(options?.previous, true);
  assert.ok(options?.since instanceof Date);
  assert.equal((await bulkhead(socketPath, 'logs', 'b')).code, 1);
  const following = start(socketPath, ['logs', '-f', 'a']);
  await following.printed('three');
  following.child.kill('SIGINT');
  await following.result;
});

test('run waits until it is ready, runs the command and removes the sandbox', async () => {
  await using harness = await startHarness();
  const { socketPath, store, client } = harness;
  const running = start(socketPath, ['run', '--name', 'job', '-e', 'A=b', 'busybox:1.36', '--', 'words']);
  for await (const { object } of client.watch(SANDBOX_KIND, { signal: AbortSignal.timeout(60_000) })) {
    assert.deepEqual((object.spec as { env: unknown }).env, [{ name: 'A', value: 'b' }]);
    assert.equal((object.spec as { main?: unknown }).main, undefined);
    break;
  }
  await store.updateStatus({ ...KEY, name: 'job' }, { conditions: [condition('Ready')] });
  assert.deepEqual(await running.result, { code: 0, stdout: 'entry words\n', stderr: '' });
  assert.equal((await client.list(SANDBOX_KIND)).items.length, 0);
});

test('run --replace stops and removes the older sandbox of its name first', async () => {
  await using harness = await startHarness();
  const { socketPath, client, store } = harness;
  const run = ['run', '-d', '--name', 'job', '--replace'];
  assert.deepEqual(await bulkhead(socketPath, ...run, 'busybox:1.36'), {
    code: 0,
    stdout: 'job\n',
    stderr: '',
  });
  const older = await store.patch({ ...KEY, name: 'job' }, { metadata: { finalizers: ['bulkhead.dev/vm'] } });

  const invalid = await bulkhead(socketPath, ...run, '--memory', '1Ki', 'busybox:1.36');
  assert.equal(invalid.code, 125);
  assert.match(invalid.stderr, /resources\.memory/);
  const { metadata } = await client.get(SANDBOX_KIND, 'default', 'job');
  assert.equal(metadata.deletionTimestamp, undefined, 'nothing is given up for what is not valid');

  const replacing = start(socketPath, [...run, 'busybox:1.37']);
  for await (const { object } of client.watch(SANDBOX_KIND, { signal: AbortSignal.timeout(60_000) }))
    if (object.metadata.deletionTimestamp !== undefined) break;
  const [only] = (await client.list(SANDBOX_KIND)).items;
  assert.equal(only?.metadata.uid, older.metadata.uid, 'it waits for the end of the older one');
  await store.patch({ ...KEY, name: 'job' }, { metadata: { finalizers: [] } });
  assert.deepEqual(await replacing.result, { code: 0, stdout: 'job\n', stderr: '' });
  const newer = await client.get(SANDBOX_KIND, 'default', 'job');
  assert.notEqual(newer.metadata.uid, older.metadata.uid);
  assert.equal((newer.spec as { image: string }).image, 'busybox:1.37');

  await store.patch(
    { ...KEY, name: 'job' },
    { metadata: { labels: { 'bulkhead.dev/managed-by': 'folder' } } },
  );
  const ofFolder = await bulkhead(socketPath, ...run, 'busybox:1.36');
  assert.equal(ofFolder.code, 125);
  assert.match(ofFolder.stderr, /manifest folder/);
  const nameless = await bulkhead(socketPath, 'run', '-d', '--replace', 'busybox:1.36');
  assert.match(nameless.stderr, /--replace needs --name/);
});

test('run of what can never start says why, exits 125 and leaves nothing', async () => {
  await using harness = await startHarness();
  const { socketPath, store, client } = harness;
  const running = start(socketPath, ['run', '--name', 'job', 'busybox:1.36']);
  for await (const _ of client.watch(SANDBOX_KIND, { signal: AbortSignal.timeout(60_000) })) break;
  await store.updateStatus(
    { ...KEY, name: 'job' },
    { conditions: [condition('Stalled', 'True', 'ImageNotFound', 'no such image')] },
  );
  const { code, stderr } = await running.result;
  assert.equal(code, 125);
  assert.match(stderr, /ImageNotFound: no such image/);
  assert.equal((await client.list(SANDBOX_KIND)).items.length, 0);
});

test('suspend, resume, stop and start set the mode, and the latter two wait', async () => {
  await using harness = await startHarness();
  const { socketPath, client, store } = harness;
  await create(harness, 'a');
  const mode = async () =>
    ((await client.get(SANDBOX_KIND, 'default', 'a')).spec as { operatingMode: string }).operatingMode;
  assert.equal((await bulkhead(socketPath, 'suspend', 'a')).code, 0);
  assert.equal(await mode(), 'Suspended');
  assert.equal((await bulkhead(socketPath, 'resume', 'a')).code, 0);
  assert.equal(await mode(), 'Running');
  assert.equal((await bulkhead(socketPath, 'stop', 'a', '--timeout', '1s')).code, 1);
  await store.updateStatus(
    { ...KEY, name: 'a' },
    { conditions: [{ ...condition('Suspended'), observedGeneration: 9 }] },
  );
  assert.equal((await bulkhead(socketPath, 'stop', 'a')).stdout, 'sandbox.bulkhead.dev/a stopped\n');
  assert.equal((await bulkhead(socketPath, 'suspend', 'b')).code, 1);
});

test('validate needs no daemon and tells every mistake with its place', async () => {
  await using harness = await startHarness();
  const folder = join(harness.dir, 'manifests');
  await mkdir(join(folder, 'sub'), { recursive: true });
  await writeFile(join(folder, 'good.yaml'), manifest('good'));
  await writeFile(join(folder, '.hidden.yaml'), 'nonsense: [');
  const nowhere = join(harness.dir, 'none.sock');
  assert.deepEqual(await bulkhead(nowhere, 'validate', '-f', folder), {
    code: 0,
    stdout: '1 object is valid\n',
    stderr: '',
  });
  await writeFile(join(folder, 'sub', 'bad.yaml'), manifest('bad', '  hostnme: x\n'));
  const bad = await bulkhead(nowhere, 'validate', '-f', folder);
  assert.equal(bad.code, 2);
  assert.match(bad.stderr, /bad\.yaml:6:\d+: document 1: spec\.hostnme: .*hostname/);
});

test('diff tells same, different and failed by its exit code', async () => {
  await using harness = await startHarness();
  const { socketPath, dir } = harness;
  const [old, latest] = [join(dir, 'old.yaml'), join(dir, 'new.yaml')];
  await writeFile(old, manifest('a'));
  await writeFile(latest, manifest('a', '  hostname: x\n'));
  await bulkhead(socketPath, 'apply', '-f', old);
  assert.deepEqual(await bulkhead(socketPath, 'diff', '-f', old), { code: 0, stdout: '', stderr: '' });
  const changed = await bulkhead(socketPath, 'diff', '-f', latest);
  assert.equal(changed.code, 1);
  assert.match(changed.stdout, /Sandbox default\/a differs:\n {2}\+ spec\.hostname: "x"/);
  const nowhere = join(dir, 'none.sock');
  assert.equal((await bulkhead(nowhere, 'diff', '-f', latest)).code, 2);
  assert.equal((await bulkhead(nowhere, 'diff', '-f', latest, '--against', old)).code, 1);
  assert.equal((await bulkhead(nowhere, 'diff', '-f', latest, '--against', latest)).code, 0);
});

test('edit saves what the editor wrote, and nothing when it wrote nothing', async () => {
  await using harness = await startHarness();
  const { socketPath, dir, client } = harness;
  await create(harness, 'a');
  const edit = (editor: string) =>
    start(socketPath, ['edit', 'sbx', 'a'], { env: { EDITOR: editor } }).result;
  assert.match((await edit('true')).stdout, /without changes/);
  const script = join(dir, 'editor.sh');
  await writeFile(script, '#!/bin/sh\nsed -i "s/restartPolicy: Never/restartPolicy: Always/" "$1"\n');
  await chmod(script, 0o755);
  assert.equal((await edit(script)).stdout, 'sandbox.bulkhead.dev/a edited\n');
  const { spec } = await client.get(SANDBOX_KIND, 'default', 'a');
  assert.equal((spec as { restartPolicy: string }).restartPolicy, 'Always');
  await writeFile(script, '#!/bin/sh\nsed -i "s/restartPolicy: Always/restartPolicy: Perhaps/" "$1"\n');
  const refused = await edit(script);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /restartPolicy/);
});

test('describe shows spec, status, conditions and events', async () => {
  await using harness = await startHarness();
  const { socketPath, store } = harness;
  const { metadata } = await create(harness, 'a');
  await store.updateStatus(
    { ...KEY, name: 'a' },
    {
      phase: 'Running',
      conditions: [condition('Ready'), condition('Booted')],
      vm: {
        startStages: [
          { name: 'spawn', milliseconds: 30 },
          { name: 'kernel', milliseconds: 400 },
        ],
      },
    },
  );
  await store.recordEvent({
    regarding: { ...KEY, name: 'a', uid: metadata.uid },
    type: 'Warning',
    reason: 'BackOff',
    message: 'waits\u001b[31m',
  });
  const { stdout, code } = await bulkhead(socketPath, 'describe', 'sbx', 'a');
  assert.equal(code, 0);
  for (const expected of [
    /Name: +a\n/,
    /image: docker/,
    /phase: Running/,
    /spawn +30ms +30ms\n +kernel +400ms +430ms/,
    /Booted +True/,
    /Ready +True/,
    /BackOff/,
  ]) {
    assert.match(stdout, expected);
  }
  assert.ok(!stdout.includes('\u001b'), 'control characters are shown, not sent');
  const events = await bulkhead(socketPath, 'events', 'sbx/a');
  assert.match(events.stdout, /Warning +BackOff +sandbox\/a/);
});

test('images are pulled, loaded, listed, saved, removed and pruned', async () => {
  await using harness = await startHarness();
  const { socketPath, images } = harness;
  const image = (...args: string[]) => bulkhead(socketPath, 'image', ...args);
  assert.match((await image('pull', 'busybox:1')).stdout, /^busybox:1@sha256:/);
  const missing = await image('pull', 'missing:1');
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /missing:1: not found/);
  assert.match((await image('pull', 'broken:1')).stderr, /broken layer/);
  const loaded = await start(socketPath, ['image', 'load', '-'], { input: 'archive bytes' }).result;
  assert.match(loaded.stdout, /^loaded:latest@/);
  assert.deepEqual(images.loads, ['archive bytes']);
  assert.match((await image('ls')).stdout, /busybox:1/);
  assert.equal((await image('save', 'busybox:1')).stdout, 'archive of busybox:1');
  assert.equal((await image('rm', 'busybox:1')).code, 0);
  assert.equal((await image('rm', 'busybox:1')).code, 1);
  assert.match((await image('prune')).stdout, /^loaded:latest removed\nFreed/);
});

test('top shows what running sandboxes use', async () => {
  await using harness = await startHarness();
  await create(harness, 'a');
  await create(harness, 'stopped');
  harness.sandboxes.stopped.add('stopped');
  const { stdout } = await bulkhead(harness.socketPath, 'top');
  assert.match(stdout, /^a +0m +64MiB +512MiB/m);
  assert.match(stdout, /^Together: 1 sandbox, CPU 0m, memory 64MiB$/m);
  assert.doesNotMatch(stdout, /stopped/);
});

test('top goes on until it is told to stop', async () => {
  await using harness = await startHarness();
  for (const name of ['b', 'a']) await create(harness, name);
  const watching = start(harness.socketPath, ['top', '--watch', '--sort', 'name', '--no-headers']);
  await watching.printed('a ');
  harness.sandboxes.stopped.add('a');
  harness.sandboxes.stopped.add('b');
  await create(harness, 'c');
  await watching.printed('c ');
  watching.child.kill('SIGINT');
  const { code, stdout } = await watching.result;
  assert.equal(code, 0);
  assert.match(stdout, /^a .*\nb .*\n/);
});

test('status says on one page what runs and what does not', async () => {
  await using harness = await startHarness();
  const { socketPath, store } = harness;
  await create(harness, 'a');
  await create(harness, 'b');
  await store.updateStatus({ ...KEY, name: 'a' }, { phase: 'Running', conditions: [condition('Ready')] });
  await store.updateStatus(
    { ...KEY, name: 'b' },
    { phase: 'Pending', conditions: [condition('Ready', 'False', 'ImageNotFound', 'no such image')] },
  );
  const { stdout, code } = await bulkhead(socketPath, 'status');
  assert.equal(code, 0);
  assert.match(stdout, /Sandboxes +2: 1 Running, 1 Pending/);
  assert.match(stdout, /sandbox default\/b: Pending, ImageNotFound: no such image/);
  const without = await bulkhead(join(harness.dir, 'none.sock'), 'status');
  assert.equal(without.code, 1);
  assert.match(without.stderr, /no daemon runs/);
});

test('doctor works with and without a daemon', async () => {
  await using harness = await startHarness();
  const report = async (socket: string) => {
    const { stdout } = await bulkhead(socket, 'doctor', '-o', 'json');
    return (JSON.parse(stdout) as { checks: { name: string; status: string }[] }).checks;
  };
  const withDaemon = await report(harness.socketPath);
  assert.equal(withDaemon.find(({ name }) => name === 'driver')?.status, 'ok');
  const without = await report(join(harness.dir, 'none.sock'));
  assert.equal(without.find(({ name }) => name === 'daemon')?.status, 'warn');
  assert.ok(without.some(({ name }) => name === 'cgroups'));
});

test('options without a command are a usage error, --help is not', async () => {
  const socketPath = '/nonexistent/bulkhead.sock';
  for (const options of [['--nope'], ['-n', 'default']]) {
    const result = await bulkhead(socketPath, ...options);
    assert.equal(result.code, 2, options.join(' '));
    assert.match(result.stderr, /needs a command/);
  }
  assert.equal((await bulkhead(socketPath, '--help')).code, 0);
});

test('without a daemon commands say so at once', async () => {
  const result = await bulkhead('/nonexistent/bulkhead.sock', 'get', 'sbx');
  assert.equal(result.code, 1);
  assert.match(result.stderr, /no daemon runs: there is no socket/);
  assert.equal((await bulkhead('/nonexistent/bulkhead.sock', 'exec', 'a', 'true')).code, 125);
  const version = await bulkhead('/nonexistent/bulkhead.sock', 'version');
  assert.equal(version.code, 1);
  assert.match(version.stdout, /^Client: \d/);
});

test('completion scripts are valid; that of bash completes names of sandboxes as the daemon has them', async () => {
  await using harness = await startHarness();
  const { client, socketPath } = harness;
  for (const name of ['completed-a', 'completed-b'])
    await client.create(SANDBOX_KIND, 'completion', sandboxDocument(name));
  const { stdout } = await bulkhead('/nonexistent', 'completion', 'bash');
  const complete = async (...words: string[]) => {
    const script = `${stdout}\nCOMP_WORDS=(bulkhead "$@"); COMP_CWORD=$#; _bulkhead; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const env = environment(socketPath, { PATH: `${dirname(BULKHEAD)}:${process.env.PATH}` });
    const result = await promisify(execFile)('bash', ['-c', script, 'bash', ...words], { env });
    assert.equal(result.stderr, '');
    return result.stdout.split('\n').filter(Boolean);
  };
  assert.deepEqual(await complete('-n', 'completion', 'exec', 'comp'), ['completed-a', 'completed-b']);
  assert.deepEqual(await complete('-n', 'completion', 'cp', 'completed-b'), ['completed-b:']);
  assert.deepEqual(await complete('appl'), ['apply']);
  assert.deepEqual(await bulkhead('/nonexistent', 'completion', 'query', '--', 'exec', ''), {
    ...{ code: 0, stdout: '', stderr: '' },
  });
  assert.match((await bulkhead('/nonexistent', 'completion', 'zsh')).stdout, /^#compdef bulkhead/);
  assert.match((await bulkhead('/nonexistent', 'completion', 'fish')).stdout, /complete -c bulkhead/);
});

const MISTAKES: { args: string[]; code: number; stderr: RegExp }[] = [
  {
    args: ['apply', '-f', '/no/such.yaml'],
    code: 2,
    stderr: /^error: \/no\/such\.yaml: no such file or folder\n$/,
  },
  { args: ['apply'], code: 2, stderr: /^error: say which files, with -f\n$/ },
  {
    args: ['validate', '/no/such.yaml'],
    code: 2,
    stderr: /^error: \/no\/such\.yaml: no such file or folder\n$/,
  },
  {
    args: ['image', 'load', '/no/such.tar'],
    code: 2,
    stderr: /^error: \/no\/such\.tar: no such file or folder\n$/,
  },
  { args: ['image', 'rm', 'absent:1'], code: 1, stderr: /absent:1 .*\n`bulkhead image ls` lists/ },
  { args: ['logs', 'absent'], code: 1, stderr: /^error: sandboxes\.bulkhead\.dev "absent" not found\n/ },
  {
    args: ['describe', 'sandbox', 'absent'],
    code: 1,
    stderr: /^error: sandboxes\.bulkhead\.dev "absent" not found\n/,
  },
  { args: ['daemon', '--registry-mirror', 'docker.io'], code: 2, stderr: /expected REGISTRY=URL/ },
  {
    args: ['daemon', '--registry-mirror', 'docker.io=https://m.example/path'],
    code: 2,
    stderr: /without a path/,
  },
  {
    args: ['daemon', '--plain-http-registry', 'http://r.example'],
    code: 2,
    stderr: /expected HOST or HOST:PORT/,
  },
  {
    args: ['daemon', '--registry-ca', '/no/such.pem'],
    code: 2,
    stderr: /\/no\/such\.pem: no such file or folder/,
  },
  { args: ['daemon', '--registry-ca', '/dev/null'], code: 2, stderr: /holds no PEM certificate/ },
];

test('mistakes of users are told in one line, with the way out and the exit code', async () => {
  await using harness = await startHarness();
  for (const { args, code, stderr } of MISTAKES) {
    const result = await bulkhead(harness.socketPath, ...args);
    assert.equal(result.code, code, args.join(' '));
    assert.match(result.stderr, stderr);
    assert.equal(result.stdout, '');
  }
});

test('validate takes paths with and without -f', async () => {
  await using harness = await startHarness();
  const [a, b] = [join(harness.dir, 'a.yaml'), join(harness.dir, 'b.yaml')];
  await writeFile(a, manifest('a'));
  await writeFile(b, manifest('b'));
  const { stdout } = await bulkhead(harness.socketPath, 'validate', a, '-f', b);
  assert.equal(stdout, '2 objects are valid\n');
});

test('events -w shows what happens as it happens, of what was asked for', async () => {
  await using harness = await startHarness();
  const record = (name: string, reason: string, type: 'Normal' | 'Warning' = 'Normal') =>
    harness.store.recordEvent({
      ...{
        regarding: { kind: 'Sandbox', namespace: 'default', name, uid: name },
        type,
        reason,
        message: 'm',
      },
    });
  await record('a', 'Earlier');
  const events = start(harness.socketPath, ['events', 'sbx/a', '-w']);
  await events.printed('Earlier');
  await record('b', 'Foreign');
  await record('a', 'Later', 'Warning');
  await events.printed('Later');
  events.child.kill('SIGINT');
  const { code, stdout } = await events.result;
  assert.equal(code, 0);
  assert.doesNotMatch(stdout, /Foreign/);
  assert.equal(stdout.match(/Earlier/g)?.length, 1);
});

test('an endpoint for traces that is none, or shows credentials to everybody, is refused', async () => {
  for (const [url, why] of [
    ['ftp://127.0.0.1', /http or https/],
    ['nowhere', /http or https/],
    ['http://me:secret@127.0.0.1:4318', /OTEL_EXPORTER_OTLP_HEADERS/],
  ] as const) {
    const { code, stderr } = await bulkhead('/nonexistent', 'daemon', '--trace-endpoint', url);
    assert.equal(code, 2, url);
    assert.match(stderr, why);
  }
});
