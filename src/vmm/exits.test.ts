import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeExit, type ExitEvidence } from './exits.ts';
import type { ExitRecord } from './records.ts';

const record: ExitRecord = { oomKilled: false, asked: false, cpuSeconds: 1, finishedAtMs: 1000 };
const decode = (fields: Partial<ExitRecord> | undefined, evidence: Partial<ExitEvidence> = {}) =>
  decodeExit({
    record: fields && { ...record, ...fields },
    consoleTail: '',
    vmmLogTail: '',
    hostRestarted: false,
    now: new Date(5000),
    ...evidence,
  });

test('status 0 without any other sign is a clean end', () => {
  assert.equal(decode({ exitCode: 0 }).kind, 'clean');
});

test('a kernel panic on the console makes status 0 a crash with its reason', () => {
  const exit = decode({ exitCode: 0 }, { consoleTail: 'x\n[ 1.0] Kernel panic - not syncing: sysrq\nmore' });
  assert.equal(exit.kind, 'crashed');
  assert.match(exit.message, /panicked: sysrq/);
});

test("QEMU's status 0 after a signal is a kill", () => {
  const exit = decode({ exitCode: 0 }, { vmmLogTail: 'qemu: terminating on signal 15 from pid 7\n' });
  assert.deepEqual([exit.kind, exit.signal], ['killed', 'SIGTERM']);
});

test('the memory limit is named when it killed the VMM', () => {
  const exit = decode({ signal: 9, oomKilled: true });
  assert.deepEqual([exit.kind, exit.oomKilled], ['crashed', true]);
  assert.match(exit.message, /memory limit/);
});

test('SIGKILL is a kill, SIGSYS and SIGSEGV are crashes with the last words', () => {
  assert.equal(decode({ signal: 9 }).kind, 'killed');
  assert.match(decode({ signal: 31 }, { vmmLogTail: 'bad call\n' }).message, /SIGSYS: bad call/);
  assert.equal(decode({ signal: 11 }).kind, 'crashed');
});

test('another status is a crash with the last line of the log', () => {
  const exit = decode({ exitCode: 1 }, { vmmLogTail: 'first\nno such device\n' });
  assert.deepEqual([exit.kind, exit.exitCode], ['crashed', 1]);
  assert.match(exit.message, /no such device/);
});

test('without a record it is lost, and a restart of the host is told apart', () => {
  assert.match(decode(undefined).message, /killed/);
  assert.match(decode(undefined, { hostRestarted: true }).message, /restarted/);
  assert.equal(decode(undefined).kind, 'lost');
});

test('control characters of the console do not get into messages', () => {
  const exit = decode({ exitCode: 1 }, { consoleTail: '\u001b[2J\u0007evil' });
  assert.equal(exit.message, 'The VMM exited with 1: [2Jevil');
});

test('a TAP that libkrun does not get is told apart from other panics, and the note of Rust is no last word', () => {
  const panic = (error: string) =>
    decode(
      { signal: 6 },
      {
        vmmLogTail: `thread 'fc_vcpu 0' panicked at worker.rs:96:14:\ncalled \`Result::unwrap()\` on an \`Err\` value: ${error}\nnote: run with \`RUST_BACKTRACE=1\` environment variable to display a backtrace\n`,
      },
    ).message;
  assert.match(panic('TunSetIff(Os { code: 1 })'), /did not get its TAP and died of SIGABRT: .*TunSetIff/);
  assert.match(panic('Full'), /^The VMM died of SIGABRT: called .* value: Full$/);
});
