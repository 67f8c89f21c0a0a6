// One pass over what users see of a sandbox, the same for each driver: the expected values below know of no driver. It
// talks to the daemon from this process, because starting a command line takes many seconds where Node is slow.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as passTime } from 'node:timers/promises';
import { SANDBOX_KIND } from '../../src/api/kinds.ts';
import type { StoredObject } from '../../src/api/meta.ts';
import { BulkheadClient } from '../../src/client/client.ts';
import { followObjects } from '../../src/client/follow.ts';
import { configure, Sandbox } from '../../src/sdk/index.ts';
import { hostResources, type SandboxStatusView, sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { TEST_DRIVER } from './test-driver.ts';

/** Prints 1, 2, 3 ... for ever: a gap or a repeat in the log is lost or repeated output. */
const COUNTER = { command: ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'] };

/** Of the counter: more than it prints between the death of a daemon and its successor's first look. */
const LINES_OVER_A_RESTART = 100;
const LOG_POLL_MS = 500;

/** Conditions of a sandbox that runs: type, status, reason. */
const RUNNING = [
  ['AgentConnected', 'True', 'Connected'],
  ['Booted', 'True', 'Booted'],
  ['ImageReady', 'True', 'ImagePresent'],
  ['Ready', 'True', 'Ready'],
  ['Scheduled', 'True', 'Scheduled'],
  ['Suspended', 'False', 'NotSuspended'],
  ['VolumesReady', 'True', 'NoVolumes'],
];
/** These, in this order, of a sandbox from its first start to its suspension. */
const EVENTS = ['Started', 'Suspended'];

let daemon: TestDaemon;
let client: BulkheadClient;
let resourcesBefore: ReturnType<typeof hostResources>;
/** Of every sandbox that was seen. */
const uids = new Set<string>();

before(async () => {
  daemon = await TestDaemon.start();
  configure({ socketPath: daemon.socket });
  client = new BulkheadClient({ socketPath: daemon.socket });
  resourcesBefore = hostResources(daemon.stateDir, uids);
});
after(async () => {
  client?.close();
  await daemon?.[Symbol.asyncDispose]();
});

type Seen = StoredObject & { status: SandboxStatusView };

/** The first state of the object that is wanted; over daemons that come and go. */
async function until(name: string, wanted: (object: Seen) => boolean): Promise<Seen> {
  const query = { namespace: 'default', fieldSelector: `metadata.name=${name}` };
  const stop = new AbortController();
  let last: StoredObject | undefined;
  try {
    for await (const change of followObjects(client, SANDBOX_KIND, query, stop.signal)) {
      last = change.type === 'SYNCED' ? change.objects[0] : change.object;
      const object = last as Seen | undefined;
      if (object !== undefined) uids.add(object.metadata.uid);
      if (object?.status?.conditions !== undefined && wanted(object)) return object;
    }
  } finally {
    stop.abort();
  }
  throw new Error(`never as wanted: ${JSON.stringify(last)}`);
}

const holds = (type: string) => (object: Seen) =>
  object.status.conditions.some((each) => each.type === type && each.status === 'True');

async function untilGone(name: string): Promise<void> {
  const stop = new AbortController();
  const query = { namespace: 'default', fieldSelector: `metadata.name=${name}` };
  for await (const change of followObjects(client, SANDBOX_KIND, query, stop.signal)) {
    if (change.type === 'DELETED' || (change.type === 'SYNCED' && change.objects.length === 0)) break;
  }
  stop.abort();
}

const connect = async (name: string) => (await Sandbox.get(name)).connect();
const shown = (conditions: SandboxStatusView['conditions']) =>
  conditions.map(({ type, status, reason }) => [type, status, reason]).toSorted();

async function eventReasons(name: string): Promise<string[]> {
  const events = await client.events({ namespace: 'default' });
  return events.filter(({ involvedObject }) => involvedObject.name === name).map(({ reason }) => reason);
}

test('a file becomes a VM of its own kernel, with the same conditions', async () => {
  await daemon.write('box.yaml', sandboxYaml('box', { env: [{ name: 'MODE', value: 'parity' }] }));
  const { status } = await until('box', holds('Ready'));
  const conditions = shown(status.conditions).filter(([type]) => type !== 'NetworkReady');
  assert.deepEqual(conditions, RUNNING);
  assert.deepEqual([status.phase, status.vm?.driver], ['Running', TEST_DRIVER]);
  const box = await connect('box');
  assert.match((await box.exec('uname', ['-r'])).stdout(), /^6\.1\..*-bulkhead/);
});

test('commands end as in any other machine', async () => {
  const box = await connect('box');
  const codes = await Promise.all(
    ['exit 0', 'exit 3', 'kill -9 $$'].map(async (script) => (await box.shell(script)).code),
  );
  assert.deepEqual(codes, [0, 3, 137]);
  await assert.rejects(box.exec('no-such-command'), { code: 'COMMAND_NOT_FOUND' });
  await assert.rejects(box.exec('/etc'), { code: 'COMMAND_NOT_EXECUTABLE' });
  const input = await box.exec('sh', ['-c', 'cat; echo $MODE >&2'], { stdin: Buffer.from('in') });
  assert.deepEqual([input.stdout(), input.stderr()], ['in', 'parity\n']);
  assert.match((await box.exec('sh', ['-c', 'test -t 0 && tty'], { tty: true })).stdout(), /^\/dev\/pts\//);
  await box.fs().write('/root/kept', 'kept');
});

test('the machine has what was asked for, and its figures have the same names', async () => {
  const box = await connect('box');
  const { out, memory } = {
    out: (await box.shell('nproc; df -m / | tail -1')).stdout().split('\n'),
    memory: Number((await box.shell("sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo")).stdout()),
  };
  assert.equal(out[0], '1');
  assert.ok(memory > 90 * 1024 && memory < 128 * 1024, `${memory} KiB of 128 MiB`);
  const { vm, guest } = await client.stats('default', 'box');
  assert.deepEqual(
    Object.entries(vm).filter(([, value]) => !Number.isFinite(value)),
    [],
  );
  assert.ok(vm.cpuSeconds > 0 && vm.memoryBytes > 0 && guest !== undefined);
});

test('suspended and resumed, its disks are kept, and the events tell of it', async () => {
  await daemon.write('box.yaml', sandboxYaml('box', { operatingMode: 'Suspended' }));
  assert.equal((await until('box', holds('Suspended'))).status.phase, 'Suspended');
  const reasons = await eventReasons('box');
  assert.deepEqual(
    EVENTS.filter((reason) => !reasons.includes(reason)),
    [],
    `events: ${reasons.join(', ')}`,
  );
  await daemon.write('box.yaml', sandboxYaml('box'));
  await until('box', holds('Ready'));
  assert.equal(await (await connect('box')).fs().readString('/root/kept'), 'kept');
});

test('a program that ends and one that fails are told apart, with their output and their restarts', async () => {
  const main = (script: string) => ({ main: { command: ['sh', '-c', script] } });
  await daemon.write('good.yaml', sandboxYaml('good', main('echo done')));
  await daemon.write('bad.yaml', sandboxYaml('bad', main('echo no >&2; exit 42')));
  await daemon.write('again.yaml', sandboxYaml('again', { ...main('exit 5'), restartPolicy: 'OnFailure' }));
  const good = await until('good', holds('Finished'));
  const bad = await until('bad', holds('Finished'));
  const again = await until('again', ({ status }) => (status.restarts ?? 0) >= 1);
  assert.deepEqual([good.status.phase, bad.status.phase], ['Succeeded', 'Failed']);
  const end = ({ status }: Seen) => [status.lastTermination?.exitCode, status.lastTermination?.reason];
  assert.deepEqual(
    [end(good), end(bad)],
    [
      [0, 'Completed'],
      [42, 'Error'],
    ],
  );
  assert.deepEqual(end(again), [5, 'Error']);
  const log = await client.logs('default', 'bad');
  const pieces: Buffer[] = [];
  for await (const piece of log as AsyncIterable<Buffer>) pieces.push(piece);
  assert.equal(Buffer.concat(pieces).toString(), 'no\n');
  for (const name of ['good', 'bad', 'again']) await daemon.remove(`${name}.yaml`);
});

test('Ready follows a probe over HTTP, whatever the network of the sandbox is, and a failing one restarts', async () => {
  const server = 'rm -f /dead; mkdir -p /www; echo yes > /www/ok; exec httpd -f -p 8080 -h /www';
  const often = { periodSeconds: 1, timeoutSeconds: 60 };
  await daemon.write(
    'probed.yaml',
    sandboxYaml('probed', {
      main: { command: ['sh', '-c', server] },
      restartPolicy: 'Always',
      readinessProbe: { httpGet: { port: 8080, path: '/ok' }, ...often },
      livenessProbe: { exec: { command: ['test', '!', '-e', '/dead'] }, ...often },
      lifecycle: { postStart: { exec: { command: ['sh', '-c', 'echo hello >> /hooks'] } } },
    }),
  );
  await until('probed', holds('Ready'));
  const probed = await connect('probed');
  await probed.shell('rm /www/ok');
  await until('probed', ({ status }) =>
    status.conditions.some(({ type, reason }) => type === 'Ready' && reason === 'ReadinessProbeFailed'),
  );
  await probed.shell('touch /dead');
  const { status } = await until('probed', ({ status: { restarts = 0 } }) => restarts >= 1);
  assert.equal(status.lastTermination?.reason, 'LivenessProbeFailed');
  await until('probed', holds('Ready'));
  const hooks = await (await connect('probed')).fs().readString('/hooks');
  assert.equal(hooks, 'hello\nhello\n');
  await daemon.remove('probed.yaml');
  await untilGone('probed');
});

test('a VMM that is killed is a crash of that VM, with the true reason', async () => {
  const { status } = await until('box', holds('Ready'));
  process.kill(status.vm?.pid ?? Number.NaN, 'SIGKILL');
  const after = await until('box', holds('Finished'));
  const { reason, signal } = after.status.lastTermination ?? {};
  assert.deepEqual([reason, signal], ['VmCrashed', 'SIGKILL']);
});

test('a daemon that is killed leaves its VMs running, and the next one takes them up', async () => {
  await daemon.write('steady.yaml', sandboxYaml('steady', { main: COUNTER }));
  const { status } = await until('steady', holds('Ready'));
  await daemon.crash();
  assert.equal(process.kill(status.vm?.pid ?? Number.NaN, 0), true);
  await daemon.launch();
  const after = await until('steady', holds('Ready'));
  assert.deepEqual(
    [after.status.vm?.pid, after.status.vm?.startedAt, after.status.restarts ?? 0],
    [status.vm?.pid, status.vm?.startedAt, 0],
  );
  // A daemon that has not taken the VM up yet has nothing to follow, so it is asked again.
  let text = '';
  while (text.split('\n').length <= LINES_OVER_A_RESTART) {
    const pieces: Buffer[] = [];
    const log = await client.logs('default', 'steady');
    for await (const piece of log as AsyncIterable<Buffer>) pieces.push(piece);
    text = Buffer.concat(pieces).toString();
    await passTime(LOG_POLL_MS);
  }
  const numbers = text.split('\n').slice(0, LINES_OVER_A_RESTART).map(Number);
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => index + 1),
  );
});

test('what cannot be is refused in the same words', async () => {
  const document = JSON.parse(sandboxYaml('wrong', { idleTimeoutSeconds: 5, hostname: 'UPPER' })) as unknown;
  await assert.rejects(client.create(SANDBOX_KIND, 'default', document), (error: Error) => {
    assert.match(error.message, /spec\.hostname/);
    return true;
  });
});

test('deleted, nothing of them is left', async () => {
  await daemon.write('keep.yaml', sandboxYaml('keep', { operatingMode: 'Suspended' }));
  await until('keep', holds('Suspended'));
  for (const name of ['box', 'steady']) await daemon.remove(`${name}.yaml`);
  for (const name of ['box', 'steady', 'good', 'bad', 'again']) await untilGone(name);
  assert.deepEqual(hostResources(daemon.stateDir, uids), resourcesBefore);
});
