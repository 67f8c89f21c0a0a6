// The guest's side of the name server: datagrams and streams to the filter and back.
import { createSocket, type Socket as Datagrams } from 'node:dgram';
import type { Socket } from 'node:net';
import type { DnsFilter } from '../dns/filter.ts';
import { DnsFrames, frame } from '../dns/tcp-frames.ts';
import { DNS_DATAGRAMS_MAX, DNS_IDLE_MS } from './limits.ts';

/** Serves a bound UDP socket. */
export function serveDatagrams(fd: number, filter: DnsFilter): Datagrams {
  const socket = createSocket('udp6');
  let pending = 0;
  let isOpen = true;
  socket.on('close', () => {
    isOpen = false;
  });
  // A guest that refuses an answer is its own fault.
  socket.on('error', () => {});
  socket.on('message', (message, { address, port }) => {
    if (pending >= DNS_DATAGRAMS_MAX) return;
    pending += 1;
    void filter.answer(message, 'udp').then((answer) => {
      pending -= 1;
      if (answer !== undefined && isOpen) socket.send(answer, port, address, () => {});
    });
  });
  socket.bind({ fd });
  return socket;
}

/** Serves one connection, a question after the other. */
export async function serveStream(socket: Socket, filter: DnsFilter): Promise<void> {
  socket.setTimeout(DNS_IDLE_MS, () => socket.destroy());
  const frames = new DnsFrames();
  try {
    for await (const chunk of socket) {
      const messages = frames.push(chunk);
      if (messages === undefined) break;
      for (const message of messages) {
        const answer = await filter.answer(message, 'tcp');
        if (answer === undefined) return;
        if (!socket.write(frame(answer)))
          await new Promise((resolve) => socket.once('drain', resolve).once('close', resolve));
      }
    }
    socket.end();
  } catch {
    // The guest went away.
  } finally {
    socket.destroy();
  }
}
