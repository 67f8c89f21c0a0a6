// How many streams of one sort may be open at a time.
import { BulkheadError } from '../api/errors.ts';

export interface AdmissionLimits {
  /** In a sentence. */
  readonly what: string;
  readonly total: number;
  readonly perSandbox: number;
}

export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #bySandbox = new Map<string, number>();
  #open = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  /** Counts one more for the sandbox until the returned function is called. Fails with TOO_MANY_REQUESTS. */
  admit(uid: string): () => void {
    const { what, total, perSandbox } = this.#limits;
    const ofSandbox = this.#bySandbox.get(uid) ?? 0;
    if (this.#open >= total || ofSandbox >= perSandbox) {
      const limit = this.#open >= total ? `${total} in all` : `${perSandbox} per sandbox`;
      throw new BulkheadError('TOO_MANY_REQUESTS', `too many open ${what}: at most ${limit}`);
    }
    this.#open++;
    this.#bySandbox.set(uid, ofSandbox + 1);
    return () => {
      this.#open--;
      const left = (this.#bySandbox.get(uid) ?? 1) - 1;
      if (left > 0) this.#bySandbox.set(uid, left);
      else this.#bySandbox.delete(uid);
    };
  }
}
