// A daemon process as the fakes see it: it can be killed between any two of its calls to the outside.

/** What a killed process waits for: it never comes. */
function never<T>(): Promise<T> {
  return new Promise(() => {});
}

/**
 * Every fake asks its process before and after each call. `killAt` kills it at the n-th of these moments: the call does
 * not begin, or its effect is there but its caller never hears of it. Nothing of a killed process goes on.
 */
export class FakeProcess {
  /** Moments passed so far, by name; shows a test what there is to kill at. */
  readonly moments: string[] = [];
  #dead = false;
  #killAt: number | undefined;
  readonly #keep: number;
  readonly #death = Promise.withResolvers<void>();

  /** At most `keep` moments are kept; only as many can be killed at. */
  constructor(killAt?: number, keep = Number.POSITIVE_INFINITY) {
    this.#killAt = killAt;
    this.#keep = keep;
  }

  get dead(): boolean {
    return this.#dead;
  }

  /** Resolves when it was killed. */
  get death(): Promise<void> {
    return this.#death.promise;
  }

  kill(): void {
    this.#dead = true;
    this.#death.resolve();
  }

  /** One call to the outside. */
  async call<T>(name: string, work: () => Promise<T>): Promise<T> {
    this.#pass(`before ${name}`);
    if (this.#dead) return never();
    let result: T;
    try {
      result = await work();
    } catch (error) {
      this.#pass(`after failed ${name}`);
      if (this.#dead) return never();
      throw error;
    }
    this.#pass(`after ${name}`);
    if (this.#dead) return never();
    return result;
  }

  /** What the world tells a process; a dead one hears nothing. */
  async hear<T>(news: Promise<T>): Promise<T> {
    const told = await news;
    return this.#dead ? never() : told;
  }

  #pass(moment: string): void {
    if (this.#dead || this.moments.length >= this.#keep) return;
    this.moments.push(moment);
    if (this.moments.length === this.#killAt) this.kill();
  }
}
