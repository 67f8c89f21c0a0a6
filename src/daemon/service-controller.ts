// The controller of Services that select sandboxes, with what wakes it.
import type { Clock } from '../controller/clock.ts';
import { Controller } from '../controller/controller.ts';
import type { Informer } from '../controller/informer.ts';
import type { Log } from '../controller/log.ts';
import type { Runnable } from '../controller/manager.ts';
import { ServiceReconciler } from '../reconcilers/service/reconciler.ts';
import type { ApiClient } from '../store/cluster/api-client.ts';
import { EndpointSlices } from '../store/cluster/endpoint-slices.ts';
import type { ControllerMetrics } from './controller-metrics.ts';

interface Parts {
  client: ApiClient;
  clock: Clock;
  log: Log;
  metrics: ControllerMetrics;
  services: Informer;
  /** Those that we wrote. */
  slices: Informer;
  sandboxes: Informer;
  nodes: Informer;
}

/** What is to be started, in this order, after the informers of sandboxes and nodes. */
export function serviceController(parts: Parts): Runnable[] {
  const { client, clock, log, metrics, services, slices, sandboxes, nodes } = parts;
  const written = new EndpointSlices(client);
  const reconciler = new ServiceReconciler(written, { services, sandboxes, nodes });
  const controller = new Controller({ reconciler, clock, log, ...metrics.ofController(reconciler.name) });
  controller.watch(services);
  controller.watch(sandboxes, { requests: (sandbox) => reconciler.servicesOf(sandbox) });
  slices.addHandler(({ type, object }) => {
    if (type !== 'deleted') {
      written.noteSlice(object);
      return;
    }
    const { namespace } = object.metadata;
    controller.enqueue({ kind: 'Service', namespace, name: written.forgetSlice(object) });
  });
  return [slices, services, controller];
}
