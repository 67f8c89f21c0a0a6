// Which daemon the SDK talks to. One client per socket, shared by everything in the process.
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, openSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BulkheadError } from '../api/errors.ts';
import { BulkheadClient } from '../client/client.ts';
import { defaultNamespace, defaultSocket } from '../client/settings.ts';
import { withTypedErrors } from './errors.ts';

export interface ConnectionOptions {
  /** The daemon's socket; default: BULKHEAD_SOCKET, or that of the user's own daemon. */
  socketPath?: string;
  /** Namespace of the objects; default: BULKHEAD_NAMESPACE, or `default`. */
  namespace?: string;
}

/** A daemon and the namespace in it. */
export interface Connection {
  readonly client: BulkheadClient;
  readonly socketPath: string;
  readonly namespace: string;
}

const clients = new Map<string, BulkheadClient>();
let defaults: ConnectionOptions = {};

/** Sets what calls use that do not say otherwise. */
export function configure(options: ConnectionOptions): void {
  defaults = { ...options };
}

export function connectionOf(options: ConnectionOptions = {}): Connection {
  const socketPath = options.socketPath ?? defaults.socketPath ?? defaultSocket();
  const namespace = options.namespace ?? defaults.namespace ?? defaultNamespace();
  let client = clients.get(socketPath);
  if (client === undefined) {
    client = new BulkheadClient({ socketPath });
    clients.set(socketPath, client);
  }
  return { client, socketPath, namespace };
}

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

/** How long a daemon may take from its start to its first answer. */
const DAEMON_START_MS = 60_000;
const DAEMON_POLL_MS = 50;

/**
 * Makes sure that a daemon answers: where none does, starts the one of the `bulkhead` command on this host, on its own and
 * with its log beside its socket. Fails with DAEMON_UNAVAILABLE where there is no such command or it does not come up.
 */
export async function install(options: ConnectionOptions & { signal?: AbortSignal } = {}): Promise<void> {
  await withTypedErrors(async () => {
    const connection = connectionOf(options);
    if (await answers(connection)) return;
    const path = command();
    if (path === undefined) {
      throw new BulkheadError(
        'DAEMON_UNAVAILABLE',
        'no daemon answers, and there is no bulkhead command on the PATH or in BULKHEAD_BIN to start one with',
      );
    }
    await startDaemon(path, connection, options.signal);
  });
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

async function startDaemon(path: string, connection: Connection, signal?: AbortSignal): Promise<void> {
  const { socketPath } = connection;
  mkdirSync(dirname(socketPath), { recursive: true, mode: 0o700 });
  const logPath = `${socketPath}.log`;
  const log = openSync(logPath, 'a', 0o600);
  const args = ['daemon', '--socket', socketPath, '--metrics-address', 'none'];
  const daemon = spawn(path, args, { detached: true, stdio: ['ignore', log, log] });
  let ended: string | undefined;
  daemon.once('error', (error) => {
    ended = error.message;
  });
  daemon.once('exit', (code, name) => {
    ended = `it ended with ${name ?? code}`;
  });
  daemon.unref();
  const deadline = performance.now() + DAEMON_START_MS;
  while (!(await answers(connection))) {
    signal?.throwIfAborted();
    if (ended !== undefined || performance.now() > deadline) {
      const why = ended ?? `it did not answer within ${DAEMON_START_MS / 1000} s`;
      throw new BulkheadError(
        'DAEMON_UNAVAILABLE',
        `the daemon could not be started: ${why}; see ${logPath}`,
      );
    }
    await delay(DAEMON_POLL_MS);
  }
}
