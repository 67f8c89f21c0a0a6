// Objects that a sandbox has for itself alone, and that go with it: its policy, its secrets.
import { apiVersionOf, CONFIG_MAP_KIND, NETWORK_POLICY_KIND, SECRET_KIND } from '../api/kinds.ts';
import type { ResourceKind, StoredObject } from '../api/meta.ts';
import type { SandboxConfig } from './config.ts';
import type { Connection } from './connection.ts';
import { authoritiesOf, policySpecOf } from './network.ts';
import { secretData } from './secrets.ts';

/** On the sandbox alone, so that its policy selects nothing else. */
export const OWN_LABEL = 'bulkhead.dev/sdk-sandbox';

/** Are there any? Then the sandbox is made suspended, and started when they are there. */
export function hasOwned({ network, secrets = [] }: SandboxConfig): boolean {
  return network !== undefined || secrets.length > 0;
}

/** Of the Secret with which the nodes of a cluster pull, where `mark` is the name of all else. */
export function pullSecretName(mark: string): string {
  return `${mark}-pull`;
}

/** Credentials for a registry, as nodes read them. */
export interface PullCredentials {
  registry: string;
  username: string;
  password: string;
}

function pullSecretData({ registry, username, password }: PullCredentials): Record<string, string> {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const auth = base64(`${username}:${password}`);
  return {
    '.dockerconfigjson': base64(JSON.stringify({ auths: { [registry]: { username, password, auth } } })),
  };
}

/** `mark` is the value of the sandbox's own label, and the name of all of them. */
export async function createOwned(
  { client, namespace }: Connection,
  sandbox: StoredObject,
  { network, secrets = [] }: SandboxConfig,
  mark: string,
  pull?: PullCredentials,
): Promise<void> {
  const { apiVersion, kind, metadata } = sandbox;
  const ownerReferences = [{ apiVersion, kind, name: metadata.name, uid: metadata.uid }];
  const create = (of: ResourceKind, content: Record<string, unknown>, name = mark) =>
    client.create(of, namespace, {
      ...{ apiVersion: apiVersionOf(of), kind: of.kind },
      metadata: { name, namespace, ownerReferences },
      ...content,
    });
  if (pull !== undefined) {
    const content = { type: 'kubernetes.io/dockerconfigjson', data: pullSecretData(pull) };
    await create(SECRET_KIND, content, pullSecretName(mark));
  }
  if (secrets.length > 0) await create(SECRET_KIND, { data: secretData(secrets) });
  if (network === undefined) return;
  const authorities = await authoritiesOf(network.tls);
  if (authorities !== undefined) await create(CONFIG_MAP_KIND, { data: authorities });
  const sandboxSelector = { matchLabels: { [OWN_LABEL]: mark } };
  await create(NETWORK_POLICY_KIND, { spec: { sandboxSelector, ...policySpecOf(network, mark) } });
}
