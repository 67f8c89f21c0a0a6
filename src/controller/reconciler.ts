// What the controller runtime asks of a reconciler. Level based: a request is a key, never a change.
import type { ObjectKey } from '../store/store.ts';

/** The object to bring one step closer to what its spec asks. */
export type Request = ObjectKey;

/**
 * How one reconcile ended. Exactly one of these; a throw counts as `transient`.
 *
 * - `done`: nothing more to do until something changes.
 * - `requeue`: look again after `afterMs`, without counting as a failure.
 * - `transient`: try again with exponential back-off.
 * - `terminal`: no retry helps; waits for a change of the object. The reconciler has already said why in `Stalled`.
 */
export type Outcome =
  | { type: 'done' }
  | { type: 'requeue'; afterMs: number }
  | { type: 'transient'; error: Error }
  | { type: 'terminal'; error: Error };

export interface Reconciler {
  /** Metrics label and log name, e.g. `sandbox`. */
  readonly name: string;
  /** Kind this reconciler owns. */
  readonly kind: string;
  /** One step. Must be safe to call at any time, for an object in any state, also for one that is gone. */
  reconcile(request: Request, signal: AbortSignal): Promise<Outcome>;
}

/** Wakes a key from outside the store: a VM exited, a pull finished, a deadline passed. */
export interface Enqueuer {
  enqueue(request: Request): void;
  enqueueAfter(request: Request, afterMs: number): void;
}
