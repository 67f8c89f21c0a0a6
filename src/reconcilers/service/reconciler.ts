// Keeps the EndpointSlices of Services that select sandboxes.
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { Informer } from '../../controller/informer.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import { endpointsOf, isSelected, type SandboxEndpoints, type Service, selectorOf } from './endpoints.ts';

/** The slices of a cluster. Each call is cheap where nothing changes. */
export interface Slices {
  /** These are all of the Service. */
  set(service: StoredObject, endpoints: readonly SandboxEndpoints[]): Promise<void>;
  /** The Service is gone, and its slices with it. */
  forget(namespace: string, name: string): void;
}

type Caches = Readonly<Record<'services' | 'sandboxes' | 'nodes', Pick<Informer, 'get' | 'list'>>>;

interface NodeStatus {
  addresses?: { type: string; address: string }[];
}

export class ServiceReconciler implements Reconciler {
  readonly name = 'service';
  readonly kind = 'Service';
  readonly #slices: Slices;
  readonly #caches: Caches;

  constructor(slices: Slices, caches: Caches) {
    this.#slices = slices;
    this.#caches = caches;
  }

  async reconcile({ namespace, name }: Request): Promise<Outcome> {
    const service = this.#caches.services.get(namespace, name) as Service | undefined;
    if (service === undefined) this.#slices.forget(namespace, name);
    else await this.#slices.set(service, this.#endpoints(service));
    return { type: 'done' };
  }

  /** Services that select a sandbox. */
  servicesOf(sandbox: StoredObject): Request[] {
    return this.#caches.services
      .list(sandbox.metadata.namespace)
      .filter((service) => {
        const selector = selectorOf(service as Service);
        return selector !== undefined && isSelected(selector, sandbox);
      })
      .map(({ kind, metadata: { namespace, name } }) => ({ kind, namespace, name }));
  }

  #endpoints(service: Service): SandboxEndpoints[] {
    const selector = selectorOf(service);
    if (selector === undefined) return [];
    return (this.#caches.sandboxes.list(service.metadata.namespace) as DefaultedSandbox[])
      .filter((sandbox) => isSelected(selector, sandbox))
      .map((sandbox) => endpointsOf(service, sandbox, (nodeName) => this.#addressOf(nodeName)))
      .filter((endpoints) => endpoints !== undefined);
  }

  #addressOf(nodeName: string): string | undefined {
    const { addresses = [] } = (this.#caches.nodes.get('', nodeName)?.status ?? {}) as NodeStatus;
    return addresses.find(({ type }) => type === 'InternalIP')?.address;
  }
}
