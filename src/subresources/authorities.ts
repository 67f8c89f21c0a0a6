// The two authorities of an installation, in a Secret that all controllers share: one vouches for the API that they serve, one for
// nodes and controllers to each other. Whoever is first makes them.
import { X509Certificate } from 'node:crypto';
import { BulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import { type Authority, checkAuthority, createAuthority } from '../network/intercept/certificates.ts';
import type { ObjectKey, Store } from '../store/store.ts';
import { AUTHORITY_RENEWED_BEFORE_MS } from './limits.ts';

/** Name of the Secret, in the namespace of Bulkhead's own parts. */
export const AUTHORITIES_SECRET = 'bulkhead-authorities';

export interface Authorities {
  /** Of the certificate that the cluster's API server sees. */
  serving: Authority;
  /** Of those by which nodes and controllers know each other. */
  nodes: Authority;
}

const PARTS = ['serving', 'nodes'] as const;

/** Undefined where one of them is missing, cannot be used or ends soon. */
export function readAuthorities(secret: StoredObject | undefined, now: number): Authorities | undefined {
  const data = secret?.data ?? {};
  const textOf = (key: string): string => Buffer.from(data[key] ?? '', 'base64').toString('latin1');
  const [serving, nodes] = PARTS.map((part): Authority | undefined => {
    const authority = { certificate: textOf(`${part}.crt`), key: textOf(`${part}.key`) };
    try {
      checkAuthority(authority);
    } catch {
      return undefined;
    }
    const end = new X509Certificate(authority.certificate).validToDate.getTime();
    return end - now > AUTHORITY_RENEWED_BEFORE_MS ? authority : undefined;
  });
  return serving === undefined || nodes === undefined ? undefined : { serving, nodes };
}

/**
 * Makes both and writes them over `present`, the Secret as it was read. Returns undefined where somebody else was faster: then
 * theirs are to be read.
 */
export async function makeAuthorities(
  store: Pick<Store, 'create' | 'patch'>,
  key: ObjectKey,
  present: StoredObject | undefined,
  now: number,
): Promise<Authorities | undefined> {
  const installation = crypto.randomUUID().slice(0, 8);
  const serving = await createAuthority(installation, now, 'subresources API');
  const nodes = await createAuthority(installation, now, 'nodes');
  const data = Object.fromEntries(
    Object.entries({ serving, nodes }).flatMap(([part, { certificate, key: secret }]) => [
      [`${part}.crt`, Buffer.from(certificate).toString('base64')],
      [`${part}.key`, Buffer.from(secret).toString('base64')],
    ]),
  );
  const { namespace, name } = key;
  const labels = { 'app.kubernetes.io/managed-by': 'bulkhead' };
  try {
    if (present === undefined)
      await store.create({
        ...{ apiVersion: 'v1', kind: 'Secret', metadata: { namespace, name, labels }, data },
        spec: undefined,
      });
    else {
      const { uid, resourceVersion } = present.metadata;
      await store.patch(key, { metadata: { uid, resourceVersion }, data });
    }
  } catch (error) {
    const isLate = error instanceof BulkheadError && ['ALREADY_EXISTS', 'CONFLICT'].includes(error.code);
    if (!isLate) throw error;
    return undefined;
  }
  return { serving, nodes };
}
