// Waits for the agent of a VM that boots. It says on the console when it listens: dialling until then costs a guest that
// shares few processors the time that it boots with, and overshoots its readiness by the pause between two tries.
import { type FSWatcher, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import { lastWords } from '../last-words.ts';
import { CONSOLE_LOG, VMM_LOG } from '../records.ts';
import { logTail, type VmProcess } from '../vm-process.ts';

/** What guest/agent/channel.c prints. A guest may print it at will, and is then dialled too early, which is its own loss. */
const LISTENING = 'bulkhead agent: listening';
/** The line is among the first of a quiet boot. */
const CONSOLE_BYTES = 16 * 1024;
/** The console log may have no line where the host's disk is full: a port that takes connections is then enough. */
const PORT_CHECK_MS = 2_000;

/** What this needs of a VM. */
export type BootingVm = Pick<VmProcess, 'dir' | 'startedAt' | 'exited' | 'dialAgent' | 'consoleTail'>;

/** The guest runs, but its agent does not listen. */
export class NotListeningError extends BulkheadError {
  constructor(message: string) {
    super('VM_START_FAILED', message);
  }
}

/**
 * Resolves when the agent can be dialled. Rejects with VM_START_FAILED and the true reason when the VMM ends before, with
 * NotListeningError after `deadlineMs`, and with the signal's reason.
 */
export async function agentListening(vm: BootingVm, deadlineMs: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise: over, resolve: end } = Promise.withResolvers<'ended' | 'aborted' | 'late'>();
  const { promise: listening, resolve: listens } = Promise.withResolvers<'listening'>();
  const abort = () => end('aborted');
  signal.addEventListener('abort', abort, { once: true });
  void vm.exited.then(() => end('ended'));
  const deadline = setTimeout(() => end('late'), deadlineMs);
  const look = () => void saysListening(vm).then((yes) => yes && listens('listening'));
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(vm.dir, (_event, name) => name === CONSOLE_LOG && look());
    watcher.on('error', () => undefined); // the port is looked at all the same
  } catch {
    // out of watches: the port is looked at all the same
  }
  const portCheck = setInterval(() => {
    look();
    void portOpen(vm, signal).then((open) => open && listens('listening'));
  }, PORT_CHECK_MS);
  look(); // it may have been quicker than the watch
  try {
    switch (await Promise.race([listening, over])) {
      case 'listening':
        return;
      case 'aborted':
        return signal.throwIfAborted();
      case 'ended':
        throw new BulkheadError('VM_START_FAILED', (await vm.exited).message);
      case 'late':
        throw new NotListeningError(await silenceOf(vm, deadlineMs, signal));
    }
  } finally {
    clearTimeout(deadline);
    clearInterval(portCheck);
    watcher?.close();
    signal.removeEventListener('abort', abort);
  }
}

/** Whether the console of this VM, not that of an earlier one in the same directory, has the line. */
async function saysListening(vm: BootingVm): Promise<boolean> {
  const log = await stat(join(vm.dir, CONSOLE_LOG)).catch(() => undefined);
  if (log === undefined || log.mtimeMs < vm.startedAt.getTime()) return false;
  return (await logTail(vm.dir, CONSOLE_LOG, Math.min(log.size, CONSOLE_BYTES))).includes(LISTENING);
}

async function portOpen(vm: BootingVm, signal: AbortSignal): Promise<boolean> {
  try {
    (await vm.dialAgent(signal)).destroy();
    return true;
  } catch {
    return false;
  }
}

/** How far it came. A thread of a libkrun that is not built here may have ended with words of its own, and left a VM that hangs. */
async function silenceOf(vm: BootingVm, deadlineMs: number, signal: AbortSignal): Promise<string> {
  const words =
    lastWords(await logTail(vm.dir, VMM_LOG, CONSOLE_BYTES)) ||
    lastWords(await vm.consoleTail(CONSOLE_BYTES));
  const kernel = (await portOpen(vm, signal))
    ? 'its kernel runs, but its agent does not answer'
    : 'its kernel did not come as far as its devices';
  return `The guest did not come up within ${deadlineMs / 1000} s: ${kernel}${words === '' ? '' : ` (${words})`}.`;
}
