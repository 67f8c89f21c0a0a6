// Connections to the unix sockets that a VMM listens on.
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostLibrary } from './ffi.ts';

/** Pause before another try while the VMM still serves the former peer. */
const RETRY_MS = 10;

/** A connected socket and its descriptor number, for passing descriptors. The socket owns the number. */
export interface DialledSocket {
  socket: Socket;
  fd: number;
}

function transient(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EAGAIN';
}

/** Connects to a path of any length. Waits while the listener's queue is full; any other failure rejects. */
export function dialUnix(host: HostLibrary, path: string, signal: AbortSignal): Promise<DialledSocket> {
  return dial(() => host.unixConnect(path), signal);
}

/** The same, by a call of libvmm that gives the descriptor. */
export async function dial(connect: () => number, signal: AbortSignal): Promise<DialledSocket> {
  for (;;) {
    signal.throwIfAborted();
    try {
      const fd = connect();
      return { socket: new Socket({ fd, readable: true, writable: true, allowHalfOpen: false }), fd };
    } catch (error) {
      if (!transient(error)) throw error;
    }
    await sleep(RETRY_MS, undefined, { signal });
  }
}
