// A daemon for this program: looked for, and started where there is none.
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { BulkheadError } from '../api/errors.ts';
import { type Connection, type ConnectionOptions, connectionOf, placeOf } from './connection.ts';
import { withTypedErrors } from './errors.ts';

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

/** Is there a daemon, a command that can start one, or a cluster, for which nothing has to be on this host? */
export function isInstalled(options: ConnectionOptions = {}): boolean {
  const { cluster, socketPath } = placeOf(options);
  return cluster !== undefined || existsSync(socketPath) || command() !== undefined;
}

/**
 * Makes sure that a daemon answers: where none does, starts the one of the `bulkhead` command on this host, on its own, for
 * good, and with its log beside its socket. Fails with DAEMON_UNAVAILABLE where there is no such command, it does not come up,
 * or this program is not root's; for a cluster with API_SERVER_UNAVAILABLE where that does not answer.
 */
export async function install(options: ConnectionOptions & { signal?: AbortSignal } = {}): Promise<void> {
  await withTypedErrors(async () => {
    const connection = await connectionOf(options);
    // A cluster answers or does not: nothing is installed in it from here.
    if (connection.client.isCluster) await connection.client.version();
    else if (!(await answers(connection))) await start(connection, [], options.signal);
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
  await start(connection, ['--until-unused'], signal);
  return work();
}

/** Nothing of the request reached a daemon, so that it may be made again. */
function isUntaken(error: unknown): boolean {
  if (!(error instanceof BulkheadError) || error.code !== 'DAEMON_UNAVAILABLE') return false;
  const { cause } = error;
  return cause instanceof Error && 'code' in cause && UNTAKEN.has(cause.code);
}

/** What few programs need is loaded by those that do. */
async function start(
  connection: Connection,
  more: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const { startDaemon } = await import('./start-daemon.ts');
  const isReady = () => answers(connection);
  await startDaemon({ socketPath: connection.socketPath, command: command(), more, isReady, signal });
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
