// The policies of the store, read with what they refer to and put together for any sandbox.
import { X509Certificate } from 'node:crypto';
import { asBulkheadError, BulkheadError, type ErrorCode } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedNetworkPolicy } from '../../api/networkpolicy.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import {
  closedPolicy,
  PolicyCompiler,
  type PolicySource,
  revisionOf,
  selectsLabels,
} from '../../network/policy/compile.ts';
import type { EffectivePolicy } from '../../network/policy/effective.ts';
import type { ObjectKey, Store } from '../../store/store.ts';
import { AUTHORITIES_BYTES_MAX } from './limits.ts';

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/**
 * What may be wrong with a policy itself, or with what it refers to. A node of a cluster may read that where the policy selects
 * a sandbox of the node; elsewhere it is of no consequence.
 */
const UNUSABLE: ReadonlySet<ErrorCode> = new Set(['REFERENCE_NOT_FOUND', 'INVALID', 'FORBIDDEN']);

function nameOf({ metadata }: StoredObject): string {
  return `${metadata.namespace}/${metadata.name}`;
}

/** All policies at one moment. */
export class Policies {
  readonly #compiler: PolicyCompiler;
  readonly #generations: ReadonlyMap<string, number>;
  /** Those that cannot be put into force, and why. */
  readonly #unusable: ReadonlyMap<string, { policy: DefaultedNetworkPolicy; problem: BulkheadError }>;

  constructor(
    sources: readonly PolicySource[],
    generations: ReadonlyMap<string, number>,
    unusable: ReadonlyMap<string, { policy: DefaultedNetworkPolicy; problem: BulkheadError }>,
  ) {
    this.#compiler = new PolicyCompiler(sources);
    this.#generations = generations;
    this.#unusable = unusable;
  }

  /** What is to be in force in a sandbox: nothing goes out where any policy that selects it cannot be put into force. */
  effectiveOf({ metadata, spec }: DefaultedSandbox): EffectivePolicy {
    for (const [name, { policy }] of this.#unusable) {
      if (policy.metadata.namespace === metadata.namespace && selectsLabels(policy.spec, metadata.labels))
        return closedPolicy(name);
    }
    return this.#compiler.compile({
      namespace: metadata.namespace,
      labels: metadata.labels,
      secretHosts: (spec.secrets ?? []).flatMap(({ allowHosts }) => allowHosts),
    });
  }

  problemOf(policy: DefaultedNetworkPolicy): BulkheadError | undefined {
    return this.#unusable.get(nameOf(policy))?.problem;
  }

  /** Is it this version of the policy that was read? */
  holds(policy: DefaultedNetworkPolicy): boolean {
    return this.#generations.get(nameOf(policy)) === policy.metadata.generation;
  }
}

/** Reads the policies of a namespace, or of all. */
export async function readPolicies(store: Store, namespace?: string): Promise<Policies> {
  const { items } = await store.list('NetworkPolicy', namespace === undefined ? {} : { namespace });
  const sources: PolicySource[] = [];
  const generations = new Map<string, number>();
  const unusable = new Map<string, { policy: DefaultedNetworkPolicy; problem: BulkheadError }>();
  for (const policy of items as DefaultedNetworkPolicy[]) {
    const { metadata, spec } = policy;
    generations.set(nameOf(policy), metadata.generation);
    try {
      const upstreamCAs = await readAuthorities(store, policy);
      const { namespace, name } = metadata;
      sources.push({ namespace, name, spec, upstreamCAs, revision: revisionOf(metadata) });
    } catch (error) {
      const problem = asBulkheadError(error);
      // Of the store's own failures the caller has to hear: they say nothing about the policy.
      if (!UNUSABLE.has(problem.code)) throw error;
      unusable.set(nameOf(policy), { policy, problem });
    }
  }
  return new Policies(sources, generations, unusable);
}

/** Secrets and ConfigMaps that a policy refers to. */
export function referencesOf({ metadata, spec }: DefaultedNetworkPolicy): ObjectKey[] {
  return spec.tls.upstreamCAs.flatMap(({ secretKeyRef, configMapKeyRef }) => {
    const { namespace } = metadata;
    if (secretKeyRef !== undefined) return [{ kind: 'Secret', namespace, name: secretKeyRef.name }];
    return configMapKeyRef === undefined
      ? []
      : [{ kind: 'ConfigMap', namespace, name: configMapKeyRef.name }];
  });
}

/** PEM texts of `spec.tls.upstreamCAs`. Throws REFERENCE_NOT_FOUND or INVALID, with the field. */
async function readAuthorities(store: Store, policy: DefaultedNetworkPolicy): Promise<string[]> {
  const { namespace } = policy.metadata;
  const texts: string[] = [];
  for (const [index, { secretKeyRef, configMapKeyRef }] of policy.spec.tls.upstreamCAs.entries()) {
    const reference = secretKeyRef ?? configMapKeyRef;
    if (reference === undefined) continue;
    const kind = secretKeyRef === undefined ? 'ConfigMap' : 'Secret';
    const { name, key, optional } = reference;
    const data = (await store.get({ kind, namespace, name }))?.data ?? {};
    const raw = Object.hasOwn(data, key) ? data[key] : undefined;
    const field = `spec.tls.upstreamCAs[${index}]`;
    if (raw !== undefined) texts.push(certificatesOf(raw, kind, `${field}: ${kind} ${name} key ${key}`));
    else if (optional !== true)
      throw new BulkheadError(
        'REFERENCE_NOT_FOUND',
        `${field}: there is no ${kind} ${name} with a key ${key}.`,
      );
  }
  return texts;
}

function certificatesOf(raw: string, kind: 'Secret' | 'ConfigMap', what: string): string {
  const text = kind === 'Secret' ? Buffer.from(raw, 'base64').toString('latin1') : raw;
  if (Buffer.byteLength(text) > AUTHORITIES_BYTES_MAX)
    throw new BulkheadError('INVALID', `${what} is longer than ${AUTHORITIES_BYTES_MAX} bytes.`);
  const certificates = text.match(CERTIFICATE) ?? [];
  if (certificates.length === 0 || !certificates.every(isCertificate))
    throw new BulkheadError('INVALID', `${what} holds no PEM certificate, or one that cannot be read.`);
  return certificates.join('\n');
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).subject !== '';
  } catch {
    return false;
  }
}

/** The policies as last read, and again when something changed. */
export class PolicyBook {
  readonly #store: Store;
  #policies: Promise<Policies> | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  /** A policy, or what one refers to, changed. */
  changed(): void {
    this.#policies = undefined;
  }

  async read(): Promise<Policies> {
    const reading = this.#policies ?? readPolicies(this.#store);
    this.#policies = reading;
    try {
      return await reading;
    } catch (error) {
      if (this.#policies === reading) this.#policies = undefined;
      throw error;
    }
  }
}
