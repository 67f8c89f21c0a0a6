// The commands that this program runs in one sandbox.
import { failure } from './errors.ts';
import type { ExecHandle } from './exec.ts';

export class Commands {
  /** Each ends later; those that still connect are among them. */
  readonly #running = new Set<Promise<void>>();
  #isDraining = false;

  /** Counts one in. Fails with SANDBOX_NOT_RUNNING where no more are taken. */
  async run(start: () => Promise<ExecHandle>): Promise<ExecHandle> {
    if (this.#isDraining)
      throw failure('SANDBOX_NOT_RUNNING', 'the sandbox is being drained: it takes no more commands');
    return this.follow(start());
  }

  /** Counts in one that runs already. */
  follow(starting: Promise<ExecHandle>): Promise<ExecHandle> {
    const ended = starting.then(
      (handle) => handle.ended,
      () => {},
    );
    this.#running.add(ended);
    void ended.then(() => this.#running.delete(ended));
    return starting;
  }

  /** Takes no more, and resolves when all have ended. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    await Promise.all(this.#running);
  }
}
