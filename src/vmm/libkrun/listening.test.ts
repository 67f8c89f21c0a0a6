import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { BulkheadError } from '../../api/errors.ts';
import type { VmExit } from '../driver.ts';
import { CONSOLE_LOG, VMM_LOG } from '../records.ts';
import { agentListening, type BootingVm, NotListeningError } from './listening.ts';

const LINE = 'bulkhead agent: listening\n';
const HOUR_MS = 3_600_000;
const STARTED = new Date(Date.now() - 60_000);

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bulkhead-listening-'));
});
afterEach(() => {
  mock.timers.reset();
  rmSync(dir, { recursive: true });
});

function vm(overrides: Partial<BootingVm> = {}): BootingVm {
  return {
    dir,
    startedAt: STARTED,
    exited: new Promise(() => undefined),
    dialAgent: () => Promise.reject(new BulkheadError('AGENT_UNREACHABLE', 'no port')),
    consoleTail: async () => '',
    ...overrides,
  };
}
const writeLog = (name: string, text: string) => writeFileSync(join(dir, name), text);
const waiting = (of: BootingVm, deadlineMs = HOUR_MS, signal = new AbortController().signal) =>
  agentListening(of, deadlineMs, signal);
const openPort = async () => new Duplex({ read: () => undefined, write: () => undefined });

test('the line on the console ends the wait, and nothing is dialled for it', async () => {
  const waits = waiting(vm({ dialAgent: () => assert.fail('dialled') }));
  writeLog(CONSOLE_LOG, 'some kernel line\n');
  writeLog(CONSOLE_LOG, `some kernel line\n${LINE}`);
  await waits;
});

test('a line that was there before the wait counts, that of an earlier VM does not', async () => {
  writeLog(CONSOLE_LOG, LINE);
  await waiting(vm());
  const before = new Date(STARTED.getTime() - 1000);
  utimesSync(join(dir, CONSOLE_LOG), before, before);
  await assert.rejects(waiting(vm(), 50), NotListeningError);
});

test('a guest whose console is lost is dialled once its port takes connections', async () => {
  mock.timers.enable({ apis: ['setInterval'] });
  const waits = waiting(vm({ dialAgent: openPort }));
  mock.timers.tick(2_000);
  await waits;
});

test('the end of the VMM is told as the reason', async () => {
  const exit: VmExit = {
    ...{ kind: 'crashed', message: 'The VMM died of SIGABRT: no such TAP', finishedAt: new Date() },
  };
  await assert.rejects(waiting(vm({ exited: Promise.resolve(exit) })), /died of SIGABRT: no such TAP/);
});

test('a guest that hangs is told apart by how far it came, with the last words of its VMM', async () => {
  writeLog(VMM_LOG, 'thread vcpu0 panicked: TAP tap0 is missing\n');
  await assert.rejects(
    waiting(vm(), 50),
    (error: unknown) =>
      error instanceof NotListeningError &&
      /did not come as far as its devices \(thread vcpu0 panicked: TAP tap0 is missing\)/.test(error.message),
  );
  writeLog(VMM_LOG, '');
  await assert.rejects(
    waiting(vm({ dialAgent: openPort, consoleTail: async () => 'BUG: soft lockup\n' }), 50),
    /its kernel runs, but its agent does not answer \(BUG: soft lockup\)/,
  );
});

test('an abort ends the wait with its reason', async () => {
  const abort = new AbortController();
  const waits = waiting(vm(), HOUR_MS, abort.signal);
  abort.abort(new Error('given up'));
  await assert.rejects(waits, /given up/);
});
