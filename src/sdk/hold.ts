// Keeps an attached sandbox alive for as long as this process lives, without keeping this process alive.
import { setTimeout as delay } from 'node:timers/promises';
import { asBulkheadError } from '../api/errors.ts';
import type { Connection } from './connection.ts';
import { RECONNECT_MS } from './objects.ts';

export class Hold {
  readonly #connection: Connection;
  readonly #name: string;
  readonly #stop = new AbortController();

  private constructor(connection: Connection, name: string) {
    this.#connection = connection;
    this.#name = name;
  }

  /** Resolves when the daemon knows. */
  static async take(connection: Connection, name: string): Promise<Hold> {
    const hold = new Hold(connection, name);
    await hold.#connect();
    return hold;
  }

  release(): void {
    this.#stop.abort();
  }

  #connect(): Promise<void> {
    const { client, namespace } = this.#connection;
    return client.hold(namespace, this.#name, this.#stop.signal, () => void this.#reconnect());
  }

  /** A daemon that restarts gives its clients some time to come back. */
  async #reconnect(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await this.#connect();
        return;
      } catch (error) {
        // There is nothing left to hold.
        if (asBulkheadError(error).code === 'NOT_FOUND') return;
        await delay(RECONNECT_MS, undefined, { ref: false });
      }
    }
  }
}
