// EndpointSlices of Services that select sandboxes, one for each sandbox. They belong to the Service and go with it.
import { isIPv6 } from 'node:net';
import type { StoredObject } from '../../api/meta.ts';
import type { ApiClient } from './api-client.ts';
import { absentAsUndefined } from './failures.ts';

const DISCOVERY = 'discovery.k8s.io';
const FIELD_MANAGER = 'bulkhead';
/** Of the slices that we write, by which they are found. */
const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by';
export const OUR_SLICES = `${MANAGED_BY}=bulkhead.dev`;
const SERVICE_NAME = 'kubernetes.io/service-name';
/** Names of Services have at most 63 characters; a dash and a part of the sandbox's uid follow. */
const UID_PART = 12;

export interface Endpoints {
  sandbox: Pick<StoredObject, 'metadata'>;
  nodeName: string;
  address: string;
  ready: boolean;
  hostname?: string;
  ports: readonly { name: string; port: number; protocol: string }[];
}

export class EndpointSlices {
  readonly #client: ApiClient;
  /** By `NAMESPACE/SERVICE`: what was written last, by the slice's name. */
  readonly #written = new Map<string, Map<string, string>>();

  constructor(client: ApiClient) {
    this.#client = client;
  }

  /** A slice that is there, as an informer told; what is in it is not known. */
  noteSlice({ metadata }: StoredObject): void {
    const slices = this.#slicesOf(metadata.namespace, metadata.labels?.[SERVICE_NAME] ?? '');
    if (!slices.has(metadata.name)) slices.set(metadata.name, '');
  }

  /** A slice that is gone, whoever took it away. Returns the name of its Service. */
  forgetSlice({ metadata }: StoredObject): string {
    const service = metadata.labels?.[SERVICE_NAME] ?? '';
    this.#written.get(`${metadata.namespace}/${service}`)?.delete(metadata.name);
    return service;
  }

  /** These are all slices of the Service. What did not change costs no request. */
  async set(service: StoredObject, all: readonly Endpoints[]): Promise<void> {
    const { namespace, name, uid } = service.metadata;
    const slices = this.#slicesOf(namespace, name);
    const wanted = new Map(all.map((endpoints) => [sliceName(name, endpoints), endpoints]));
    for (const slice of [...slices.keys()]) {
      if (wanted.has(slice)) continue;
      await absentAsUndefined(this.#client.send({ method: 'DELETE', path: pathOf(namespace, slice) }));
      slices.delete(slice);
    }
    for (const [slice, endpoints] of wanted) {
      const body = sliceBody(service, slice, endpoints);
      const text = JSON.stringify([uid, body]);
      if (slices.get(slice) === text) continue;
      await this.#client.send({
        ...{ method: 'PATCH', path: pathOf(namespace, slice), body },
        contentType: 'application/apply-patch+yaml',
        query: { fieldManager: FIELD_MANAGER, force: 'true' },
      });
      slices.set(slice, text);
    }
    if (slices.size === 0) this.#written.delete(`${namespace}/${name}`);
  }

  forget(namespace: string, name: string): void {
    this.#written.delete(`${namespace}/${name}`);
  }

  #slicesOf(namespace: string, service: string): Map<string, string> {
    const id = `${namespace}/${service}`;
    const slices = this.#written.get(id) ?? new Map<string, string>();
    this.#written.set(id, slices);
    return slices;
  }
}

function sliceName(service: string, { sandbox }: Endpoints): string {
  return `${service}-${sandbox.metadata.uid.replaceAll('-', '').slice(0, UID_PART)}`;
}

function sliceBody(
  { metadata }: StoredObject,
  name: string,
  { sandbox, nodeName, address, ready, hostname, ports }: Endpoints,
): Record<string, unknown> {
  const { namespace, name: service, uid } = metadata;
  return {
    ...{ apiVersion: `${DISCOVERY}/v1`, kind: 'EndpointSlice' },
    metadata: {
      ...{ name, namespace },
      labels: { [SERVICE_NAME]: service, [MANAGED_BY]: 'bulkhead.dev' },
      ownerReferences: [{ apiVersion: 'v1', kind: 'Service', name: service, uid, controller: true }],
    },
    addressType: isIPv6(address) ? 'IPv6' : 'IPv4',
    ports,
    endpoints: [
      {
        ...{ addresses: [address], nodeName, ...(hostname === undefined ? {} : { hostname }) },
        conditions: { ready, serving: ready, terminating: sandbox.metadata.deletionTimestamp !== undefined },
        targetRef: { kind: 'Sandbox', namespace, name: sandbox.metadata.name, uid: sandbox.metadata.uid },
      },
    ],
  };
}

function pathOf(namespace: string, name: string): string {
  return `/apis/${DISCOVERY}/v1/namespaces/${encodeURIComponent(namespace)}/endpointslices/${encodeURIComponent(name)}`;
}
