// Ports of a sandbox that a program of this machine connects to, whether the sandbox publishes them or not.
import type { Duplex } from 'node:stream';
import type { Connection } from './connection.ts';
import { typed, withTypedErrors } from './errors.ts';

export interface ForwardPortOptions {
  /** Port of this machine. Default: a free one. */
  localPort?: number;
  /** Address of this machine to listen on. Default: 127.0.0.1. */
  host?: string;
  /** Told why a connection did not reach the sandbox; it is reset. */
  onFailure?: (error: unknown) => void;
}

/** A port of this machine that leads into a sandbox until it is closed. It keeps no program from exiting. */
export interface ForwardedPort {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const LOOPBACK = '127.0.0.1';

export async function forwardPort(
  { client, namespace }: Connection,
  name: string,
  port: number,
  { localPort = 0, host = LOOPBACK, onFailure = () => {} }: ForwardPortOptions,
): Promise<ForwardedPort> {
  const { PortListener } = await import('../client/port-listener.ts');
  return withTypedErrors(async () => {
    const listener = await PortListener.open({
      ...{ host, port: localPort, isBackground: true },
      dial: () => client.portForward(namespace, name, port, { isBackground: true }),
      onFailure: (error) => onFailure(typed(error)),
    });
    const close = async (): Promise<void> => listener.close();
    return { host, port: listener.port, close, [Symbol.asyncDispose]: close };
  });
}

export async function connectPort(
  { client, namespace }: Connection,
  name: string,
  port: number,
): Promise<Duplex> {
  return withTypedErrors(async () => {
    const stream = await client.portForward(namespace, name, port);
    // As of a socket of node:net: what only reads would hold the connection, and its program, for ever.
    stream.once('end', () => stream.end());
    return stream;
  });
}
