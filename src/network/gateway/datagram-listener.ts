// Datagrams of a guest that belong to no session yet: taken in turns, so that a flood of them holds up nobody else.
import { closeSync } from 'node:fs';
import type { HostLibrary } from '../../vmm/ffi.ts';
import { UDP_BATCH, UDP_BATCH_PAUSE_MS } from './limits.ts';

/** The largest payload that fits into a datagram. */
const DATAGRAM_BYTES_MAX = 65_535;

/** `flow` is `ADDRESS PORT ADDRESS PORT`: where it came from and where it was sent. */
export type TakeDatagram = (flow: string, payload: Buffer) => void;

type Receive = HostLibrary['receiveDatagram'];

export class DatagramListener {
  readonly #receive: Receive;
  readonly #fd: number;
  readonly #take: TakeDatagram;
  readonly #poll: ReturnType<HostLibrary['poll']>;
  readonly #buffer = Buffer.allocUnsafe(DATAGRAM_BYTES_MAX);
  #pause: NodeJS.Timeout | undefined;
  #closed = false;

  /** Takes over the descriptor, which `planeOpen` made for `receive`. */
  constructor(library: Pick<HostLibrary, 'poll'>, fd: number, receive: Receive, take: TakeDatagram) {
    this.#receive = receive;
    this.#fd = fd;
    this.#take = take;
    this.#poll = library.poll(fd, () => this.#read());
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#pause);
    this.#poll.close();
    closeSync(this.#fd);
  }

  /** What a guest made that is no datagram is dropped. */
  #next(): ReturnType<Receive> | 'bad' {
    try {
      return this.#receive(this.#fd, this.#buffer);
    } catch {
      return 'bad';
    }
  }

  #read(): void {
    for (let taken = 0; taken < UDP_BATCH; taken += 1) {
      const found = this.#next();
      if (found === undefined) return;
      if (found === 'bad') continue;
      this.#take(found.flow, Buffer.from(this.#buffer.subarray(0, found.length)));
      if (this.#closed) return;
    }
    this.#poll.stop();
    this.#pause = setTimeout(() => this.#poll.start(), UDP_BATCH_PAUSE_MS);
  }
}
