// Listening: on a unix socket that only its owner may open, and on TCP for monitoring.
import { lstat, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { connect } from 'node:net';
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

/** Removes the socket that a killed daemon left behind. Refuses to take one that is in use, or what is no socket. */
async function clearStaleSocket(path: string): Promise<void> {
  let stat: Awaited<ReturnType<typeof lstat>>;
  try {
    stat = await lstat(path);
  } catch (error) {
    if (isMissing(error)) return;
    throw error;
  }
  if (!stat.isSocket()) throw new BulkheadError('BAD_REQUEST', `${path} exists and is no socket`);
  if (await answers(path)) {
    throw new BulkheadError('ALREADY_EXISTS', `another daemon already serves ${path}`);
  }
  await rm(path, { force: true });
}

function started(server: Server, listen: () => void): Promise<void> {
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
  const bytes = Buffer.byteLength(path);
  if (bytes > SOCKET_PATH_BYTES_MAX) {
    throw new BulkheadError(
      'BAD_REQUEST',
      `the socket path has ${bytes} bytes, the kernel takes ${SOCKET_PATH_BYTES_MAX}: choose a shorter one with --socket`,
    );
  }
  await clearStaleSocket(path);
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

export async function listenOnTcp(server: Server, address: string): Promise<void> {
  const target = parseAddress(address);
  await started(server, () => server.listen(target));
}
