// One run: a lab host is taken from the snapshot, runs one command and is thrown away.
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { restoreState } from '../../src/vmm/software/migration.ts';
import { AgentPort } from './agent-port.ts';
import { makeScratchDisk, takeResults } from './disks.ts';
import { Machine, type RunDisks } from './machine.ts';
import type { Prepared } from './prepared.ts';

/** Restoring and mounting take a second on a quiet machine, and stayed below ten under a load of 16. */
const START_LIMIT_MS = 120_000;
/** The lab host says every second that it lives. One processor is shared with guests and a busy machine below. */
const SILENCE_LIMIT_MS = 60_000;
/** How the kernel of the lab host announces its own end. */
const KERNEL_CRASH = /^.*(Kernel panic|BUG: |Oops: |stack guard page was hit|double fault).*$/m;
/** Enough of the console to see what the kernel was doing. */
const CONSOLE_LINES = 40;

export interface LabRun {
  /** A shell command. It runs in /project with an empty, writable /tmp; what it leaves in /scratch/results is kept. */
  command: string;
  /** The disks /project, /project/node_modules and /carried. */
  disks: Omit<RunDisks, 'scratch'>;
  /** An existing, empty folder for sockets, console and scratch disk; its path is at most 80 bytes long. */
  dir: string;
  limitMs: number;
  onOutput(text: Buffer): void;
  /** Where /scratch/results goes when the command ended. */
  results?: string;
}

/** `crashed`: the lab host died, which says nothing about the command. */
export type LabOutcome =
  | { kind: 'exited'; status: number }
  | { kind: 'over-time' }
  | { kind: 'crashed'; reason: string };

/** Rejects when the run ends before it has an outcome of its own. */
class Watch {
  readonly #controller = new AbortController();
  readonly lost: Promise<never>;
  #silence: NodeJS.Timeout | undefined;

  constructor(machine: Machine) {
    this.lost = new Promise((_resolve, reject) => {
      this.#controller.signal.addEventListener('abort', () => reject(this.#controller.signal.reason));
    });
    this.lost.catch(() => undefined); // looked at only while something is awaited
    void machine.ended.then((how) => this.#controller.abort(new Error(how)));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    clearTimeout(this.#silence);
    const silent = new Error(`the lab host was silent for ${SILENCE_LIMIT_MS / 1000} s`);
    this.#silence = setTimeout(() => this.#controller.abort(silent), SILENCE_LIMIT_MS);
  }

  end(): void {
    clearTimeout(this.#silence);
  }
}

async function restored(machine: Machine, signal: AbortSignal): Promise<void> {
  const qmp = await machine.qmp(signal);
  await restoreState(qmp, machine.stateFd, signal);
  qmp.close();
}

async function drive(machine: Machine, watch: Watch, run: LabRun): Promise<LabOutcome> {
  const starting = AbortSignal.any([watch.signal, AbortSignal.timeout(START_LIMIT_MS)]);
  await restored(machine, starting);
  (await machine.dial('heartbeat', starting)).on('data', () => watch.heard()).on('error', () => undefined);
  watch.heard();
  const agent = new AgentPort(await machine.dial('agent', starting));
  let complaints = '';
  const begin = await Promise.race([
    watch.lost,
    agent.run(`/lab/begin ${(Date.now() / 1000).toFixed(3)}`, (text) => {
      complaints += text;
    }),
  ]);
  if (begin !== 0) throw new Error(`the disks could not be mounted: ${complaints}`);

  const limit = Promise.withResolvers<'over-time'>();
  const timer = setTimeout(() => limit.resolve('over-time'), run.limitMs);
  try {
    const setting = 'export HOME=/scratch/home BULKHEAD_BUILD_CACHE=/cache; cd /project';
    const command = agent.run(`${setting}; ${run.command}`, run.onOutput);
    const ended = await Promise.race([watch.lost, limit.promise, command]);
    if (ended === 'over-time') return { kind: 'over-time' };
    if (run.results !== undefined) await Promise.race([watch.lost, agent.run('sync', () => undefined)]);
    return { kind: 'exited', status: ended };
  } finally {
    clearTimeout(timer);
    agent.close();
  }
}

async function consoleOf(machine: Machine): Promise<string> {
  return readFile(join(machine.dir, 'console'), 'utf8').catch(() => '');
}

/**
 * Runs one command in a fresh lab host. A failing command and one that takes too long are outcomes of their own; what the
 * lab host itself died of, seen on its console, by QEMU's end or by its silence, is `crashed`.
 */
export async function runInLab(prepared: Prepared, run: LabRun): Promise<LabOutcome> {
  const scratch = join(run.dir, 'scratch');
  await makeScratchDisk(scratch);
  const disks = { ...run.disks, scratch };
  const machine = await Machine.start(prepared.library, run.dir, prepared.host, disks, {
    ...{ kind: 'restore', ...prepared.snapshot },
  });
  const watch = new Watch(machine);
  let outcome: LabOutcome;
  try {
    outcome = await drive(machine, watch, run);
  } catch (error) {
    outcome = { kind: 'crashed', reason: error instanceof Error ? error.message : String(error) };
  } finally {
    watch.end();
    await machine.kill();
  }
  const text = await consoleOf(machine);
  const crash = KERNEL_CRASH.exec(text)?.[0];
  // A command that succeeded before its host died has succeeded; one that failed or hung in a dying host has not been tested.
  if (crash !== undefined && !(outcome.kind === 'exited' && outcome.status === 0))
    outcome = { kind: 'crashed', reason: crash.trim() };
  if (outcome.kind === 'crashed') {
    const tail = text.trimEnd().split(/\r?\n/).slice(-CONSOLE_LINES).join('\n');
    outcome.reason += `\n--- end of the lab host's console\n${tail}`;
  } else if (outcome.kind === 'exited' && run.results !== undefined) {
    await takeResults(scratch, run.results);
  }
  await rm(scratch, { force: true });
  return outcome;
}
