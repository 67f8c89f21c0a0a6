// Ends of processes as promises, whoever's children they are.
import { Socket } from 'node:net';
import type { HostLibrary, WatcherPointer } from './ffi.ts';

const TOKEN_BYTES = 8;

/** Over libvmm's watcher thread: one pipe for any number of processes. Keeps Node alive while something is awaited. */
export class ExitWatcher {
  readonly #host: HostLibrary;
  readonly #watcher: WatcherPointer;
  readonly #pipe: Socket;
  readonly #waiting = new Map<bigint, () => void>();
  #nextToken = 1n;
  #partial = Buffer.alloc(0);

  constructor(host: HostLibrary) {
    this.#host = host;
    const { watcher, notifyFd } = host.watcherOpen();
    this.#watcher = watcher;
    this.#pipe = new Socket({ fd: notifyFd, readable: true, writable: false });
    this.#pipe.unref();
    this.#pipe.on('data', (data: Buffer) => this.#onData(data));
    this.#pipe.on('error', () => undefined); // the pipe is ours; its end is seen in close()
  }

  /** Resolves when the process of the pidfd (which the caller may close at once) is gone. */
  wait(pidfd: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const token = this.#nextToken++;
      this.#waiting.set(token, resolve);
      this.#pipe.ref();
      try {
        this.#host.watcherAdd(this.#watcher, pidfd, token);
      } catch (error) {
        this.#waiting.delete(token);
        if (this.#waiting.size === 0) this.#pipe.unref();
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  /** Ends the thread. Promises of processes that still run stay unsettled. */
  async close(): Promise<void> {
    await this.#host.watcherClose(this.#watcher);
    this.#pipe.destroy();
    this.#waiting.clear();
  }

  #onData(data: Buffer): void {
    const all = this.#partial.length > 0 ? Buffer.concat([this.#partial, data]) : data;
    let offset = 0;
    for (; offset + TOKEN_BYTES <= all.length; offset += TOKEN_BYTES) {
      const token = all.readBigUInt64LE(offset);
      this.#waiting.get(token)?.();
      this.#waiting.delete(token);
    }
    this.#partial = Buffer.from(all.subarray(offset));
    if (this.#waiting.size === 0) this.#pipe.unref();
  }
}
