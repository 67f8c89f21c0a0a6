// One controller per kind, fed by informers.
import type { Logger } from 'pino';
import type { Clock } from '../controller/clock.ts';
import { Controller, ignoreStatusChanges } from '../controller/controller.ts';
import { Informer } from '../controller/informer.ts';
import type { Manager } from '../controller/manager.ts';
import type { Reconciler } from '../controller/reconciler.ts';
import type { HostNetworks } from '../network/host-networks.ts';
import type { LeaseReconciler } from '../reconcilers/lease/reconciler.ts';
import type { SandboxReconciler } from '../reconcilers/sandbox/reconciler.ts';
import type { VolumeReconciler } from '../reconcilers/volume/reconciler.ts';
import type { Store } from '../store/store.ts';
import type { DeferredEnqueuer } from './deferred-enqueuer.ts';
import type { DaemonMetrics } from './metrics.ts';
import { addPolicyControllers } from './policy-controllers.ts';

interface Controllers {
  manager: Manager;
  store: Store;
  clock: Clock;
  log: Logger;
  metrics: DaemonMetrics;
  sandboxes: SandboxReconciler;
  deferred: DeferredEnqueuer;
  leases: LeaseReconciler;
  deferredLeases: DeferredEnqueuer;
  volumeReconciler: VolumeReconciler;
  deferredVolumes: DeferredEnqueuer;
  networks: HostNetworks;
}

/** Kinds of objects that sandboxes and policies refer to, beside Volumes. */
const REFERENCED_KINDS = ['Secret', 'ConfigMap'];

/** Adds informers and controllers to the manager; gives those that figures are read from. */
export function addControllers(parts: Controllers): { sandboxes: Informer; volumes: Informer } {
  const { manager, store, clock, log, metrics } = parts;
  const { sandboxes, deferred, leases, deferredLeases, volumeReconciler, deferredVolumes } = parts;
  const informers: Informer[] = [];
  const controllers: Controller[] = [];
  const informerOf = (kind: string): Informer => {
    const informer = new Informer({ store, kind, clock, log });
    informers.push(informer);
    return informer;
  };
  const controllerOf = (reconciler: Reconciler, informer: Informer): Controller => {
    const controller = new Controller({ reconciler, clock, log, ...metrics.ofController(reconciler.name) });
    controller.watch(informer, { matters: ignoreStatusChanges });
    controllers.push(controller);
    return controller;
  };

  const sandboxInformer = informerOf(sandboxes.kind);
  const sandboxController = controllerOf(sandboxes, sandboxInformer);
  deferred.target = sandboxController;
  const references = REFERENCED_KINDS.map(informerOf);
  for (const informer of references)
    sandboxController.watch(informer, { requests: (object) => sandboxes.dependents(object) });
  deferredLeases.target = controllerOf(leases, sandboxInformer);
  const volumeInformer = informerOf(volumeReconciler.kind);
  deferredVolumes.target = controllerOf(volumeReconciler, volumeInformer);
  sandboxController.watch(volumeInformer, { requests: (object) => sandboxes.dependents(object) });
  addPolicyControllers({ ...parts, informerOf, controllerOf, sandboxInformer, references });

  for (const informer of informers) manager.add(informer);
  for (const controller of controllers) manager.add(controller);
  return { sandboxes: sandboxInformer, volumes: volumeInformer };
}
