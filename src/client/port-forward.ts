// The client's end of a connection to a port of a guest.
import type { Duplex } from 'node:stream';
import { PORT_FORWARD_PROTOCOL, PortForwardStream } from '../api/port-forward.ts';
import { dial } from './dial.ts';
import type { Endpoint } from './endpoint.ts';

/** Fails with the server's own error where the guest cannot be reached. `isBackground`: it keeps no process from ending. */
export async function openPortForward(
  endpoint: Endpoint,
  path: string,
  port: number,
  { isBackground = false }: { isBackground?: boolean } = {},
): Promise<Duplex> {
  return dial(
    endpoint,
    path,
    { port },
    (socket) => {
      const stream = new PortForwardStream(socket);
      // A failure before it stands is told by `dial`; later ones by the stream, whoever listens.
      stream.on('error', () => {});
      if (isBackground) socket.once('upgrade', (response) => response.socket.unref());
      return stream;
    },
    [PORT_FORWARD_PROTOCOL],
  );
}
