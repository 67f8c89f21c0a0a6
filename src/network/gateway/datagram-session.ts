// Datagrams between one port of a guest and one destination: decided once, and again when the policy changes.
import { createSocket, type Socket } from 'node:dgram';
import type { RelaySession } from './datagram-relay.ts';
import type { EgressRate } from './egress-rate.ts';
import { UDP_IDLE_MS, UDP_PENDING_MAX, UDP_QUEUE_BYTES, UDP_UNANSWERED_MS } from './limits.ts';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface DatagramSessionOptions {
  /** With the destination's address, of family IPv6; not connected yet. */
  readonly socket: Socket;
  /** The guest's port. */
  readonly guest: Endpoint;
  readonly target: Endpoint;
  /** Of all that the sandbox sends. */
  readonly rate: Pick<EgressRate, 'admit'>;
  readonly now: () => number;
  readonly count: (egressBytes: number, ingressBytes: number) => void;
  /** As of DatagramRelayOptions.open. */
  readonly closed: (end: 'ended' | 'failed') => void;
}

/** Each end has a socket of its own that is connected: the kernel lets nobody else's datagrams in. */
export class DatagramSession implements RelaySession {
  readonly #options: DatagramSessionOptions;
  readonly #guest: Socket;
  readonly #server: Socket;
  #pending: Buffer[] | undefined = [];
  #opening = 2;
  #answered = false;
  #usedAt: number;
  #ended = false;

  constructor(options: DatagramSessionOptions) {
    const { socket: own, guest, target, now } = options;
    this.#options = options;
    this.#usedAt = now();
    this.#guest = own;
    this.#server = createSocket(target.host.includes(':') ? 'udp6' : 'udp4');
    for (const socket of [this.#guest, this.#server]) {
      socket.once('connect', () => this.#opened());
      socket.on('error', () => this.#end(this.#answered ? 'ended' : 'failed'));
    }
    this.#guest.on('message', (payload) => this.send(payload));
    this.#server.on('message', (payload) => this.#receive(payload));
    this.#guest.connect(guest.port, guest.host.includes(':') ? guest.host : `::ffff:${guest.host}`);
    this.#server.connect(target.port, target.host);
  }

  send(payload: Buffer): void {
    if (this.#ended) return;
    if (this.#pending !== undefined) {
      if (this.#pending.length < UDP_PENDING_MAX) this.#pending.push(payload);
      return;
    }
    this.#usedAt = this.#options.now();
    if (!this.#options.rate.admit(payload.length) || isFull(this.#server)) return;
    this.#options.count(payload.length, 0);
    this.#server.send(payload, (error) => {
      // One that is too large for the way is lost; with all else the way itself is.
      if (error !== null && !isTooLarge(error)) this.#end(this.#answered ? 'ended' : 'failed');
    });
  }

  get isIdle(): boolean {
    const idle = this.#options.now() - this.#usedAt;
    return idle >= (this.#answered ? UDP_IDLE_MS : UDP_UNANSWERED_MS);
  }

  end(): void {
    this.#end('ended');
  }

  #receive(payload: Buffer): void {
    if (this.#ended) return;
    this.#answered = true;
    this.#usedAt = this.#options.now();
    if (this.#pending !== undefined || isFull(this.#guest)) return;
    this.#options.count(0, payload.length);
    this.#guest.send(payload, () => {});
  }

  #opened(): void {
    this.#opening -= 1;
    if (this.#opening > 0 || this.#ended) return;
    const pending = this.#pending ?? [];
    this.#pending = undefined;
    for (const payload of pending) this.send(payload);
  }

  #end(how: 'ended' | 'failed'): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#pending = undefined;
    this.#guest.close();
    this.#server.close();
    this.#options.closed(how);
  }
}

function isFull(socket: Socket): boolean {
  return socket.getSendQueueSize() > UDP_QUEUE_BYTES;
}

function isTooLarge(error: Error): boolean {
  return 'code' in error && error.code === 'EMSGSIZE';
}
