// The input of a command, piece by piece.
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { typed } from './errors.ts';
import { webWritable } from './web.ts';

/** The input of a command. */
export class ExecSink {
  readonly #stdin: Writable;

  constructor(stdin: Writable) {
    this.#stdin = stdin;
  }

  /** Resolves when there is room for more. Rejects where the command cannot be given it any more. */
  async write(data: Uint8Array | string): Promise<void> {
    const { promise, resolve, reject } = settle();
    this.#stdin.write(data, (error) => (error ? reject(this.#failure(error)) : resolve()));
    await promise;
  }

  /**
   * Ends the input. Rejects where not all that was written, or its end, went to the command; the end of the command itself is
   * no such failure.
   */
  async close(): Promise<void> {
    this.#stdin.end();
    await finished(this.#stdin, { readable: false }).catch((error: unknown) => {
      throw this.#failure(error);
    });
  }

  /** Ends the input early; the command sees its end all the same. */
  async abort(): Promise<void> {
    await this.close().catch(() => {});
  }

  /** As a web stream. */
  toWeb(): WritableStream<Uint8Array> {
    return webWritable(this);
  }

  /** What broke first, not what Node says of a stream that is broken. */
  #failure(error: unknown): unknown {
    return typed(this.#stdin.errored ?? error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function settle(): { promise: Promise<void>; resolve: () => void; reject: (reason: unknown) => void } {
  let resolve: () => void = () => {};
  let reject: (reason: unknown) => void = () => {};
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
