// stdin of a guest process: sends as far as the guest has granted, and keeps what may have to be sent again.
import { Writable } from 'node:stream';
import { protocolError } from './frames.ts';
import { MAX_DATA_BYTES, MAX_STDIN_CREDIT } from './limits.ts';

export type InputStep = { kind: 'data'; offset: number; data: Buffer } | { kind: 'end'; offset: number };

export class InputStream {
  readonly writable: Writable;
  /** What is not yet known to have arrived, from offset #base on. */
  #kept: Buffer[] = [];
  #base = 0;
  /** One past the last byte that the program's writer gave us, and one past the last that was sent. */
  #written = 0;
  #sent = 0;
  #credit = 0;
  #finishing = false;
  #endSent = false;
  #onSent: (() => void) | undefined;
  #open = false;

  /** A session that an earlier host began: where its stdin stands is known with the first attach. */
  #adopted: boolean;

  /** @param wake asks for `next` to be called as long as it gives steps. */
  constructor(adopted: boolean, wake: () => void) {
    this.#adopted = adopted;
    this.writable = new Writable({
      highWaterMark: MAX_DATA_BYTES,
      write: (chunk: Buffer, _encoding, done) => {
        if (chunk.length === 0) {
          done();
          return;
        }
        this.#kept.push(chunk);
        this.#written += chunk.length;
        this.#onSent = done;
        wake();
      },
      final: (done) => {
        this.#finishing = true;
        this.#onSent = done;
        wake();
      },
    });
    // A process that goes away is told by `exited`; the stream's own error must not end the host.
    this.writable.on('error', () => {});
  }

  /** The start was answered. */
  open(credit: number): void {
    this.#open = true;
    this.grant(credit);
  }

  grant(bytes: number): void {
    if (this.#credit + bytes > MAX_STDIN_CREDIT) throw protocolError('an impossible grant for stdin');
    this.#credit += bytes;
  }

  /** The guest has everything before this. */
  acknowledge(offset: number): void {
    if (offset > this.#sent || offset < this.#base)
      throw protocolError('it acknowledged stdin that was not sent');
    while (this.#kept[0] && this.#base + this.#kept[0].length <= offset) {
      this.#base += this.#kept[0].length;
      this.#kept.shift();
    }
    const [first] = this.#kept;
    if (first && offset > this.#base) {
      this.#kept[0] = first.subarray(offset - this.#base);
      this.#base = offset;
    }
  }

  /** Another connection: the guest has everything before `offset` and takes `credit` bytes more. */
  reattach(offset: number, credit: number, stillOpen: boolean): void {
    if (this.#adopted) {
      this.#adopted = false;
      this.#base += offset;
      this.#sent += offset;
      this.#written += offset;
    }
    this.acknowledge(offset);
    this.#sent = offset;
    this.#credit = 0;
    this.#endSent = !stillOpen;
    this.open(credit);
  }

  /** Connection lost: nothing can be sent. */
  detach(): void {
    this.#open = false;
  }

  /** The next thing to send, if there is one and it may be sent. */
  next(): InputStep | undefined {
    if (!this.#open) return undefined;
    if (this.#sent < this.#written && this.#credit > 0) {
      const data = this.#slice(Math.min(MAX_DATA_BYTES, this.#credit));
      const step: InputStep = { kind: 'data', offset: this.#sent, data };
      this.#sent += data.length;
      this.#credit -= data.length;
      if (this.#sent === this.#written && !this.#finishing) this.#settle();
      return step;
    }
    if (this.#finishing && !this.#endSent && this.#sent === this.#written) {
      this.#endSent = true;
      this.#settle();
      return { kind: 'end', offset: this.#sent };
    }
    return undefined;
  }

  /** The process is over: what is still to be sent has nowhere to go. */
  close(error?: Error): void {
    this.#open = false;
    this.#kept = [];
    if (error) {
      this.writable.destroy(error);
      return;
    }
    this.#settle();
    this.writable.destroy();
  }

  #settle(): void {
    const done = this.#onSent;
    this.#onSent = undefined;
    // Not in this turn: the writer may go on at once, and its next step must not overtake the one being sent.
    if (done) queueMicrotask(done);
  }

  #slice(most: number): Buffer {
    let skip = this.#sent - this.#base;
    for (const piece of this.#kept) {
      if (skip < piece.length) return piece.subarray(skip, skip + most);
      skip -= piece.length;
    }
    return Buffer.alloc(0);
  }
}
