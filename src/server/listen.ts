// Listening: on a unix socket that only its owner may open, and on TCP for monitoring.
import { lstat, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { connect, createServer, type Server as NetServer } from 'node:net';
import { BulkheadError } from '../api/errors.ts';
import { SOCKET_PATH_BYTES_MAX } from './limits.ts';

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

/** Does a server answer there? */
function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once('connect', () => {
    socket.destroy();
    resolve(true);
  });
  socket.once('error', () => resolve(false));
  return promise;
}

/** Refuses a path that is too long, in use, or no socket. True where a killed daemon left its socket behind. */
async function checkSocket(path: string): Promise<boolean> {
  const bytes = Buffer.byteLength(path);
  if (bytes > SOCKET_PATH_BYTES_MAX) {
    throw new BulkheadError(
      'BAD_REQUEST',
      `the socket path has ${bytes} bytes, the kernel takes ${SOCKET_PATH_BYTES_MAX}: choose a shorter one with --socket`,
    );
  }
  let stat: Awaited<ReturnType<typeof lstat>>;
  try {
    stat = await lstat(path);
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
  if (!stat.isSocket()) throw new BulkheadError('BAD_REQUEST', `${path} exists and is no socket`);
  if (await answers(path)) throw new BulkheadError('ADDRESS_IN_USE', `another daemon already serves ${path}`);
  return true;
}

/** Fails as listening there would, and leaves nothing: for before anything else is made. */
export async function checkAddresses(socketPath: string, metricsAddress: string | undefined): Promise<void> {
  await checkSocket(socketPath);
  if (metricsAddress === undefined) return;
  const trial = createServer();
  await listenOnTcp(trial, metricsAddress);
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  trial.close(() => resolve());
  await closed;
}

function started(server: NetServer, listen: () => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.once('listening', () => {
    server.off('error', reject);
    resolve();
  });
  listen();
  return promise;
}

/** Listens on a unix socket with mode 0600, from its first moment on. */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  if (await checkSocket(path)) await rm(path, { force: true });
  await started(server, () => {
    // bind() happens inside listen(), so no other code of this process sees the mask.
    const mask = process.umask(0o177);
    try {
      server.listen(path);
    } finally {
      process.umask(mask);
    }
  });
}

/** `127.0.0.1:9464`, `[::1]:9464` or `:9464` for every address. */
export function parseAddress(address: string): { host?: string; port: number } {
  const [, host = '', digits = ''] = /^(\[[^\]]+\]|[^:]*):(\d{1,5})$/.exec(address) ?? [];
  const port = Number(digits);
  if (digits === '' || port > 65_535) {
    throw new BulkheadError('BAD_REQUEST', `address "${address}": expected HOST:PORT`);
  }
  const bare = host.replace(/^\[|\]$/g, '');
  return bare === '' ? { port } : { host: bare, port };
}

export async function listenOnTcp(server: NetServer, address: string): Promise<void> {
  const target = parseAddress(address);
  try {
    await started(server, () => server.listen(target));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new BulkheadError(
      'ADDRESS_IN_USE',
      `another program, perhaps a daemon, already listens on ${address}`,
      {
        cause: error,
      },
    );
  }
}
