import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmExit } from '../driver.ts';
import { judgeTrial, NO_DEVICE, noLibrary, type TrialOutcome } from './verdict.ts';

const exit = (fields: Partial<VmExit>): VmExit => ({
  kind: 'crashed',
  message: 'The guest shut itself down.',
  finishedAt: new Date(0),
  ...fields,
});
const ended = (vmmLog: string, fields: Partial<VmExit>): TrialOutcome => ({
  kind: 'ended',
  exit: exit(fields),
  vmmLog,
});

test('a hello is a verdict in favour, with the kernel that answered', () => {
  const verdict = judgeTrial({ kind: 'hello', kernelRelease: '6.1.0-guest', milliseconds: 812.4 });
  assert.deepEqual([verdict.fault, verdict.version], [undefined, '6.1.0-guest']);
  assert.match(verdict.message, /after 812 ms/);
});

test('each failure is told apart and says what to do', () => {
  const cases: [string, TrialOutcome, RegExp][] = [
    [
      'old-library',
      ended(
        'bulkhead-krun: libkrun 1.19 or later with blk and net is needed: /libkrun.so has no krun_init_log\n',
        {
          exitCode: 70,
        },
      ),
      /install libkrun 1\.19 or later/,
    ],
    [
      'no-permission',
      ended('bulkhead-krun: start: Error creating the Kvm object: Error(13): Permission denied\n', {
        signal: 'SIGABRT',
      }),
      /--device \/dev\/kvm/,
    ],
    [
      'vmm-failed',
      ended('bulkhead-krun: start of the machine: Invalid argument\n', { exitCode: 70 }),
      /Invalid argument.*nested/,
    ],
    ['guest-died', ended('', { exitCode: 0, kind: 'clean' }), /died before it answered.*nested/],
    [
      'guest-died',
      ended('', { signal: 'SIGABRT', message: 'The VMM died of SIGABRT.' }),
      /SIGABRT.*bare metal/,
    ],
    [
      'no-hello',
      { kind: 'silent', milliseconds: 60_000, vmmLog: '', consoleTail: '[0.1] \u001b[31mBUG: soft lockup\n' },
      /within 60 s \(\[0\.1\] \[31mBUG: soft lockup\)/,
    ],
    ['host', { kind: 'failed', message: 'no space left' }, /could not be started: no space left/],
  ];
  for (const [fault, outcome, words] of cases) {
    const verdict = judgeTrial(outcome);
    assert.equal(verdict.fault, fault, verdict.message);
    assert.match(verdict.message, words);
  }
});

test('what is missing before any trial says what to do, too', () => {
  assert.match(NO_DEVICE.message, /nested virtualisation/);
  assert.match(noLibrary('/build/libkrun.so').message, /make build/);
});
