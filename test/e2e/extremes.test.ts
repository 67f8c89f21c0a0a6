// What nobody asks for in earnest: thousands of documents at once, values of a megabyte, times far away, more memory than
// there is. Each is either done or refused with a message that says what to change, and hangs nothing.
import assert from 'node:assert/strict';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { condition, eventually, until } from './daemon-observations.ts';

const DOCUMENTS = process.env.BULKHEAD_SOAK === '1' ? 5_000 : 1_000;
/** What one argument or variable of a manifest may have; src/api/sandbox.ts says why. */
const VALUE_MAX = 32_768;
const FAR = { seconds: 2 ** 31 - 1, time: '9999-12-31T23:59:59Z' };

let daemon: TestDaemon;

before(async () => {
  daemon = await TestDaemon.start();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
});

async function apply(name: string, spec: Record<string, unknown>): Promise<{ code: number; stderr: string }> {
  return daemon.cliWithInput(sandboxYaml(name, spec), 'apply', '-f', '-');
}

async function count(): Promise<number> {
  return (await daemon.ok('get', 'sandboxes', '-o', 'name')).split('\n').filter(Boolean).length;
}

test(`${DOCUMENTS} documents in one file are applied, listed, and gone again, by the command and by the folder`, async (t) => {
  const text = Array.from({ length: DOCUMENTS }, (_, i) =>
    sandboxYaml(`many-${i}`, { operatingMode: 'Suspended' }),
  ).join('---\n');
  const file = join(daemon.root, 'many.yaml');
  await writeFile(file, text);
  const timed = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    const began = performance.now();
    const result = await work();
    t.diagnostic(`${what}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
    return result;
  };
  const untilCount = (expected: number): Promise<true> =>
    eventually(
      `${expected} sandboxes`,
      async () => ((await count()) === expected ? true : undefined),
      async () => `${await count()}\n${daemon.log().slice(-2000)}`,
    );

  const applied = await timed('apply', () => daemon.ok('apply', '-f', file));
  assert.equal(applied.trim().split('\n').length, DOCUMENTS);
  await timed('list', () => untilCount(DOCUMENTS));
  await timed('delete', () => daemon.ok('delete', '-f', file));
  assert.equal(await count(), 0);

  await daemon.write('many.yaml', text);
  await timed('from the folder', () => untilCount(DOCUMENTS));
  await daemon.write('many.yaml', sandboxYaml('one', { operatingMode: 'Suspended' }));
  await timed('pruned', () => untilCount(1));
  assert.deepEqual(
    await readdir(join(daemon.stateDir, 'sandboxes')),
    [],
    'suspended ones have nothing there',
  );
});

test('more memory than the host has: InsufficientResources at once, and it runs when it asks for less', async () => {
  const vast = { resources: { cpus: 1, memory: '900Gi', disk: '256Mi' } };
  assert.equal((await apply('vast', vast)).code, 0);
  const { conditions, phase } = await until(
    daemon,
    'vast',
    (status) => condition(status.conditions, 'Stalled')?.reason === 'InsufficientResources',
  );
  assert.equal(phase, 'Pending');
  assert.equal(condition(conditions, 'Scheduled')?.reason, 'Unschedulable');
  assert.match(
    condition(conditions, 'Ready')?.message ?? '',
    /^resources\.memory asks for 900Gi, and this host has \d+Mi\. Ask for less/,
  );
  assert.equal((await apply('vast', {})).code, 0);
  await daemon.waitReady('vast');
  await daemon.ok('delete', 'sandbox', 'vast');
});

test('a disk that is larger than that of the host takes what is written to it alone', async () => {
  assert.equal((await apply('roomy', { resources: { cpus: 1, memory: '128Mi', disk: '10Ti' } })).code, 0);
  await daemon.waitReady('roomy');
  const [, size = ''] = (await daemon.ok('exec', 'roomy', '--', 'df', '-k', '/')).split('\n');
  assert.ok(Number(size.trim().split(/\s+/)[1]) > 9 * 1024 ** 3, size);
  await daemon.ok('exec', 'roomy', '--', 'sh', '-c', 'echo kept > /file && sync && grep kept /file');
  await daemon.ok('delete', 'sandbox', 'roomy');
});

test('long values and NUL are refused with the bound, and what the bound allows arrives whole', async () => {
  const bound = new RegExp(
    `may not be more than ${VALUE_MAX} bytes|at most ${VALUE_MAX} characters, without NUL`,
  );
  for (const value of ['x'.repeat(1_000_000), 'a\0b']) {
    for (const spec of [{ env: [{ name: 'BIG', value }] }, { main: { command: ['echo', value] } }]) {
      const { code, stderr } = await apply('wordy', spec);
      assert.equal(code, 1);
      assert.match(stderr, bound);
      assert.ok(stderr.length < 1_000, 'the value is not repeated');
    }
  }
  const env = Array.from({ length: 16 }, (_, i) => ({
    name: `BIG${i}`,
    value: `${i}`.padEnd(VALUE_MAX, 'x'),
  }));
  assert.equal((await apply('wordy', { env })).code, 0);
  await daemon.waitReady('wordy');
  const whole = await daemon.ok('exec', 'wordy', '--', 'sh', '-c', 'echo $BIG0$BIG15');
  assert.equal(whole, `${env[0]?.value}${env[15]?.value}\n`);

  const allowed = await daemon.ok(
    'exec',
    '-e',
    `A=${'y'.repeat(100_000)}`,
    'wordy',
    '--',
    'sh',
    '-c',
    'echo $A',
  );
  assert.equal(allowed, `${'y'.repeat(100_000)}\n`);
  const many = ['A', 'B', 'C'].flatMap((name) => ['-e', `${name}=${'y'.repeat(100_000)}`]);
  const refused = await daemon.cli('exec', ...many, 'wordy', '--', 'true');
  assert.equal(refused.code, 125);
  assert.match(refused.stderr, /headers have more than 262144 bytes\nMake it smaller/);
  await daemon.ok('delete', 'sandbox', 'wordy');
});

test('times far away are waited for without work, and impossible ones are refused', async () => {
  const far = { shutdownTime: FAR.time, activeDeadlineSeconds: FAR.seconds };
  assert.equal((await apply('patient', far)).code, 0);
  const ended = { main: { command: ['true'] }, ttlSecondsAfterFinished: FAR.seconds };
  assert.equal((await apply('ended', ended)).code, 0);
  await daemon.waitReady('patient');
  await daemon.ok('wait', 'sandbox/ended', '--for=condition=Finished', '--timeout', '180s');

  const reconciles = async (): Promise<number> => {
    const text = await daemon.ok('get', 'sandbox', 'patient', 'ended', '-o', 'json');
    const { items } = JSON.parse(text) as { items: { metadata: { resourceVersion: string } }[] };
    return Math.max(...items.map(({ metadata }) => Number(metadata.resourceVersion)));
  };
  const settled = await reconciles();
  // A timer that Node takes for one of no length would write, or spin, long before these have answered.
  for (let i = 0; i < 5; i++) await daemon.ok('exec', 'patient', '--', 'true');
  assert.equal(await reconciles(), settled);

  for (const spec of [
    { activeDeadlineSeconds: FAR.seconds + 1 },
    { ttlSecondsAfterFinished: Number.MAX_SAFE_INTEGER },
    { shutdownTime: '+275760-09-13T00:00:00Z' },
    { shutdownTime: '10000-01-01T00:00:00Z' },
  ]) {
    const { code, stderr } = await apply('impatient', spec);
    assert.equal(code, 1);
    assert.match(stderr, /less than or equal to 2147483647|expected a time in quotes/);
  }
  await daemon.ok('delete', 'sandbox', 'patient', 'ended');
});
