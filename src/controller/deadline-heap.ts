// Keys by the time they are due: a binary heap.

export interface Deadline {
  /** Milliseconds on the monotonic clock. */
  at: number;
  key: string;
}

export class DeadlineHeap {
  #items: Deadline[];

  /** In time proportional to the number of items. */
  constructor(items: Iterable<Deadline> = []) {
    this.#items = [...items];
    for (let i = (this.#items.length >> 1) - 1; i >= 0; i -= 1) this.#sink(i);
  }

  get size(): number {
    return this.#items.length;
  }

  peek(): Deadline | undefined {
    return this.#items[0];
  }

  push(item: Deadline): void {
    this.#items.push(item);
    let at = this.#items.length - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#swapIfLater(parent, at)) break;
      at = parent;
    }
  }

  pop(): Deadline | undefined {
    const first = this.#items[0];
    const last = this.#items.pop();
    if (last !== undefined && this.#items.length > 0) {
      this.#items[0] = last;
      this.#sink(0);
    }
    return first;
  }

  #sink(from: number): void {
    let at = from;
    for (;;) {
      const left = 2 * at + 1;
      const smaller = this.#at(left + 1) < this.#at(left) ? left + 1 : left;
      if (!this.#swapIfLater(at, smaller)) return;
      at = smaller;
    }
  }

  /** Infinity past the end, so that a missing child is never the smaller one. */
  #at(index: number): number {
    return this.#items[index]?.at ?? Number.POSITIVE_INFINITY;
  }

  #swapIfLater(upper: number, lower: number): boolean {
    const [a, b] = [this.#items[upper], this.#items[lower]];
    if (a === undefined || b === undefined || a.at <= b.at) return false;
    this.#items[upper] = b;
    this.#items[lower] = a;
    return true;
  }
}
