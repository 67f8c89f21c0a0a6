// One connection to a port of a guest, on a WebSocket: src/api/port-forward.ts has the protocol.
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { join, PortForwardStream } from '../api/port-forward.ts';
import { STREAM_PING_INTERVAL_MS } from './limits.ts';

/** Resolves when it is over, whoever ended it. */
export function carryPortForward(webSocket: WebSocket, guest: Duplex, closing: AbortSignal): Promise<void> {
  const client = new PortForwardStream(webSocket);
  // The answer does not matter: writing to a connection whose peer is gone fails, and that closes it.
  const ping = setInterval(() => webSocket.ping(), STREAM_PING_INTERVAL_MS);
  const close = () => client.destroy();
  closing.addEventListener('abort', close, { once: true });
  if (closing.aborted) close();
  return new Promise((resolve) => {
    join(client, guest, () => {
      clearInterval(ping);
      closing.removeEventListener('abort', close);
      resolve();
    });
  });
}
