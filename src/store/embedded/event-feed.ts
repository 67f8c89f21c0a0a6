// Events to those who watch them, as they are committed.
import { BulkheadError } from '../../api/errors.ts';
import type { StoredEvent } from '../store.ts';

/** A watcher may be so many events behind; then it is told that it has missed some. Half a megabyte at most in practice. */
export const EVENTS_BEHIND_MAX = 1_000;

interface Watcher {
  waiting: StoredEvent[];
  overrun: boolean;
  wake(): void;
}

export class EventFeed {
  readonly #watchers = new Set<Watcher>();

  publish(events: readonly StoredEvent[]): void {
    if (events.length === 0) return;
    for (const watcher of this.#watchers) {
      watcher.overrun ||= watcher.waiting.length + events.length > EVENTS_BEHIND_MAX;
      if (watcher.overrun) watcher.waiting = [];
      else watcher.waiting.push(...events);
      watcher.wake();
    }
  }

  /** From this call on, also before the first `next`. Ends when `signal` aborts. Throws EXPIRED where it fell behind. */
  watch(signal: AbortSignal): AsyncGenerator<StoredEvent, void, undefined> {
    const watcher: Watcher = { waiting: [], overrun: false, wake: () => {} };
    this.#watchers.add(watcher);
    const leave = (): void => {
      this.#watchers.delete(watcher);
      watcher.wake();
    };
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    return this.#deliver(watcher, signal, leave);
  }

  async *#deliver(watcher: Watcher, signal: AbortSignal, leave: () => void): AsyncGenerator<StoredEvent> {
    try {
      while (!signal.aborted) {
        if (watcher.overrun) {
          throw new BulkheadError('EXPIRED', `The watch is more than ${EVENTS_BEHIND_MAX} events behind.`);
        }
        const events = watcher.waiting;
        watcher.waiting = [];
        yield* events;
        if (watcher.waiting.length === 0 && !watcher.overrun && !signal.aborted) {
          await new Promise<void>((resolve) => {
            watcher.wake = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener('abort', leave);
      leave();
    }
  }
}
