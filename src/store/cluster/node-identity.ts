// A node's own name towards the API server. All agents run under one service account; each asks for tokens of another one that is
// its node's alone, which may read what sandboxes of that node refer to.
import { BulkheadError } from '../../api/errors.ts';
import { isJsonObject } from '../merge-patch.ts';
import type { ApiClient } from './api-client.ts';
import type { ApiServer } from './kube-config.ts';

/** Of a token: who steals one can use it for so long, and until the sandboxes it is for have left the node. */
const TOKEN_SECONDS = 3_600;
/** A token is renewed after this part of its time. */
const RENEW_AFTER = 0.8;

/** Name of the service account of a node, in the namespace of Bulkhead's own parts. */
export function nodeAccountName(nodeName: string): string {
  return `node-${nodeName}`;
}

/** The API server as it is for a node's own account. `client` is the agent's. */
export function asNode(
  server: ApiServer,
  client: ApiClient,
  account: { namespace: string; nodeName: string },
): ApiServer {
  let token: { text: string; renewAt: number } | undefined;
  const renewed = async (): Promise<string> => {
    if (token !== undefined && Date.now() < token.renewAt) return token.text;
    const text = await requestToken(client, account);
    token = { text, renewAt: Date.now() + TOKEN_SECONDS * RENEW_AFTER * 1_000 };
    return text;
  };
  return {
    url: server.url,
    async credentials() {
      const [{ headers, dispatcher }, text] = await Promise.all([server.credentials(), renewed()]);
      return { headers: { ...withoutAuthorization(headers), Authorization: `Bearer ${text}` }, dispatcher };
    },
    refused() {
      token = undefined;
    },
  };
}

function withoutAuthorization(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization'),
  );
}

async function requestToken(
  client: ApiClient,
  { namespace, nodeName }: { namespace: string; nodeName: string },
): Promise<string> {
  const account = encodeURIComponent(nodeAccountName(nodeName));
  const answer = await client.send({
    method: 'POST',
    path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/serviceaccounts/${account}/token`,
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: TOKEN_SECONDS },
    },
  });
  const status = isJsonObject(answer) ? answer.status : undefined;
  const token = isJsonObject(status) ? status.token : undefined;
  if (typeof token === 'string') return token;
  throw new BulkheadError('API_SERVER_UNAVAILABLE', 'The API server gave no token.');
}
