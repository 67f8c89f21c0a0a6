// Commands with a terminal, from the command line down to the guest: they end when their command ends.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { BUILTIN_IMAGE, READY_TIMEOUT, sandboxYaml, TestDaemon } from './daemon-harness.ts';

/** Far more than a command takes on a loaded machine; what hangs is ended and fails by its exit code. */
const HANG_TIMEOUT = '120s';

let daemon: TestDaemon;

before(async () => {
  daemon = await TestDaemon.start();
  await daemon.write('box.yaml', sandboxYaml('box'));
  await daemon.waitReady('box');
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
});

const LIMITED = ['--timeout', HANG_TIMEOUT];

test("exec -t prints what the command wrote and ends with the command's code", async () => {
  const { code, stdout } = await daemon.cli(
    ...['exec', ...LIMITED, '-t', 'box', '--', 'sh', '-c', 'echo x; echo y >&2; exit 3'],
  );
  assert.equal(code, 3);
  assert.equal(stdout, 'x\r\ny\r\n');
});

test('exec -t ends with a command that leaves a process behind on its terminal', async () => {
  const { code, stdout } = await daemon.cli(
    ...['exec', ...LIMITED, '-t', 'box', '--', 'sh', '-c', 'trap "" HUP; sleep 1000 & echo left; exit 4'],
  );
  assert.equal(code, 4);
  assert.equal(stdout, 'left\r\n');
});

test('exec -it on a real terminal returns from exit', {
  skip: spawnSync('script', ['--version']).status === 0 ? false : 'needs script(1)',
}, async () => {
  const output = await daemon.onTerminal(
    ['exec', ...LIMITED, '-it', 'box', '--', 'sh'],
    'echo $((6 * 7))\nexit 5\n',
  );
  assert.match(output.stdout, /42/);
  assert.equal(output.code, 5);
});

test('exec goes on when the daemon is killed: what is typed meanwhile arrives, and the code comes back', async () => {
  const script = 'echo one; read word; echo "$word"; exit 7';
  const child = daemon.spawnCli('exec', ...LIMITED, '-i', 'box', '--', 'sh', '-c', script);
  const ended = once(child, 'close') as Promise<[number]>;
  const output: Buffer[] = [];
  const begun = once(child.stdout ?? child, 'data');
  child.stdout?.on('data', (piece: Buffer) => output.push(piece));
  await begun;
  await daemon.crash();
  child.stdin?.end('two\n');
  await daemon.launch();
  const [code] = await ended;
  assert.equal(Buffer.concat(output).toString(), 'one\ntwo\n');
  assert.equal(code, 7);
});

test("run -t ends with the command's code and removes its sandbox", async () => {
  const { code, stdout } = await daemon.cli(
    ...['run', '-t', '--name', 'brief', '-m', '128Mi', '--disk', '256Mi', '--timeout', READY_TIMEOUT],
    ...[BUILTIN_IMAGE, '--', 'sh', '-c', 'echo x; exit 3'],
  );
  assert.equal(code, 3);
  assert.equal(stdout, 'x\r\n');
  await daemon.waitGone('brief');
});
