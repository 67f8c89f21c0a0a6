// Which reconcile a line of the log belongs to: the id of the attempt, the object and its uid, in every line that is written while
// it runs and by what it sets going, however deep the code that writes it.
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import type { LogFields } from './log.ts';
import type { Request } from './reconciler.ts';

const current = new AsyncLocalStorage<LogFields>();

export interface ReconcileSubject {
  /** Name of the reconciler. */
  controller: string;
  object: Request;
  /** Absent where the object is gone. */
  uid?: string;
}

/** Runs `work` as a reconcile of its own. */
export function asReconcile<T>({ controller, object, uid }: ReconcileSubject, work: () => T): T {
  const { kind, namespace, name } = object;
  const fields = { controller, reconcile: randomUUID(), object: { kind, namespace, name } };
  return current.run(uid === undefined ? fields : { ...fields, uid }, work);
}

/** For pino's `mixin`: a new object each time, as pino adds the line's own fields to it. */
export function reconcileFields(): Record<string, unknown> {
  return { ...current.getStore() };
}
