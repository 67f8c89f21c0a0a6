// One reading of all metrics for everybody who asks at about the same time.

/** Above it a scrape is made anew. No monitoring asks twice within it, and hostile askers get no more work done than this. */
const FRESH_MS = 250;

/** Askers share the reading under way, and one that ended less than `FRESH_MS` ago: each costs files of every VM. */
export class SharedScrape<Scrape> {
  readonly #read: () => Promise<Scrape>;
  readonly #now: () => number;
  #last: { result: Promise<Scrape>; endedAt: number } | undefined;

  /** `now` in milliseconds; must not go back. */
  constructor(read: () => Promise<Scrape>, now: () => number) {
    this.#read = read;
    this.#now = now;
  }

  /** Rejects as the reading does; a reading that failed is not kept. */
  get(): Promise<Scrape> {
    if (this.#last === undefined || this.#now() - this.#last.endedAt >= FRESH_MS) this.#last = this.#start();
    return this.#last.result;
  }

  #start(): { result: Promise<Scrape>; endedAt: number } {
    const started = { result: this.#read(), endedAt: Infinity };
    started.result.then(
      () => {
        started.endedAt = this.#now();
      },
      () => {
        if (this.#last === started) this.#last = undefined;
      },
    );
    return started;
  }
}
