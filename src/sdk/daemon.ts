// Starting the daemon: for good, where a program asks for that, or for as long as programs need it.
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, closeSync, constants, existsSync, mkdirSync, openSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BulkheadError } from '../api/errors.ts';
import { type Connection, type ConnectionOptions, connectionOf } from './connection.ts';
import { withTypedErrors } from './errors.ts';

/** How long a daemon may take from its start to its first answer. */
const DAEMON_START_MS = 60_000;
const DAEMON_POLL_MS = 50;
/** Before another try, where a daemon that ends still has the place. */
const TAKEN_PAUSE_MS = 500;
/** Exit code of a daemon that finds another one in its place. */
const TAKEN = 75;
/** What a connection fails with where nobody took the request. */
const UNTAKEN: ReadonlySet<unknown> = new Set(['ENOENT', 'ECONNREFUSED']);

/** The `bulkhead` command: BULKHEAD_BIN, or the first on the PATH. */
function command(): string | undefined {
  const places = (process.env.PATH ?? '').split(delimiter).map((dir) => join(dir, 'bulkhead'));
  const candidates = process.env.BULKHEAD_BIN ? [process.env.BULKHEAD_BIN] : places;
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Is there a daemon, or a command that can start one? */
export function isInstalled(options: ConnectionOptions = {}): boolean {
  return existsSync(connectionOf(options).socketPath) || command() !== undefined;
}

/**
 * Makes sure that a daemon answers: where none does, starts the one of the `bulkhead` command on this host, on its own, for
 * good, and with its log beside its socket. Fails with DAEMON_UNAVAILABLE where there is no such command, it does not come up,
 * or this program is not root's.
 */
export async function install(options: ConnectionOptions & { signal?: AbortSignal } = {}): Promise<void> {
  await withTypedErrors(async () => {
    const connection = connectionOf(options);
    if (!(await answers(connection))) await startDaemon(connection, [], options.signal);
  });
}

/**
 * Runs `work`, the first that a program asks of the daemon in a call. Where no daemon took it and none is configured, one is
 * started that lives for as long as it is needed, and `work` runs again.
 */
export async function withDaemon<T>(
  connection: Connection,
  work: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!connection.embedded || !isUntaken(error)) throw error;
  }
  await startDaemon(connection, ['--until-unused'], signal);
  return work();
}

/** Nothing of the request reached a daemon, so that it may be made again. */
function isUntaken(error: unknown): boolean {
  if (!(error instanceof BulkheadError) || error.code !== 'DAEMON_UNAVAILABLE') return false;
  const { cause } = error;
  return cause instanceof Error && 'code' in cause && UNTAKEN.has(cause.code);
}

async function answers({ client }: Connection): Promise<boolean> {
  try {
    await client.version();
    return true;
  } catch (error) {
    if (error instanceof BulkheadError && error.code === 'DAEMON_UNAVAILABLE') return false;
    throw error;
  }
}

/** Starts of this process that are under way, by socket: calls at the same time share one. */
const starting = new Map<string, Promise<void>>();

async function startDaemon(
  connection: Connection,
  more: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  const { socketPath } = connection;
  let start = starting.get(socketPath);
  if (start === undefined) {
    start = startAndWait(connection, more).finally(() => starting.delete(socketPath));
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
async function startAndWait(connection: Connection, more: readonly string[]): Promise<void> {
  const { socketPath } = connection;
  if (process.getuid?.() !== 0)
    throw new BulkheadError(
      'DAEMON_UNAVAILABLE',
      `no daemon answers at ${socketPath}, and only root can start one: run this program as root, or start ` +
        '`bulkhead daemon` as root and give this program its socket in BULKHEAD_SOCKET',
    );
  const path = command();
  if (path === undefined)
    throw new BulkheadError(
      'DAEMON_UNAVAILABLE',
      'no daemon answers, and there is no bulkhead command on the PATH or in BULKHEAD_BIN to start one with',
    );
  mkdirSync(dirname(socketPath), { recursive: true, mode: 0o700 });
  const deadline = performance.now() + DAEMON_START_MS;
  let daemon = new StartedDaemon(path, socketPath, more);
  while (!(await answers(connection))) {
    const isLate = performance.now() > deadline;
    if (daemon.ended === TAKEN && !isLate) {
      // Another program's may come up, or one that is no longer needed may end first.
      await delay(TAKEN_PAUSE_MS);
      if (!(await answers(connection))) daemon = new StartedDaemon(path, socketPath, more);
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
