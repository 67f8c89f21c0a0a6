// Starting the daemon: for good, where a program asks for that, or for as long as programs need it.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BulkheadError } from '../api/errors.ts';

export interface StartDaemonOptions {
  readonly socketPath: string;
  /** Path of the `bulkhead` command, where there is one. */
  readonly command: string | undefined;
  /** Options of `bulkhead daemon` beside those that every one gets. */
  readonly more: readonly string[];
  /** Does it answer? */
  isReady(): Promise<boolean>;
  readonly signal: AbortSignal | undefined;
}

/** How long a daemon may take from its start to its first answer. */
const DAEMON_START_MS = 60_000;
const DAEMON_POLL_MS = 50;
/** Before another try, where a daemon that ends still has the place. */
const TAKEN_PAUSE_MS = 500;
/** Exit code of a daemon that finds another one in its place. */
const TAKEN = 75;
/** Starts of this process that are under way, by socket: calls at the same time share one. */
const starting = new Map<string, Promise<void>>();

export async function startDaemon(options: StartDaemonOptions): Promise<void> {
  const { socketPath, signal } = options;
  let start = starting.get(socketPath);
  if (start === undefined) {
    start = startAndWait(options).finally(() => starting.delete(socketPath));
    starting.set(socketPath, start);
  }
  // Whoever gives up does so alone.
  const { promise: aborted, stop } = abortion(signal);
  await Promise.race([start, aborted]).finally(stop);
}

function abortion(signal: AbortSignal | undefined): { promise: Promise<never>; stop: () => void } {
  let stop = (): void => {};
  const promise = new Promise<never>((_resolve, reject) => {
    const abort = (): void => reject(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    stop = () => signal?.removeEventListener('abort', abort);
    if (signal?.aborted) abort();
  });
  return { promise, stop };
}

/** Programs that start one at the same time are told apart by the daemon: one of theirs gets the place, the others end. */
async function startAndWait({ socketPath, command, more, isReady }: StartDaemonOptions): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new BulkheadError(
      'DAEMON_UNAVAILABLE',
      `no daemon answers at ${socketPath}, and only root can start one: run this program as root, or start ` +
        '`bulkhead daemon` as root and give this program its socket in BULKHEAD_SOCKET',
    );
  if (command === undefined)
    throw new BulkheadError(
      'DAEMON_UNAVAILABLE',
      'no daemon answers, and there is no bulkhead command on the PATH or in BULKHEAD_BIN to start one with',
    );
  mkdirSync(dirname(socketPath), { recursive: true, mode: 0o700 });
  const deadline = performance.now() + DAEMON_START_MS;
  let daemon = new StartedDaemon(command, socketPath, more);
  while (!(await isReady())) {
    const isLate = performance.now() > deadline;
    if (daemon.ended === TAKEN && !isLate) {
      // Another program's may come up, or one that is no longer needed may end first.
      await delay(TAKEN_PAUSE_MS);
      if (!(await isReady())) daemon = new StartedDaemon(command, socketPath, more);
    } else if (daemon.ended !== undefined || isLate) {
      const why =
        daemon.ended === undefined
          ? `it did not answer within ${DAEMON_START_MS / 1000} s`
          : `it ended with ${daemon.ended}`;
      throw new BulkheadError(
        'DAEMON_UNAVAILABLE',
        `the daemon could not be started: ${why}; see ${daemon.log}`,
      );
    }
    await delay(DAEMON_POLL_MS);
  }
}

class StartedDaemon {
  readonly log: string;
  /** Its exit code, signal, or why it did not start at all. */
  ended: number | string | undefined;

  constructor(path: string, socketPath: string, more: readonly string[]) {
    this.log = `${socketPath}.log`;
    const log = openSync(this.log, 'a', 0o600);
    const args = ['daemon', '--socket', socketPath, '--metrics-address', 'none', ...more];
    const child: ChildProcess = spawn(path, args, { detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    child.once('error', (error) => {
      this.ended = error.message;
    });
    child.once('exit', (code, name) => {
      this.ended = name ?? code ?? 'no code';
    });
    child.unref();
  }
}
