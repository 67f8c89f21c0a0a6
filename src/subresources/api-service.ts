// What the controllers tell the cluster of themselves: the authority of the API that they serve, and that of nodes.
import { Buffer } from 'node:buffer';
import { API_VERSION } from '../api/meta.ts';
import { SUBRESOURCES_GROUP } from '../api/subresources.ts';
import type { ApiClient } from '../store/cluster/api-client.ts';
import { isJsonObject } from '../store/merge-patch.ts';

export const API_SERVICE = `${API_VERSION}.${SUBRESOURCES_GROUP}`;
/** Of the authority of nodes, without its key, for agents; in the namespace of Bulkhead's own parts. */
export const NODE_AUTHORITY_CONFIG_MAP = 'bulkhead-node-authority';
export const NODE_AUTHORITY_KEY = 'ca.crt';

const FIELD_MANAGER = 'bulkhead';

/** By this the API server verifies who serves. Costs one read where it is known already; NOT_FOUND where nobody made the APIService. */
export async function publishServingAuthority(client: ApiClient, certificate: string): Promise<void> {
  const path = `/apis/apiregistration.k8s.io/v1/apiservices/${API_SERVICE}`;
  const present = await client.send({ method: 'GET', path });
  const spec = isJsonObject(present) && isJsonObject(present.spec) ? present.spec : {};
  const caBundle = Buffer.from(certificate).toString('base64');
  if (spec.caBundle === caBundle) return;
  await client.send({
    ...{ method: 'PATCH', path, body: { spec: { caBundle } }, contentType: 'application/merge-patch+json' },
    query: { fieldManager: FIELD_MANAGER },
  });
}

export async function publishNodeAuthority(
  client: ApiClient,
  namespace: string,
  certificate: string,
): Promise<void> {
  const body = {
    ...{ apiVersion: 'v1', kind: 'ConfigMap' },
    metadata: {
      ...{ namespace, name: NODE_AUTHORITY_CONFIG_MAP },
      labels: { 'app.kubernetes.io/managed-by': 'bulkhead' },
    },
    data: { [NODE_AUTHORITY_KEY]: certificate },
  };
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/configmaps/${NODE_AUTHORITY_CONFIG_MAP}`;
  await client.send({
    ...{ method: 'PATCH', path, body, contentType: 'application/apply-patch+yaml' },
    query: { fieldManager: FIELD_MANAGER, force: 'true' },
  });
}
