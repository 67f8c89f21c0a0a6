// The client's end of a connection to a port of a guest.
import type { Duplex } from 'node:stream';
import { PORT_FORWARD_PROTOCOL, PortForwardStream } from '../api/port-forward.ts';
import { opened, startWebSocket } from './stream.ts';
import { queryString } from './transport.ts';

/** Fails with the server's own error where the guest cannot be reached. */
export async function openPortForward(socketPath: string, path: string, port: number): Promise<Duplex> {
  const socket = startWebSocket(socketPath, `${path}${queryString({ port })}`, [PORT_FORWARD_PROTOCOL]);
  const stream = new PortForwardStream(socket);
  // A failure before it stands is told by `opened`; later ones by the stream, whoever listens.
  stream.on('error', () => {});
  await opened(socket, socketPath);
  return stream;
}
