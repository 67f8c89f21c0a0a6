// Echoes of ICMP between one identifier of a guest and one destination, by a socket of the host for them.
import type { Socket } from 'node:dgram';
import type { RelaySession } from './datagram-relay.ts';
import type { EgressRate } from './egress-rate.ts';
import { UDP_PENDING_MAX, UDP_QUEUE_BYTES, UDP_UNANSWERED_MS } from './limits.ts';

/** Types of an echo request, of ICMP and of ICMPv6. */
const REQUEST_V4 = 8;
const REQUEST_V6 = 128;
/** Offset of the identifier in the header of ICMP. */
const ID_OFFSET = 4;
const HEADER_BYTES = 8;
/** Sockets for echoes have no ports, and connecting one wants some. */
const ANY_PORT = 1;

export interface EchoSessionOptions {
  /** The host's, not connected yet. The kernel puts an identifier of its own into what it sends. */
  readonly socket: Socket;
  readonly target: string;
  /** Of the guest. */
  readonly identifier: number;
  readonly rate: Pick<EgressRate, 'admit'>;
  readonly now: () => number;
  /** Sends it to the guest, from the address that it asked. */
  readonly answer: (message: Buffer) => void;
  readonly count: (egressBytes: number, ingressBytes: number) => void;
  /** As of DatagramRelayOptions.open. */
  readonly closed: (end: 'ended' | 'failed') => void;
}

/** Messages begin with the header of ICMP. */
export class EchoSession implements RelaySession {
  readonly #options: EchoSessionOptions;
  #pending: Buffer[] | undefined = [];
  #usedAt: number;
  #ended = false;

  constructor(options: EchoSessionOptions) {
    const { socket, target, now } = options;
    this.#options = options;
    this.#usedAt = now();
    // An error here is an answer of ICMP too, such as that there is no way: no session failed by it.
    socket.on('error', () => this.end());
    socket.on('message', (message) => this.#receive(message));
    socket.once('connect', () => {
      const pending = this.#pending ?? [];
      this.#pending = undefined;
      for (const message of pending) this.send(message);
    });
    socket.connect(ANY_PORT, target);
  }

  send(message: Buffer): void {
    const { socket, target, rate, count, now } = this.#options;
    if (this.#ended) return;
    if (this.#pending !== undefined) {
      if (this.#pending.length < UDP_PENDING_MAX) this.#pending.push(message);
      return;
    }
    this.#usedAt = now();
    if (!rate.admit(message.length) || socket.getSendQueueSize() > UDP_QUEUE_BYTES) return;
    // What the guest reaches by IPv6 may be this host by IPv4.
    message[0] = target.includes(':') ? REQUEST_V6 : REQUEST_V4;
    count(message.length, 0);
    socket.send(message, () => {});
  }

  get isIdle(): boolean {
    return this.#options.now() - this.#usedAt >= UDP_UNANSWERED_MS;
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#pending = undefined;
    this.#options.socket.close();
    this.#options.closed('ended');
  }

  #receive(message: Buffer): void {
    if (this.#ended || message.length < HEADER_BYTES) return;
    const { identifier, answer, count, now } = this.#options;
    this.#usedAt = now();
    message.writeUInt16BE(identifier, ID_OFFSET);
    count(0, message.length);
    answer(message);
  }
}
