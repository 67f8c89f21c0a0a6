// Gives memory back after bursts. V8 collects when a process allocates, not when it rests: a daemon that launched ten
// thousand sandboxes would keep twice the memory that it uses until the next burst.
import type { Clock } from '../controller/clock.ts';
import type { Runnable } from '../controller/manager.ts';

/** How often to look. A burst (a launch, a resync) is over well within. */
const LOOK_EVERY_MS = 10_000;
/** Fewer bytes allocated since the last look mean that the daemon rests. */
const RESTING_BYTES = 16 * 1024 * 1024;
/** Grown by less than this since the last collection, what the heap takes of the host is not worth the pause of one. */
const WORTHWHILE_BYTES = 32 * 1024 * 1024;

/** What the process tells and does; replaced in tests. */
export interface Heap {
  usedBytes(): number;
  /** What it takes of the host. V8 keeps what a burst took, however little of it is used when the burst is over. */
  committedBytes(): number;
  /** Collects all that is garbage and returns free pages to the host. Blocks while it does. */
  collect(): void;
}

/** This process's heap; `undefined` where it was started without `--expose-gc`, unlike by bin/bulkhead. */
export function processHeap(): Heap | undefined {
  const { gc } = globalThis;
  if (gc === undefined) return undefined;
  return {
    usedBytes: () => process.memoryUsage().heapUsed,
    committedBytes: () => process.memoryUsage().heapTotal,
    collect: () => void gc({ type: 'major', flavor: 'last-resort', execution: 'sync' }),
  };
}

export class IdleMemory implements Runnable {
  readonly name = 'idle memory';
  readonly #heap: Heap;
  readonly #clock: Clock;
  #lastSeen: number;
  #afterCollection = 0;
  #cancel: (() => void) | undefined;

  constructor(heap: Heap, clock: Clock) {
    this.#heap = heap;
    this.#clock = clock;
    this.#lastSeen = heap.usedBytes();
  }

  async start(): Promise<void> {
    this.#cancel = this.#clock.after(LOOK_EVERY_MS, () => {
      this.#look();
      void this.start();
    });
  }

  async stop(): Promise<void> {
    this.#cancel?.();
  }

  #look(): void {
    const used = this.#heap.usedBytes();
    const resting = Math.abs(used - this.#lastSeen) < RESTING_BYTES;
    this.#lastSeen = used;
    if (!resting || this.#heap.committedBytes() - this.#afterCollection < WORTHWHILE_BYTES) return;
    this.#heap.collect();
    this.#afterCollection = this.#heap.committedBytes();
    this.#lastSeen = this.#heap.usedBytes();
  }
}
