// The logs of all sandboxes of this host: writers for the output pumps, readers for the server.
import { join } from 'node:path';

import { type LogEntry, type LogReadOptions, readLog } from './reader.ts';
import { listSegments } from './segments.ts';
import { LogWriter } from './writer.ts';

export type { LogEntry, LogReadOptions } from './reader.ts';

interface OpenLog {
  run: number | undefined;
  listeners: Set<() => void>;
}

export class SandboxLogs {
  readonly #sandboxesDir: string;
  readonly #now: () => number;
  readonly #onError: (uid: string, error: Error) => void;
  readonly #open = new Map<string, OpenLog>();

  constructor(sandboxesDir: string, now: () => number, onError: (uid: string, error: Error) => void) {
    this.#sandboxesDir = sandboxesDir;
    this.#now = now;
    this.#onError = onError;
  }

  /** Opens a run's log at its end; `close` of the result ends its followers. */
  async writer(uid: string, run: number): Promise<LogWriter> {
    const log = this.#entry(uid);
    log.run = run;
    return LogWriter.open({
      dir: this.#dir(uid),
      run,
      now: this.#now,
      onAppend: () => this.#wake(log),
      onError: (error) => this.#onError(uid, error),
    });
  }

  /** The pump of this run is at its end: followers read the rest and finish. */
  finish(uid: string, run: number): void {
    const log = this.#open.get(uid);
    if (log?.run !== run) return;
    log.run = undefined;
    this.#wake(log);
    if (log.listeners.size === 0) this.#open.delete(uid);
  }

  /** The sandbox is gone: its followers finish. */
  forget(uid: string): void {
    const log = this.#open.get(uid);
    if (log === undefined) return;
    log.run = undefined;
    this.#wake(log);
    this.#open.delete(uid);
  }

  /** Output of the last run, or of the one before it, in the order of arrival. */
  async *read(uid: string, options: LogReadOptions): AsyncGenerator<LogEntry> {
    const dir = this.#dir(uid);
    const written = (await listSegments(dir)).at(-1)?.run;
    const current = Math.max(this.#open.get(uid)?.run ?? 0, written ?? 0);
    if (current === 0) return;
    yield* readLog(
      dir,
      current,
      {
        isOpen: (run) => this.#open.get(uid)?.run === run,
        changed: (signal) => this.#changed(uid, signal),
      },
      options,
    );
  }

  #changed(uid: string, signal: AbortSignal): Promise<void> {
    const log = this.#entry(uid);
    return new Promise((resolve) => {
      const done = (): void => {
        log.listeners.delete(done);
        signal.removeEventListener('abort', done);
        if (log.listeners.size === 0 && log.run === undefined) this.#open.delete(uid);
        resolve();
      };
      if (signal.aborted) return resolve();
      log.listeners.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  #entry(uid: string): OpenLog {
    let log = this.#open.get(uid);
    if (log === undefined) {
      log = { run: undefined, listeners: new Set() };
      this.#open.set(uid, log);
    }
    return log;
  }

  #wake(log: OpenLog): void {
    for (const listener of [...log.listeners]) listener();
  }

  #dir(uid: string): string {
    return join(this.#sandboxesDir, uid, 'logs');
  }
}
