// Where the API server keeps the objects of each kind: ours, and those of Kubernetes that the cluster's parts work with.
import { BulkheadError } from '../../api/errors.ts';
import { apiVersionOf, kindNamed } from '../../api/kinds.ts';
import type { ObjectKey } from '../store.ts';

/** By kind. Nodes are in no namespace. */
const KUBERNETES_KINDS: Readonly<
  Record<string, { apiVersion: string; plural: string; namespaced: boolean }>
> = {
  Pod: { apiVersion: 'v1', plural: 'pods', namespaced: true },
  Node: { apiVersion: 'v1', plural: 'nodes', namespaced: false },
  Service: { apiVersion: 'v1', plural: 'services', namespaced: true },
  EndpointSlice: { apiVersion: 'discovery.k8s.io/v1', plural: 'endpointslices', namespaced: true },
  CertificateSigningRequest: {
    ...{ apiVersion: 'certificates.k8s.io/v1', plural: 'certificatesigningrequests', namespaced: false },
  },
  Lease: { apiVersion: 'coordination.k8s.io/v1', plural: 'leases', namespaced: true },
};

interface Resource {
  apiVersion: string;
  plural: string;
  namespaced: boolean;
}

/** Fails with BAD_REQUEST for a kind that no part of ours works with. */
export function resourceOf(kind: string): Resource {
  const ours = kindNamed(kind);
  if (ours !== undefined) return { apiVersion: apiVersionOf(ours), plural: ours.plural, namespaced: true };
  const resource = KUBERNETES_KINDS[kind];
  if (resource === undefined) throw new BulkheadError('BAD_REQUEST', `There is no kind "${kind}".`);
  return resource;
}

/** All objects of a kind, or those of one namespace. */
export function collectionPath(kind: string, namespace?: string): string {
  const { apiVersion, plural, namespaced } = resourceOf(kind);
  const root = apiVersion.includes('/') ? '/apis' : '/api';
  const within = namespace === undefined || !namespaced ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}/${apiVersion}${within}/${plural}`;
}

export function objectPath({ kind, namespace, name }: ObjectKey): string {
  return `${collectionPath(kind, namespace)}/${encodeURIComponent(name)}`;
}
