// A socket before the server's that tests can cut, as a network would be.
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export class Cuttable implements AsyncDisposable {
  readonly path: string;
  readonly #pairs = new Set<Socket>();
  readonly #server;
  #isDown = false;
  #onRefused: () => void = () => {};

  private constructor(path: string, target: () => string) {
    this.path = path;
    this.#server = createServer({ allowHalfOpen: true }, (inner) => {
      inner.on('error', () => {});
      if (this.#isDown) {
        inner.destroy();
        this.#onRefused();
        return;
      }
      const outer = connect({ path: target(), allowHalfOpen: true });
      outer.on('error', () => inner.destroy());
      inner.pipe(outer).pipe(inner);
      for (const socket of [inner, outer]) {
        this.#pairs.add(socket);
        socket.on('close', () => {
          this.#pairs.delete(socket);
          inner.destroy();
          outer.destroy();
        });
      }
    });
  }

  static async before(target: () => string, path: string): Promise<Cuttable> {
    const cuttable = new Cuttable(path, target);
    cuttable.#server.listen(path);
    await once(cuttable.#server, 'listening');
    return cuttable;
  }

  /** Breaks every connection, in the middle of whatever it carries. */
  cut(): void {
    for (const socket of this.#pairs) socket.destroy();
  }

  /** Breaks every connection and takes none. Resolves when a client has noticed, and tried in vain. */
  async takeDown(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onRefused = resolve;
    this.#isDown = true;
    this.cut();
    await promise;
  }

  bringUp(): void {
    this.#isDown = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
