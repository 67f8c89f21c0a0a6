// What the NetworkPolicy reconcilers are given from outside.
import type { StoredObject } from '../../api/meta.ts';
import type { Clock } from '../../controller/clock.ts';
import type { Enqueuer } from '../../controller/reconciler.ts';
import type { NetworkPlane } from '../../network/network-plane.ts';
import type { Store } from '../../store/store.ts';
import type { PolicyBook } from './policies.ts';

export interface ProgrammerDeps {
  store: Store;
  plane: NetworkPlane;
  book: PolicyBook;
  /** Of the controller that runs the programmer. */
  enqueuer: Enqueuer;
  /** Of the controller of NetworkPolicies, whose counts change with what is programmed. */
  policies: Enqueuer;
}

export interface NetworkPolicyReconcilerDeps {
  store: Store;
  plane: NetworkPlane;
  book: PolicyBook;
  /** Sandboxes of a namespace: the informer's. */
  sandboxes: (namespace: string) => readonly StoredObject[];
  clock: Clock;
}
