// The one long effect of a volume that may be under way, and how the last one failed.
import { asBulkheadError } from '../../api/errors.ts';
import type { Clock } from '../../controller/clock.ts';
import { MESSAGE_MAX_CHARS, RETRY_BASE_MS, RETRY_JITTER, RETRY_MAX_MS } from './limits.ts';
import type { TaskFailure, TaskKind } from './observation.ts';

interface Task {
  kind: TaskKind;
  abort: AbortController;
  done: Promise<void>;
}

interface Failure extends Omit<TaskFailure, 'retryInMs'> {
  /** Monotonic time of the next attempt. */
  retryAt: number;
  /** Generation of the object it was made for; another one makes it void. */
  generation: number;
  told: boolean;
}

export class VolumeTasks {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #onSettled: () => void;
  #task: Task | undefined;
  #failure: Failure | undefined;
  #closed = false;

  /** `onSettled` is called after each task, however it ended. */
  constructor(clock: Clock, random: () => number, onSettled: () => void) {
    this.#clock = clock;
    this.#random = random;
    this.#onSettled = onSettled;
  }

  get current(): TaskKind | undefined {
    return this.#task?.kind;
  }

  /** The failure of the last attempt; gone when the object's generation is another one. */
  failure(generation: number): TaskFailure | undefined {
    if (this.#failure === undefined || this.#failure.generation !== generation) return undefined;
    const { retryAt, generation: _generation, told: _told, ...failure } = this.#failure;
    return { ...failure, retryInMs: retryAt - this.#clock.monotonic() };
  }

  /** True the first time after a failure: each becomes the outcome of one reconcile. */
  takeUntold(): boolean {
    if (this.#failure === undefined || this.#failure.told) return false;
    this.#failure.told = true;
    return true;
  }

  /** Sees to it that such a task is under way; cancels another one first, and waits after a failure of this one. */
  ensure(kind: TaskKind, generation: number, work: (signal: AbortSignal) => Promise<unknown>): void {
    if (this.#closed) return;
    if (this.#task !== undefined) {
      if (this.#task.kind !== kind) this.#task.abort.abort();
      return;
    }
    const failure = this.failure(generation);
    if (failure?.task === kind && (failure.terminal || failure.retryInMs > 0)) return;
    const abort = new AbortController();
    const task: Task = { kind, abort, done: Promise.resolve() };
    this.#task = task;
    task.done = this.#run(task, generation, work);
  }

  /** Nothing more is wanted: what failed before says nothing any more. */
  settle(): void {
    if (this.#task === undefined) this.#failure = undefined;
  }

  /** Cancels what is under way, lets nothing more begin, and waits for the end. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#task?.abort.abort();
    await this.#task?.done;
  }

  async #run(task: Task, generation: number, work: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
    try {
      await work(task.abort.signal);
      this.#failure = undefined;
    } catch (thrown) {
      // What a cancelled task says is of its cancelling.
      if (!task.abort.signal.aborted) this.#fail(task.kind, generation, thrown);
    }
    this.#task = undefined;
    this.#onSettled();
  }

  #fail(kind: TaskKind, generation: number, thrown: unknown): void {
    const error = asBulkheadError(thrown);
    const attempts = this.#failure?.task === kind ? this.#failure.attempts + 1 : 1;
    const wait = Math.min(RETRY_BASE_MS * 2 ** Math.min(attempts - 1, 16), RETRY_MAX_MS);
    this.#failure = {
      task: kind,
      code: error.code,
      reason: error.row.reason,
      message: error.message.slice(0, MESSAGE_MAX_CHARS),
      terminal: error.row.terminal && kind !== 'reclaim',
      attempts,
      retryAt: this.#clock.monotonic() + wait * (1 + RETRY_JITTER * this.#random()),
      generation,
      told: false,
    };
  }
}
