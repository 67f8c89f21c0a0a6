// A reconciler and its controller need each other.
import type { Enqueuer } from '../controller/reconciler.ts';

/** The reconciler wakes keys of the controller that runs it: one of the two has to exist first. */
export class DeferredEnqueuer implements Enqueuer {
  target: Enqueuer | undefined;

  enqueue(request: Parameters<Enqueuer['enqueue']>[0]): void {
    this.target?.enqueue(request);
  }

  enqueueAfter(request: Parameters<Enqueuer['enqueueAfter']>[0], afterMs: number): void {
    this.target?.enqueueAfter(request, afterMs);
  }
}
