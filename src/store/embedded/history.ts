// The last changes, in order: what watches read from. A watch holds a position in it, never a queue of its own.
import type { StoredObject } from '../../api/meta.ts';

/** Default length: a watcher of 10,000 objects may lag one full round of status writes behind. */
export const MAX_HISTORY_CHANGES = 10_000;
/** Default size as JSON, so that large objects cannot make the history take all memory. */
export const MAX_HISTORY_BYTES = 32 * 1024 * 1024;

/** One change of one object. Resource versions have no gaps. */
export interface Change {
  resourceVersion: number;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** After the change; for DELETED its last state, with the resourceVersion of the deletion. */
  object: StoredObject;
  /** Before the change: tells a watch with a label selector whether the object came into view or left it. */
  previousLabels: Readonly<Record<string, string>> | undefined;
  /** Of the object as JSON. */
  bytes: number;
}

export class History {
  readonly #maxChanges: number;
  readonly #maxBytes: number;
  #changes: Change[] = [];
  /** Entries before this index are dropped; the array is cut only now and then, as cutting copies it. */
  #start = 0;
  #bytes = 0;
  #latest: number;

  /** `latest` is the version of the last change that is not in the history. */
  constructor(latest: number, limits: { maxChanges: number; maxBytes: number }) {
    this.#latest = latest;
    this.#maxChanges = limits.maxChanges;
    this.#maxBytes = limits.maxBytes;
  }

  /** Version of the newest change. */
  get latest(): number {
    return this.#latest;
  }

  /** A watch may start from this version or any later one, up to `latest`. */
  get floor(): number {
    return this.#latest - (this.#changes.length - this.#start);
  }

  append(change: Change): void {
    this.#changes.push(change);
    this.#latest = change.resourceVersion;
    this.#bytes += change.bytes;
    while (
      this.#changes.length - this.#start > this.#maxChanges ||
      (this.#bytes > this.#maxBytes && this.#changes.length - this.#start > 1)
    ) {
      this.#bytes -= this.#changes[this.#start]?.bytes ?? 0;
      this.#start += 1;
    }
    if (this.#start > this.#maxChanges) {
      this.#changes = this.#changes.slice(this.#start);
      this.#start = 0;
    }
  }

  /** The change with this version; undefined where it is not in the history. */
  at(resourceVersion: number): Change | undefined {
    return this.#changes[this.#start + resourceVersion - this.floor - 1];
  }
}
