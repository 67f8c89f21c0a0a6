// The programs in examples/, with Python and curl in a real VM and a world of servers.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runJob } from '../../examples/ci-runner.ts';
import { CodeInterpreter } from '../../examples/code-interpreter.ts';
import { configure } from '../../src/sdk/index.ts';
import { pythonImage } from '../fixtures/images.ts';
import { TestDaemon } from './daemon-harness.ts';
import { NetworkWorld, WORLD } from './network-world.ts';

/** Debian with Python and curl. */
const IMAGE = 'clients.local/debian:test';
const LIMITED = { timeout: 300_000 };

let world: NetworkWorld;
let daemon: TestDaemon;
let dir: string;

before(async () => {
  world = await NetworkWorld.open();
  daemon = await TestDaemon.start({ prefix: world.prefix });
  await daemon.ok('image', 'load', await pythonImage(), '--reference', IMAGE);
  // The world's names are told by a server of its own.
  await daemon.write(
    'dns.yaml',
    `apiVersion: bulkhead.dev/v1alpha1
kind: NetworkPolicy
metadata: {name: world}
spec: {egress: {mode: AllowAll}, dns: {nameservers: ["${WORLD.dns}"]}}
`,
  );
  await daemon.ok('wait', 'networkpolicy/world', '--for=condition=Accepted', '--timeout', '60s');
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-examples-'));
  configure({ socketPath: daemon.socket });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

test(
  'the code interpreter: files in, Python out, what one call leaves is there for the next, no network',
  LIMITED,
  async () => {
    await using interpreter = await CodeInterpreter.start(IMAGE);
    const first = await interpreter.run({
      language: 'python',
      code: 'numbers = [int(line) for line in open("numbers.txt")]\nopen("sum.txt", "w").write(str(sum(numbers)))\nprint(len(numbers))',
      files: { 'numbers.txt': '1\n2\n39\n' },
    });
    assert.deepEqual([first.exitCode, first.stdout, first.stderr], [0, '3\n', '']);
    assert.deepEqual(Object.keys(first.files), ['sum.txt']);
    assert.equal(Buffer.from(first.files['sum.txt'] ?? []).toString(), '42');

    const second = await interpreter.run({ language: 'sh', code: 'cat sum.txt; echo oops >&2; exit 3' });
    assert.deepEqual([second.exitCode, second.stdout, second.stderr, second.files], [3, '42', 'oops\n', {}]);

    const late = await interpreter.run({ language: 'python', code: 'while True: pass', timeoutMs: 1_000 });
    assert.deepEqual([late.exitCode, late.problem], [-1, 'it ran for over 1000 ms']);
    const loud = await interpreter.run({ language: 'sh', code: 'cat /dev/zero' });
    assert.match(loud.problem ?? '', /printed more than/);

    const away = await interpreter.run({
      language: 'sh',
      code: `curl -sS -k -m 20 https://secure.example.com:8443/ || curl -sS -m 20 http://${WORLD.allowed}:8080/ || echo closed`,
    });
    assert.equal(away.stdout, 'closed\n');
  },
);

test(
  'the CI runner: steps until one fails, artifacts out, one host with a token that the job never sees',
  LIMITED,
  async () => {
    const checkout = join(dir, 'checkout');
    await mkdir(checkout);
    await writeFile(
      join(checkout, 'build.sh'),
      'echo building; mkdir -p out; echo artifact > out/result.txt\n',
    );
    const output: string[] = [];
    const ask = (host: string) =>
      `curl -sS -m 60 -H "Authorization: Bearer $DEPLOY_TOKEN" https://${host}:8443/ > out/${host}.json`;
    const result = await runJob({
      image: IMAGE,
      checkout,
      steps: [
        'sh build.sh',
        'echo "token: $DEPLOY_TOKEN"',
        ask('secure.example.com'),
        ask('elsewhere.example.com'),
        'echo never',
      ],
      host: { name: 'secure.example.com', port: 8443, variable: 'DEPLOY_TOKEN', token: 'the-real-token' },
      artifacts: ['out', 'none'],
      artifactsDir: join(dir, 'artifacts'),
      tls: { interceptedPorts: [8443], upstreamCaCert: [world.authority] },
      onOutput: (step, stream, data) => output.push(`${step} ${stream} ${data}`),
    });
    const said = output.join('');
    assert.equal(result.success, false);
    assert.deepEqual(result.codes.slice(0, 3), [0, 0, 0], said);
    assert.equal(
      result.codes.length,
      4,
      'the host that is not allowed fails its step, and nothing runs after it',
    );
    assert.match(said, /0 stdout building/);
    assert.match(said, /1 stdout token: \S+/);
    assert.doesNotMatch(said, /the-real-token|never/);
    const out = join(dir, 'artifacts', 'out');
    assert.deepEqual(result.artifacts, [out]);
    assert.equal(await readFile(join(out, 'result.txt'), 'utf8'), 'artifact\n');
    // The server tells what it was asked with.
    const answer = JSON.parse(await readFile(join(out, 'secure.example.com.json'), 'utf8'));
    assert.equal(answer.headers.authorization, 'Bearer the-real-token');
    assert.equal(await readFile(join(out, 'elsewhere.example.com.json'), 'utf8'), '');
  },
);
