// The controller that says where in a cluster each NetworkPolicy is in force, with what wakes it.
import { isDeepStrictEqual } from 'node:util';
import type { StoredObject } from '../api/meta.ts';
import type { DefaultedSandbox } from '../api/sandbox.ts';
import type { Clock } from '../controller/clock.ts';
import { Controller, ignoreStatusChanges } from '../controller/controller.ts';
import type { Informer, Notification } from '../controller/informer.ts';
import type { Log } from '../controller/log.ts';
import { policiesOf } from '../reconcilers/networkpolicy/reconciler.ts';
import { PolicySummaryReconciler } from '../reconcilers/networkpolicy/summary.ts';
import type { Store } from '../store/store.ts';
import type { ControllerMetrics } from './controller-metrics.ts';

/** Sandboxes change in crowds, and each count is of all of them: counted once for so long. */
const COUNT_AFTER_MS = 500;

interface Parts {
  store: Store;
  clock: Clock;
  log: Log;
  metrics: ControllerMetrics;
  policies: Informer;
  sandboxes: Informer;
}

export function policySummaryController(parts: Parts): Controller {
  const { store, clock, log, metrics, policies, sandboxes } = parts;
  const reconciler = new PolicySummaryReconciler(store, clock, { policies, sandboxes });
  const controller = new Controller({ reconciler, clock, log, ...metrics.ofController(reconciler.name) });
  controller.watch(policies, { matters: ignoreStatusChanges });
  // What is in force in one sandbox comes of all policies that select it: the counts of each change with any.
  policies.addHandler((notification) => {
    if (!ignoreStatusChanges(notification)) return;
    for (const { metadata } of policies.list(notification.object.metadata.namespace))
      controller.enqueueAfter(keyOf(metadata), COUNT_AFTER_MS);
  });
  sandboxes.addHandler((notification) => {
    if (!isCounted(notification)) return;
    for (const each of [notification.object, notification.previous].filter((object) => object !== undefined))
      for (const { metadata } of policiesOf(each, policies.list(each.metadata.namespace)))
        controller.enqueueAfter(keyOf(metadata), COUNT_AFTER_MS);
  });
  return controller;
}

function isCounted({ type, object, previous }: Notification): boolean {
  if (type === 'resync') return false;
  if (previous === undefined) return true;
  const counted = ({ metadata, status }: StoredObject) => [
    metadata.labels,
    (status as DefaultedSandbox['status'])?.network,
  ];
  return !isDeepStrictEqual(counted(object), counted(previous));
}

function keyOf({ namespace, name }: StoredObject['metadata']) {
  return { kind: 'NetworkPolicy', namespace, name };
}
