// Programs that find no daemon and none configured: the SDK starts one for them, which goes when nobody needs it.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { BUILTIN_IMAGE } from './daemon-harness.ts';
import { TEST_DRIVER } from './test-driver.ts';

const run = promisify(execFile);
const PROJECT = join(import.meta.dirname, '..', '..');
const NODE = join(PROJECT, 'node_modules', '.bin', 'node');
const BULKHEAD = join(PROJECT, 'bin', 'bulkhead');
const SDK = join(PROJECT, 'src', 'sdk', 'index.ts');
/** A daemon that is not needed looks for 5 s; attached sandboxes of a program that was killed end within 15 s. */
const GONE_MS = 90_000;

let dir: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-embedded-'));
  await run(NODE, ['tools/builtin-image.ts', join(dir, 'busybox')], { cwd: PROJECT });
});

after(async () => {
  for (const pid of await daemons()) process.kill(pid, 'SIGTERM');
  await waitGone();
  await rm(dir, { recursive: true, force: true });
});

function environment(): NodeJS.ProcessEnv {
  const { BULKHEAD_SOCKET: _socket, ...rest } = process.env;
  return {
    ...rest,
    BULKHEAD_BIN: BULKHEAD,
    BULKHEAD_STATE_DIR: join(dir, 'state'),
    BULKHEAD_DRIVER: TEST_DRIVER,
  };
}

/** Runs a program that knows of no daemon. */
function program(source: string) {
  const head = `
    import * as sdk from ${JSON.stringify(SDK)};
    import { execFileSync } from 'node:child_process';
    const SMALL = { image: ${JSON.stringify(BUILTIN_IMAGE)}, memoryMib: 128, diskMib: 256, pullPolicy: 'never' };
    const load = () => execFileSync(${JSON.stringify(BULKHEAD)}, ['image', 'load', ${JSON.stringify(join(dir, 'busybox'))}]);
  `;
  const stdio = ['ignore', 'pipe', 'inherit'] as ['ignore', 'pipe', 'inherit'];
  return spawn(NODE, ['--input-type=module', '-e', head + source], {
    stdio,
    env: environment(),
  });
}

async function outputOf(child: ReturnType<typeof program>): Promise<string> {
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'close') as Promise<[number]>]);
  assert.equal(code, 0, `${output}\n${await daemonLog()}`);
  return output;
}

const daemonLog = () =>
  readFile(join(dir, 'state', 'bulkhead.sock.log'), 'utf8').catch(() => 'no daemon log');

/** Daemons of this test's state directory. */
async function daemons(): Promise<number[]> {
  const { stdout } = await run('pgrep', ['-f', `daemon --socket ${join(dir, 'state')}`]).catch(() => ({
    stdout: '',
  }));
  return stdout.split('\n').filter(Boolean).map(Number);
}

async function waitGone(): Promise<void> {
  for (const deadline = Date.now() + GONE_MS; Date.now() < deadline; await delay(200))
    if ((await daemons()).length === 0) return;
  assert.fail(`the daemon is still there:\n${(await daemonLog()).slice(-3000)}`);
}

test('two programs that begin at once share one daemon, which ends after them', async () => {
  // Each needs the image; whoever comes second finds it there.
  const source = (name: string) => `
    await sdk.Volume.list();
    load();
    await using box = await sdk.Sandbox.create({ ...SMALL, name: '${name}' });
    console.log((await box.exec('echo', ['${name}'])).stdout());
  `;
  const outputs = ['one', 'two'].map((name) => outputOf(program(source(name))));
  assert.deepEqual(
    (await Promise.all(outputs)).map((each) => each.trim()),
    ['one', 'two'],
  );
  await waitGone();
  assert.equal((await daemonLog()).match(/"msg":"ready"/g)?.length, 1, 'one got the place');
});

test('a detached sandbox keeps the daemon when its program is killed; the next program finds it, and ends both', async () => {
  const first = program(`
    const kept = await sdk.Sandbox.createDetached({ ...SMALL, name: 'kept' });
    await sdk.Sandbox.create({ ...SMALL, name: 'attached' });
    console.log('up');
    setInterval(() => {}, 1000);
  `);
  await once(first.stdout, 'data');
  const [pid] = await daemons();
  first.kill('SIGKILL');
  const second = program(`
    const handle = await sdk.Sandbox.get('kept');
    const box = await handle.connect();
    console.log((await box.exec('echo', ['still here'])).stdout());
    // Until the other one is gone, and for longer than a daemon that is not needed looks.
    while ((await sdk.Sandbox.get('attached')).status !== 'stopped') await new Promise((go) => setTimeout(go, 200));
    await new Promise((go) => setTimeout(go, 10_000));
    await sdk.Sandbox.list();
  `);
  assert.match(await outputOf(second), /still here/);
  assert.deepEqual(await daemons(), [pid], 'it lived for the detached sandbox alone');
  const third = program(`
    const box = await (await sdk.Sandbox.get('kept')).connect();
    await box.removePersisted();
  `);
  await outputOf(third);
  await waitGone();
});

test('a program that calls again long after finds a daemon again', async () => {
  const output = await outputOf(
    program(`
      await sdk.Volume.list();
      await new Promise((go) => setTimeout(go, 9_000));
      await using box = await sdk.Sandbox.create(SMALL);
      console.log((await box.exec('echo', ['again'])).stdout());
    `),
  );
  assert.match(output, /again/);
  await waitGone();
});

test('who is not root is told so, and what to do', async () => {
  const output = await outputOf(
    program(`
      process.setgid(65_534);
      process.setuid(65_534);
      process.env.BULKHEAD_STATE_DIR = '/tmp/nobody-has-this';
      await sdk.Sandbox.create(SMALL).catch((error) => console.log(error.constructor.name, error.message));
    `),
  );
  assert.match(output, /^DaemonUnavailableError .*only root can start one.*BULKHEAD_SOCKET/);
});

test('where a socket is configured, or embedded is off, no daemon is started', async () => {
  const output = await outputOf(
    program(`
      sdk.configure({ embedded: false });
      await sdk.Sandbox.list().catch((error) => console.log(error.code));
      sdk.configure({});
      await sdk.Sandbox.list({ socketPath: '${join(dir, 'none.sock')}' }).catch((error) => console.log(error.code));
    `),
  );
  assert.equal(output, 'DAEMON_UNAVAILABLE\nDAEMON_UNAVAILABLE\n');
  assert.deepEqual(await daemons(), []);
});
