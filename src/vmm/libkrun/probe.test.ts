import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { KvmProbe, type KvmProbeOptions } from './probe.ts';
import type { TrialOutcome, Verdict } from './verdict.ts';

const HELLO: TrialOutcome = { kind: 'hello', kernelRelease: '6.1', milliseconds: 300 };
const SILENT: TrialOutcome = { kind: 'silent', milliseconds: 60_000, vmmLog: '', consoleTail: '' };
const MISSING: Verdict = { fault: 'no-device', message: 'no device' };
const HOUR_MS = 3_600_000;

let dir: string;
let now: number;
let trials: number;
let outcome: TrialOutcome;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bulkhead-probe-'));
  now = 1_000_000;
  trials = 0;
  outcome = HELLO;
});
afterEach(() => rmSync(dir, { recursive: true }));

/** As the next daemon on this host has it: the same file, another object. */
function probe(overrides: Partial<KvmProbeOptions> = {}): KvmProbe {
  return new KvmProbe({
    path: join(dir, 'kvm.json'),
    precheck: async () => undefined,
    fingerprint: async () => 'boot 1',
    trial: async () => {
      trials++;
      return outcome;
    },
    now: () => now,
    ...overrides,
  });
}
const result = (of: KvmProbe) => of.result(new AbortController().signal);

test('what is missing is said without a trial, and looked for each time', async () => {
  let missing: Verdict | undefined = MISSING;
  const tried = probe({ precheck: async () => missing });
  assert.deepEqual(await result(tried), { usable: false, message: 'no device' });
  assert.equal(trials, 0);
  missing = undefined;
  assert.equal((await result(tried)).usable, true);
  missing = MISSING;
  assert.equal((await result(tried)).usable, false);
});

test('one trial serves all who ask, and every daemon until the host boots again', async () => {
  const tried = probe();
  const results = await Promise.all([result(tried), result(tried), result(tried)]);
  for (const each of results)
    assert.deepEqual(each, { usable: true, message: results[0]?.message, version: '6.1' });
  now += 1000 * HOUR_MS;
  assert.deepEqual(await result(probe()), results[0]);
  assert.equal(trials, 1);
  await result(probe({ fingerprint: async () => 'boot 2' }));
  assert.equal(trials, 2);
});

test('a verdict against the host is kept for an hour', async () => {
  outcome = SILENT;
  assert.equal((await result(probe())).usable, false);
  now += HOUR_MS - 1;
  assert.equal((await result(probe())).usable, false);
  assert.equal(trials, 1);
  outcome = HELLO;
  now += 1;
  assert.equal((await result(probe())).usable, true);
  assert.equal(trials, 2);
});

test('after a suspicious failure the host is tried again, at most once a minute', async () => {
  const tried = probe();
  await result(tried);
  tried.suspect();
  await result(tried);
  assert.equal(trials, 1, 'the verdict is younger than a minute');
  now += 60_000;
  await result(tried);
  assert.equal(trials, 2);
  await result(tried);
  assert.equal(trials, 2, 'the new verdict is trusted again');
  tried.suspect();
  now += 60_000;
  outcome = SILENT;
  assert.equal((await result(tried)).usable, false);
});

test('a clock that was set back and a damaged file lead to a new trial', async () => {
  await result(probe());
  now -= 10;
  await result(probe());
  assert.equal(trials, 2);
  writeFileSync(join(dir, 'kvm.json'), readFileSync(join(dir, 'kvm.json'), 'utf8').slice(0, 20));
  await result(probe());
  assert.equal(trials, 3);
});

test('who gives up waiting does not end the trial of the others', async () => {
  const trial = Promise.withResolvers<TrialOutcome>();
  const tried = probe({ trial: () => trial.promise });
  const impatient = new AbortController();
  const waits = tried.result(impatient.signal);
  const others = result(tried);
  impatient.abort();
  await assert.rejects(waits);
  trial.resolve(HELLO);
  assert.equal((await others).usable, true);
});

test('closing ends a trial that runs', async () => {
  const started = Promise.withResolvers<void>();
  const tried = probe({
    trial: (signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('closed')));
        started.resolve();
      }),
  });
  const waits = assert.rejects(result(tried), /closed/);
  await started.promise;
  await tried.close();
  await waits;
});
