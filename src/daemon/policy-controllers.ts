// The controllers of network policies: one says of each policy where it is in force, one brings what holds into each sandbox.
import type { StoredObject } from '../api/meta.ts';
import type { DefaultedNetworkPolicy } from '../api/networkpolicy.ts';
import type { DefaultedSandbox } from '../api/sandbox.ts';
import type { Clock } from '../controller/clock.ts';
import { type Controller, ignoreStatusChanges } from '../controller/controller.ts';
import type { Informer } from '../controller/informer.ts';
import type { Reconciler, Request } from '../controller/reconciler.ts';
import type { NetworkPlane } from '../network/network-plane.ts';
import { PolicyBook, referencesOf } from '../reconcilers/networkpolicy/policies.ts';
import { PolicyProgrammer } from '../reconcilers/networkpolicy/programmer.ts';
import {
  NetworkPolicyReconciler,
  policiesOf,
  policiesReferringTo,
  sandboxesOf,
} from '../reconcilers/networkpolicy/reconciler.ts';
import { usesSecret } from '../reconcilers/networkpolicy/secrets.ts';
import type { Store } from '../store/store.ts';
import { DeferredEnqueuer } from './deferred-enqueuer.ts';

export interface PolicyControllers {
  store: Store;
  clock: Clock;
  networks: NetworkPlane;
  informerOf: (kind: string) => Informer;
  controllerOf: (reconciler: Reconciler, informer: Informer) => Controller;
  sandboxInformer: Informer;
  /** Of the kinds that policies refer to. */
  references: readonly Informer[];
}

function keyOf({ kind, metadata: { namespace, name } }: StoredObject): Request {
  return { kind, namespace, name };
}

export function addPolicyControllers(parts: PolicyControllers): void {
  const { store, clock, networks, informerOf, controllerOf, sandboxInformer, references } = parts;
  const book = new PolicyBook(store);
  const deferredPolicies = new DeferredEnqueuer();
  const deferredProgrammer = new DeferredEnqueuer();
  const policyInformer = informerOf('NetworkPolicy');
  const sandboxes = (namespace: string) => sandboxInformer.list(namespace);
  // Before every other handler: what a change wakes is to read the policies anew.
  policyInformer.addHandler(() => book.changed());
  for (const informer of references)
    informer.addHandler(({ object }) => {
      if (policiesReferringTo(keyOf(object), policyInformer.list()).length > 0) book.changed();
    });

  // A node of a cluster may read what a policy refers to once the policy selects a sandbox of the node.
  sandboxInformer.addHandler(({ type, object }) => {
    if (type !== 'added') return;
    const selecting = policiesOf(object, policyInformer.list());
    if (selecting.some((policy) => referencesOf(policy).length > 0)) book.changed();
  });

  const programmer = controllerOf(
    new PolicyProgrammer({
      ...{ store, book, plane: networks },
      enqueuer: deferredProgrammer,
      policies: deferredPolicies,
    }),
    sandboxInformer,
  );
  deferredProgrammer.target = programmer;
  const selected = (policy: StoredObject) =>
    sandboxesOf(policy as DefaultedNetworkPolicy, sandboxes).map(keyOf);
  programmer.watch(policyInformer, { matters: ignoreStatusChanges, requests: selected });

  const policies = controllerOf(
    new NetworkPolicyReconciler({ store, clock, plane: networks, book, sandboxes }),
    policyInformer,
  );
  deferredPolicies.target = policies;
  policies.watch(sandboxInformer, {
    matters: ignoreStatusChanges,
    requests: (sandbox) => policiesOf(sandbox, policyInformer.list()).map(keyOf),
  });
  for (const informer of references) {
    const referring = (object: StoredObject) => policiesReferringTo(keyOf(object), policyInformer.list());
    policies.watch(informer, { requests: (object) => referring(object).map(keyOf) });
    programmer.watch(informer, { requests: (object) => referring(object).flatMap(selected) });
    programmer.watch(informer, {
      requests: (object) =>
        sandboxes(object.metadata.namespace)
          .filter((sandbox) => usesSecret(sandbox as DefaultedSandbox, object))
          .map(keyOf),
    });
  }
}
