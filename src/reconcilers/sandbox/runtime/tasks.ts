// The one long effect of a sandbox that may be under way, and how the last one failed.

import { asBulkheadError } from '../../../api/errors.ts';
import type { ImageProgress } from '../../../api/wire.ts';
import type { Clock } from '../../../controller/clock.ts';

import { IMAGE_RECHECK_MS, MESSAGE_MAX_CHARS, RETRY_BASE_MS, RETRY_JITTER, RETRY_MAX_MS } from '../limits.ts';
import type { TaskFailure, TaskKind } from '../observation.ts';

interface Task {
  kind: TaskKind;
  abort: AbortController;
  /** Something that it may fail for has changed since it began: its failure says nothing. */
  outdated: boolean;
  pull?: ImageProgress;
  done: Promise<void>;
}

interface Failure extends Omit<TaskFailure, 'retryInMs'> {
  /** Monotonic time of the next attempt; Infinity for none. */
  retryAt: number;
  /** What it depended on; another value makes it void. */
  inputs: string;
  /** Told as the outcome of a reconcile already. */
  told: boolean;
}

export class TaskSlot {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #onSettled: () => void;
  #task: Task | undefined;
  #failure: Failure | undefined;
  #closed = false;

  /** `onSettled` is called after each task, however it ended, when the slot is free again. */
  constructor(clock: Clock, random: () => number, onSettled: () => void) {
    this.#clock = clock;
    this.#random = random;
    this.#onSettled = onSettled;
  }

  get current(): { kind: TaskKind; pull?: ImageProgress } | undefined {
    const task = this.#task;
    if (task === undefined) return undefined;
    return task.pull === undefined ? { kind: task.kind } : { kind: task.kind, pull: task.pull };
  }

  /** The failure of the last attempt; gone when `inputs` are no longer those with which it was made. */
  failure(inputs: string): TaskFailure | undefined {
    const failure = this.#failure;
    if (failure === undefined) return undefined;
    if (failure.inputs !== inputs && this.#task === undefined) {
      this.#failure = undefined;
      return undefined;
    }
    const { task, code, reason, message, terminal, attempts } = failure;
    const retryInMs = failure.retryAt - this.#clock.monotonic();
    return { task, code, reason, message, terminal, attempts, retryInMs };
  }

  /** The failure as the outcome of one reconcile: each is told once. */
  takeUntold(): Failure | undefined {
    if (this.#failure === undefined || this.#failure.told) return undefined;
    this.#failure.told = true;
    return this.#failure;
  }

  /**
   * Sees to it that a task of this kind is under way: does nothing when one is, cancels one of another kind first (its
   * end wakes the key, which comes back here), and waits after a failure.
   */
  ensure(kind: TaskKind, inputs: string, work: (signal: AbortSignal) => Promise<void>): void {
    if (this.#closed) return;
    if (this.#task !== undefined) {
      if (this.#task.kind !== kind) this.#task.abort.abort();
      return;
    }
    const failure = this.failure(inputs);
    if (failure?.task === kind && failure.retryInMs > 0) return;
    if (failure !== undefined && failure.task !== kind) this.#failure = undefined;
    const abort = new AbortController();
    const task: Task = { kind, abort, outdated: false, done: Promise.resolve() };
    this.#task = task;
    task.done = this.#run(task, inputs, work);
  }

  /**
   * Something that tasks of this kind may fail for has changed: their failure is void, also that of one under way.
   * True when there was a failure: the key is to be looked at again.
   */
  outdate(kind: TaskKind): boolean {
    if (this.#task?.kind === kind) this.#task.outdated = true;
    if (this.#failure?.task !== kind) return false;
    this.#failure = undefined;
    return this.#task === undefined;
  }

  progress(pull: ImageProgress): void {
    if (this.#task?.kind === 'pull') this.#task.pull = pull;
  }

  /** Cancels what is under way and lets nothing more begin. */
  close(): void {
    this.#closed = true;
    this.cancel();
  }

  cancel(): void {
    this.#task?.abort.abort();
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.#task?.done;
  }

  async #run(task: Task, inputs: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    try {
      await work(task.abort.signal);
      this.#failure = undefined;
    } catch (thrown) {
      // What a cancelled task says is of its cancelling.
      if (!task.abort.signal.aborted && !task.outdated) this.#fail(task.kind, inputs, thrown);
    }
    this.#task = undefined;
    this.#onSettled();
  }

  #fail(kind: TaskKind, inputs: string, thrown: unknown): void {
    const error = asBulkheadError(thrown);
    const terminal = error.row.terminal && kind !== 'release' && kind !== 'stop';
    const attempts = this.#failure?.task === kind ? this.#failure.attempts + 1 : 1;
    this.#failure = {
      task: kind,
      code: error.code,
      reason: error.row.reason,
      message: error.message.slice(0, MESSAGE_MAX_CHARS),
      terminal,
      attempts,
      retryAt:
        this.#clock.monotonic() + waitAfter(kind, terminal, attempts) * (1 + RETRY_JITTER * this.#random()),
      inputs,
      told: false,
    };
  }
}

/** Milliseconds until the next attempt; Infinity where none can help before something changes. */
function waitAfter(kind: TaskKind, terminal: boolean, attempts: number): number {
  if (!terminal) return Math.min(RETRY_BASE_MS * 2 ** Math.min(attempts - 1, 16), RETRY_MAX_MS);
  return kind === 'pull' ? IMAGE_RECHECK_MS : Number.POSITIVE_INFINITY;
}
