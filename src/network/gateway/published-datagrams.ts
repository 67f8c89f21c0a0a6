// A UDP port of the guest that the host publishes: one session for each client.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { WantedPort } from '../network-plane.ts';
import {
  PORT_CONNECTIONS_MAX,
  UDP_IDLE_MS,
  UDP_PENDING_MAX,
  UDP_QUEUE_BYTES,
  UDP_SWEEP_MS,
} from './limits.ts';
import type { GuestWays } from './published-ports.ts';

type DatagramWays = Pick<GuestWays, 'address' | 'bind' | 'clock'>;

type Count = (egressBytes: number, ingressBytes: number) => void;

interface Client {
  /** Connected to the guest's port, so that its answers alone come in. */
  readonly guest: Socket;
  pending: Buffer[] | undefined;
  usedAt: number;
}

export class PublishedDatagrams {
  readonly #socket: Socket;
  readonly #port: number;
  readonly #ways: DatagramWays;
  readonly #count: Count;
  readonly #clients = new Map<string, Client>();
  #endSweep: (() => void) | undefined;
  #closed = false;

  private constructor(socket: Socket, port: number, ways: DatagramWays, count: Count) {
    this.#socket = socket;
    this.#port = port;
    this.#ways = ways;
    this.#count = count;
    socket.on('error', () => {});
    socket.on('message', (payload, { address, port: from }) => this.#take(payload, address, from));
  }

  /** Rejects as the host refuses the port. */
  static async open(
    { hostIP, hostPort = 0, port }: WantedPort,
    ways: DatagramWays,
    count: Count,
  ): Promise<PublishedDatagrams> {
    const socket = createSocket(hostIP.includes(':') ? 'udp6' : 'udp4');
    socket.bind({ address: hostIP, port: hostPort, exclusive: true });
    try {
      await once(socket, 'listening');
    } catch (error) {
      socket.close();
      throw error;
    }
    return new PublishedDatagrams(socket, port, ways, count);
  }

  get hostPort(): number {
    return this.#socket.address().port;
  }

  /** Not a method: it is handed on by itself. */
  readonly close = (): void => {
    if (this.#closed) return;
    this.#closed = true;
    this.#endSweep?.();
    this.#socket.close();
    for (const key of [...this.#clients.keys()]) this.#forget(key);
  };

  #take(payload: Buffer, address: string, port: number): void {
    const key = `${address} ${port}`;
    const client = this.#clients.get(key) ?? this.#admit(key, address, port);
    if (client === undefined) return;
    client.usedAt = this.#ways.clock.monotonic();
    if (client.pending === undefined) this.#send(client.guest, payload);
    else if (client.pending.length < UDP_PENDING_MAX) client.pending.push(payload);
  }

  #admit(key: string, address: string, port: number): Client | undefined {
    // Nothing could be answered there.
    if (port === 0 || this.#clients.size >= PORT_CONNECTIONS_MAX) return undefined;
    let guest: Socket;
    try {
      guest = this.#ways.bind();
    } catch {
      return undefined; // the VM is gone
    }
    const client: Client = { guest, pending: [], usedAt: 0 };
    this.#clients.set(key, client);
    // A guest that does not listen may do so later.
    guest.on('error', () => this.#forget(key));
    guest.on('message', (answer) => {
      client.usedAt = this.#ways.clock.monotonic();
      if (isFull(this.#socket)) return;
      this.#count(answer.length, 0);
      this.#socket.send(answer, port, address, () => {});
    });
    guest.once('connect', () => {
      const pending = client.pending ?? [];
      client.pending = undefined;
      for (const each of pending) this.#send(guest, each);
    });
    guest.connect(this.#port, `::ffff:${this.#ways.address}`);
    this.#endSweep ??= this.#ways.clock.after(UDP_SWEEP_MS, () => this.#sweep());
    return client;
  }

  #send(guest: Socket, payload: Buffer): void {
    if (isFull(guest)) return;
    this.#count(0, payload.length);
    guest.send(payload, () => {});
  }

  #sweep(): void {
    this.#endSweep = undefined;
    const now = this.#ways.clock.monotonic();
    for (const [key, { usedAt }] of [...this.#clients]) if (now - usedAt >= UDP_IDLE_MS) this.#forget(key);
    if (this.#clients.size > 0) this.#endSweep = this.#ways.clock.after(UDP_SWEEP_MS, () => this.#sweep());
  }

  #forget(key: string): void {
    const client = this.#clients.get(key);
    if (client === undefined) return;
    this.#clients.delete(key);
    client.guest.close();
  }
}

function isFull(socket: Socket): boolean {
  return socket.getSendQueueSize() > UDP_QUEUE_BYTES;
}
