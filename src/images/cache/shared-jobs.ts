// One job per key however many wait for it: a waiter that gives up leaves the others their job, the last one ends it.

import type { ImageProgress } from '../../api/wire.ts';

export type ProgressListener = (progress: ImageProgress) => void;

interface Job<T> {
  result: Promise<T>;
  abort: AbortController;
  waiters: number;
  listeners: Set<ProgressListener>;
  latest: ImageProgress | undefined;
}

export class SharedJobs<T> {
  readonly #jobs = new Map<string, Job<T>>();
  /** Jobs that have not ended, those among them that nobody may join any more included. */
  readonly #running = new Set<Job<T>>();

  /** The result of the job for `key`, which is started if none is under way. @throws the job's error, or the signal's reason. */
  async join(
    key: string,
    caller: { signal: AbortSignal; onProgress?: ProgressListener | undefined },
    start: (signal: AbortSignal, onProgress: ProgressListener) => Promise<T>,
  ): Promise<T> {
    caller.signal.throwIfAborted();
    const job = this.#jobs.get(key) ?? this.#start(key, start);
    job.waiters++;
    const { onProgress } = caller;
    if (onProgress !== undefined) {
      job.listeners.add(onProgress);
      if (job.latest !== undefined) onProgress(job.latest);
    }
    try {
      return await untilAborted(job.result, caller.signal);
    } finally {
      if (onProgress !== undefined) job.listeners.delete(onProgress);
      job.waiters--;
      if (job.waiters === 0 && this.#jobs.get(key) === job) {
        // Nobody may join a job that is being ended.
        this.#jobs.delete(key);
        job.abort.abort();
      }
    }
  }

  /** Ends all jobs, and waits until they have cleaned up. */
  async close(reason: unknown): Promise<void> {
    const jobs = [...this.#running];
    for (const job of jobs) job.abort.abort(reason);
    await Promise.allSettled(jobs.map((job) => job.result));
  }

  #start(key: string, start: (signal: AbortSignal, onProgress: ProgressListener) => Promise<T>): Job<T> {
    const abort = new AbortController();
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const job: Job<T> = { result: promise, abort, waiters: 0, listeners: new Set(), latest: undefined };
    this.#running.add(job);
    start(abort.signal, (progress) => {
      job.latest = progress;
      for (const listener of job.listeners) listener(progress);
    })
      .finally(() => {
        this.#running.delete(job);
        if (this.#jobs.get(key) === job) this.#jobs.delete(key);
      })
      .then(resolve, reject);
    // After the last waiter has gone nobody hears of the end.
    job.result.catch(() => undefined);
    this.#jobs.set(key, job);
    return job;
  }
}

async function untilAborted<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([result, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
