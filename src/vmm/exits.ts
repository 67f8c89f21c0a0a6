// From the supervisor's record to a reason that people can act on.
import { constants } from 'node:os';
import type { VmExit } from './driver.ts';
import { lastWords } from './last-words.ts';
import type { ExitRecord } from './records.ts';

/** What the guest's kernel prints when it gives up. A guest can print it too, and then lies about nothing but itself. */
const PANIC = /Kernel panic - not syncing: (.*)/;
/** QEMU's word on its own stderr when a signal asked it to end; it then exits with 0. */
const TERMINATED = /terminating on signal (\d+)/;
/** What libkrun's network device dies of when it does not get its TAP. */
const NO_TAP = /\b(OpenNetTun|TunSet\w+)\(/;

export function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
}

export interface ExitEvidence {
  record: ExitRecord | undefined;
  consoleTail: string;
  vmmLogTail: string;
  /** The host has booted again since the VM started. */
  hostRestarted: boolean;
  now: Date;
}

/** Decides kind and message. Pure. */
export function decodeExit(evidence: ExitEvidence): VmExit {
  const { record, consoleTail, vmmLogTail } = evidence;
  if (!record) {
    const message = evidence.hostRestarted
      ? 'The host was restarted while the VM ran.'
      : 'The VM and its supervisor were killed and left no record.';
    return { kind: 'lost', message, finishedAt: evidence.now };
  }
  const finishedAt = new Date(record.finishedAtMs);
  if (record.signal !== undefined) {
    const signal = signalName(record.signal);
    const base = { signal, oomKilled: record.oomKilled, finishedAt };
    if (record.oomKilled)
      return {
        ...base,
        kind: 'crashed',
        message: 'The VMM was killed because its memory limit was reached.',
      };
    if (record.fileServerLost) {
      const detail = lastWords(vmmLogTail);
      const what = 'The process that serves directories of the host to the VM ended';
      return { ...base, kind: 'crashed', message: `${what}${detail ? `: ${detail}` : '.'}` };
    }
    if (record.asked) return { ...base, kind: 'killed', message: 'The supervisor was told to end the VM.' };
    if (signal === 'SIGKILL' || signal === 'SIGTERM' || signal === 'SIGINT')
      return { ...base, kind: 'killed', message: `The VMM was ended with ${signal}.` };
    const detail = lastWords(vmmLogTail);
    const what = NO_TAP.test(vmmLogTail) ? 'The VMM did not get its TAP and died of' : 'The VMM died of';
    return { ...base, kind: 'crashed', message: `${what} ${signal}${detail ? `: ${detail}` : '.'}` };
  }
  const exitCode = record.exitCode ?? 0;
  const base = { exitCode, oomKilled: record.oomKilled, finishedAt };
  if (exitCode !== 0) {
    const detail = lastWords(vmmLogTail) || lastWords(consoleTail);
    return {
      ...base,
      kind: 'crashed',
      message: `The VMM exited with ${exitCode}${detail ? `: ${detail}` : '.'}`,
    };
  }
  const terminated = TERMINATED.exec(vmmLogTail)?.[1];
  if (terminated) {
    const signal = signalName(Number(terminated));
    return { ...base, kind: 'killed', signal, message: `The VMM was ended with ${signal}.` };
  }
  const panic = PANIC.exec(consoleTail)?.[1];
  if (panic !== undefined)
    return { ...base, kind: 'crashed', message: `The guest kernel panicked: ${lastWords(panic)}` };
  return { ...base, kind: 'clean', message: 'The guest shut itself down.' };
}
