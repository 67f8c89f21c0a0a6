// The secrets of a sandbox with their values as they are now: for the gateway's memory, and for nothing else.
import { createHmac, randomBytes } from 'node:crypto';
import type { StoredObject } from '../../api/meta.ts';
import { DEFAULT_SECRET_LOCATIONS, type DefaultedSandbox } from '../../api/sandbox.ts';
import type { SecretSet } from '../../network/network-plane.ts';
import { type GatewaySecret, placeholderOf } from '../../network/secrets/secret.ts';
import type { Store } from '../../store/store.ts';

/** Of this process: digests of values are of no use outside it. */
const DIGEST_KEY = randomBytes(32);

/** A value that is not there is left out: the placeholder leaves nowhere then. */
export async function readSecrets(store: Store, { metadata, spec }: DefaultedSandbox): Promise<SecretSet> {
  const items: GatewaySecret[] = [];
  for (const { env, valueFrom, allowHosts, injectInto = DEFAULT_SECRET_LOCATIONS } of spec.secrets ?? []) {
    const { name, key } = valueFrom.secretKeyRef;
    const data = (await store.get({ kind: 'Secret', namespace: metadata.namespace, name }))?.data ?? {};
    const raw = Object.hasOwn(data, key) ? data[key] : undefined;
    const value = raw === undefined ? '' : Buffer.from(raw, 'base64').toString('utf8');
    items.push({
      ...{ env, placeholder: placeholderOf(metadata.uid, env), allowHosts, injectInto },
      ...(value === '' ? {} : { value }),
    });
  }
  return { items, digest: createHmac('sha256', DIGEST_KEY).update(JSON.stringify(items)).digest('hex') };
}

/** Does a secret of the sandbox take its value from this Secret? */
export function usesSecret({ metadata, spec }: DefaultedSandbox, secret: StoredObject): boolean {
  return (
    secret.kind === 'Secret' &&
    secret.metadata.namespace === metadata.namespace &&
    (spec.secrets ?? []).some(({ valueFrom }) => valueFrom.secretKeyRef.name === secret.metadata.name)
  );
}
