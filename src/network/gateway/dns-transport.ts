// Questions to name servers, over sockets of the gateway's own namespace.
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { RESPONSE_BYTES_MAX } from '../dns/limits.ts';
import { frame } from '../dns/tcp-frames.ts';
import type { DnsTransport } from '../dns/upstream.ts';

const DNS_PORT = 53;
const PREFIX_BYTES = 2;

type Accepts = (reply: Uint8Array) => boolean;

/** A socket and port of its own for every question, so that answers are hard to forge. */
export const socketTransport: DnsTransport = {
  exchange: (server, message, over, accepts, signal) =>
    over === 'udp'
      ? askByDatagram(server, message, accepts, signal)
      : askByStream(server, message, accepts, signal),
};

function askByDatagram(server: string, message: Uint8Array, accepts: Accepts, signal: AbortSignal) {
  return new Promise<Uint8Array>((resolve, reject) => {
    const socket = createSocket({ type: isIPv6(server) ? 'udp6' : 'udp4', signal });
    socket.on('close', () => reject(new Error('No answer.')));
    socket.on('error', reject);
    socket.on('message', (reply) => {
      if (!accepts(reply)) return;
      resolve(reply);
      socket.close();
    });
    socket.connect(DNS_PORT, server, () => socket.send(message));
  });
}

function askByStream(server: string, message: Uint8Array, accepts: Accepts, signal: AbortSignal) {
  return new Promise<Uint8Array>((resolve, reject) => {
    const socket = connect({ host: server, port: DNS_PORT, signal });
    let held = Buffer.alloc(0);
    socket.on('close', () => reject(new Error('No answer.')));
    socket.on('error', reject);
    socket.on('connect', () => socket.write(frame(message)));
    socket.on('data', (chunk) => {
      held = Buffer.concat([held, chunk]);
      if (held.length < PREFIX_BYTES) return;
      const length = held.readUInt16BE(0);
      if (length > RESPONSE_BYTES_MAX) socket.destroy();
      if (held.length < PREFIX_BYTES + length) return;
      const reply = held.subarray(PREFIX_BYTES, PREFIX_BYTES + length);
      if (accepts(reply)) resolve(reply);
      socket.destroy();
    });
  });
}
