// Turns of many askers at a few places, per key: first come, first served, with a bound on who waits.
import { BulkheadError } from '../api/errors.ts';

interface Queue {
  taken: number;
  waiting: (() => void)[];
}

export class Turns {
  readonly #places: number;
  readonly #waitingMax: number;
  readonly #queues = new Map<string, Queue>();

  /** @param places per key; `waitingMax` askers more wait, any further one is refused. */
  constructor(places: number, waitingMax: number) {
    this.#places = places;
    this.#waitingMax = waitingMax;
  }

  /**
   * Resolves with the function that gives the place back. Fails with TOO_MANY_REQUESTS when too many wait, and with the
   * signal's reason when it aborts first.
   */
  async take(key: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const queue = this.#queues.get(key) ?? { taken: 0, waiting: [] };
    this.#queues.set(key, queue);
    if (queue.taken < this.#places) queue.taken++;
    else await this.#wait(queue, signal);
    let held = true;
    return () => {
      if (held) this.#giveBack(key, queue);
      held = false;
    };
  }

  #wait(queue: Queue, signal: AbortSignal): Promise<void> {
    if (queue.waiting.length >= this.#waitingMax)
      throw new BulkheadError('TOO_MANY_REQUESTS', `${this.#waitingMax} requests of this kind wait already`);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = (): void => {
      const at = queue.waiting.indexOf(proceed);
      if (at >= 0) queue.waiting.splice(at, 1);
      reject(signal.reason);
    };
    const proceed = (): void => {
      signal.removeEventListener('abort', leave);
      resolve();
    };
    signal.addEventListener('abort', leave, { once: true });
    queue.waiting.push(proceed);
    return promise;
  }

  /** Hands the place to who waits longest. */
  #giveBack(key: string, queue: Queue): void {
    const next = queue.waiting.shift();
    if (next !== undefined) {
      next();
      return;
    }
    queue.taken--;
    if (queue.taken === 0) this.#queues.delete(key);
  }
}
