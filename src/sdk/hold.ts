// Keeps an attached sandbox alive for as long as this process lives, without keeping this process alive.
import { setTimeout as delay } from 'node:timers/promises';
import { asBulkheadError } from '../api/errors.ts';
import type { Connection } from './connection.ts';
import { isPlaced, RECONNECT_MS, waitUntil } from './objects.ts';

/** Well within the grace of a sandbox that nobody holds. */
const RECONNECT_IN_CLUSTER_MS = 3_000;

export class Hold {
  readonly #connection: Connection;
  readonly #name: string;
  readonly #stop = new AbortController();

  private constructor(connection: Connection, name: string) {
    this.#connection = connection;
    this.#name = name;
  }

  /**
   * Resolves when the daemon knows. In a cluster that is the node's agent, and there is none before the sandbox has its place:
   * there it resolves at once, and the sandbox is held as soon as it can be.
   */
  static async take(connection: Connection, name: string): Promise<Hold> {
    const hold = new Hold(connection, name);
    if (connection.client.isCluster) void hold.#connectWhenPlaced();
    else await hold.#connect();
    return hold;
  }

  release(): void {
    this.#stop.abort();
  }

  #connect(): Promise<void> {
    const { client, namespace } = this.#connection;
    return client.hold(namespace, this.#name, this.#stop.signal, () => void this.#reconnect());
  }

  /** Until then nobody but the scheduler knows where, and whoever waits for the sandbox tells what is wrong with it. */
  async #connectWhenPlaced(): Promise<void> {
    try {
      const object = await waitUntil(
        this.#connection,
        this.#name,
        (each) => each === undefined || isPlaced(each),
        this.#stop.signal,
      );
      if (object === undefined) return;
    } catch {
      if (this.#stop.signal.aborted) return;
    }
    await this.#reconnect();
  }

  /** A daemon that restarts gives its clients some time to come back. */
  async #reconnect(): Promise<void> {
    // An API server is the cluster's, and not ours to ask that often.
    const most = this.#connection.client.isCluster ? RECONNECT_IN_CLUSTER_MS : RECONNECT_MS;
    for (let pause = RECONNECT_MS; !this.#stop.signal.aborted; pause = Math.min(pause * 2, most)) {
      try {
        await this.#connect();
        return;
      } catch (error) {
        // There is nothing left to hold.
        if (asBulkheadError(error).code === 'NOT_FOUND') return;
        await delay(pause, undefined, { ref: false });
      }
    }
  }
}
