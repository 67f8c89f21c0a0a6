// A port of this machine that leads to one of a guest.
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import { join } from '../api/port-forward.ts';
import { deferred } from './deferred.ts';

export interface PortListenerOptions {
  /** Address of this machine. */
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  /** Neither it nor what it carries keeps this process from ending. */
  readonly isBackground?: boolean;
  /** Connects to the guest, for each connection that is taken. */
  dial(): Promise<Duplex>;
  /** Told why a connection was reset before it reached the guest. */
  onFailure(error: unknown): void;
}

export class PortListener {
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  readonly #options: PortListenerOptions;

  private constructor(options: PortListenerOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => void this.#carry(socket));
  }

  /** Resolves when it listens. Fails with PORT_UNAVAILABLE. */
  static async open(options: PortListenerOptions): Promise<PortListener> {
    const listener = new PortListener(options);
    await listener.#listen();
    return listener;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Ends it, and resets what it carries. */
  close(): void {
    this.#server.close();
    for (const socket of this.#connections) socket.resetAndDestroy();
  }

  #listen(): Promise<void> {
    const { host, port } = this.#options;
    const { promise, resolve, reject } = deferred<void>();
    this.#server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE'
          ? 'is taken by another program'
          : `cannot be listened on: ${error.message}`;
      reject(new BulkheadError('PORT_UNAVAILABLE', `${host}:${port} ${why}`));
    });
    if (this.#options.isBackground) this.#server.unref();
    this.#server.listen({ host, port, exclusive: true }, resolve);
    return promise;
  }

  async #carry(socket: Socket): Promise<void> {
    if (this.#options.isBackground) socket.unref();
    this.#connections.add(socket);
    socket.on('close', () => this.#connections.delete(socket));
    socket.on('error', () => {});
    try {
      const guest = await this.#options.dial();
      if (socket.destroyed) guest.destroy();
      else join(socket, guest, () => {});
    } catch (error) {
      this.#options.onFailure(error);
      socket.resetAndDestroy();
    }
  }
}
