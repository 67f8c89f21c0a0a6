// Starts and stops the parts of a program in order.
import { type Clock, sleep } from './clock.ts';
import type { Log } from './log.ts';

/** What the manager runs. */
export interface Runnable {
  /** For the log. */
  readonly name: string;
  /** Resolves when it is ready for what depends on it. `fail` reports, later, that it cannot go on. */
  start(fail: (error: Error) => void): Promise<void>;
  /** Resolves when it has ended; may come before `start` has resolved, which then resolves too. Safe to repeat. */
  stop(): Promise<void>;
}

/** One part gets so long to stop, then it is left behind: what it holds must survive a `kill -9` anyway. */
const DEFAULT_STOP_TIMEOUT_MS = 30_000;

export interface ManagerOptions {
  clock: Clock;
  log: Log;
  stopTimeoutMs?: number;
}

export class Manager {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #stopTimeoutMs: number;
  readonly #runnables: Runnable[] = [];

  constructor(options: ManagerOptions) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#stopTimeoutMs = options.stopTimeoutMs ?? DEFAULT_STOP_TIMEOUT_MS;
  }

  /**
   * Parts start in the order of adding, each when the one before is ready, and stop in reverse: add caches first, then
   * controllers, then what feeds them (sources, servers).
   */
  add(runnable: Runnable): void {
    this.#runnables.push(runnable);
  }

  /**
   * Starts all parts, calls `ready`, and runs until `signal` aborts or a part fails; then stops what was started.
   * Throws the first failure, of a start or a running part.
   */
  async run(signal: AbortSignal, ready: () => void = () => undefined): Promise<void> {
    const ended = new AbortController();
    const end = (): void => ended.abort();
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
    let failure: Error | undefined;
    const fail = (error: Error): void => {
      failure ??= error;
      end();
    };
    const ending = new Promise<void>((resolve) => {
      ended.signal.addEventListener('abort', () => resolve());
      if (ended.signal.aborted) resolve();
    });

    const started: Runnable[] = [];
    for (const runnable of this.#runnables) {
      if (ended.signal.aborted) break;
      started.push(runnable);
      await Promise.race([this.#start(runnable, fail), ending]);
    }
    if (!ended.signal.aborted) ready();
    await ending;
    signal.removeEventListener('abort', end);
    for (const runnable of started.reverse()) await this.#stop(runnable);
    if (failure !== undefined) throw failure;
  }

  async #start(runnable: Runnable, fail: (error: Error) => void): Promise<void> {
    try {
      await runnable.start((error) => {
        this.#log.error({ part: runnable.name, error }, 'a part failed');
        fail(error);
      });
    } catch (error) {
      this.#log.error({ part: runnable.name, error }, 'a part did not start');
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #stop(runnable: Runnable): Promise<void> {
    const stopped = new AbortController();
    const stop = (async (): Promise<void> => {
      try {
        await runnable.stop();
      } catch (error) {
        this.#log.error({ part: runnable.name, error }, 'a part did not stop cleanly');
      }
    })();
    const late = sleep(this.#clock, this.#stopTimeoutMs, stopped.signal).then(() => 'late' as const);
    if ((await Promise.race([stop, late])) === 'late') {
      this.#log.error({ part: runnable.name, timeoutMs: this.#stopTimeoutMs }, 'a part did not stop in time');
    }
    stopped.abort();
  }
}
