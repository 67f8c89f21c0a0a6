// From the body of a request to a manifest that may be stored, and the names that Kubernetes checks on the way.
import { randomBytes } from 'node:crypto';
import { BulkheadError } from '../api/errors.ts';
import { apiVersionOf } from '../api/kinds.ts';
import type { ObjectManifest, ObjectMeta, StoredObject } from '../api/meta.ts';
import { isJsonObject } from '../store/merge-patch.ts';
import type { ServedKind } from './contracts.ts';

/** What the URL says about an object. */
export interface Target {
  kind: ServedKind;
  namespace: string;
  /** Absent on create. */
  name?: string;
}

/** As kubectl writes it: `sandboxes.bulkhead.dev`. */
export function qualifiedPlural(kind: ServedKind): string {
  return kind.group === '' ? kind.plural : `${kind.plural}.${kind.group}`;
}

export function notFound(target: Target): BulkheadError {
  return new BulkheadError('NOT_FOUND', `${qualifiedPlural(target.kind)} "${target.name ?? ''}" not found`);
}

function mismatch(what: string, body: unknown, url: string): BulkheadError {
  return new BulkheadError(
    'BAD_REQUEST',
    `the ${what} of the object (${JSON.stringify(body)}) is not the one in the URL (${url})`,
  );
}

/** The parts of metadata that a client may set. What the server owns is dropped, as Kubernetes drops it. */
function settableMetadata(metadata: Record<string, unknown>, name: string, namespace: string) {
  const kept: Record<string, unknown> = { name, namespace };
  for (const field of [
    'labels',
    'annotations',
    'finalizers',
    'ownerReferences',
    'resourceVersion',
    'uid',
  ] as const) {
    if (metadata[field] !== undefined && metadata[field] !== null) kept[field] = metadata[field];
  }
  return kept as Partial<ObjectMeta> & { name: string };
}

/** Five characters without vowels, as Kubernetes' own: no words come out by chance. */
function generatedName(prefix: string): string {
  const alphabet = 'bcdfghjklmnpqrstvwxz2456789';
  const suffix = [...randomBytes(5)].map((byte) => alphabet[byte % alphabet.length]).join('');
  return `${prefix}${suffix}`;
}

/**
 * Checks that a body names what the URL names, fills in what it leaves to the URL, and drops status and the server's
 * own metadata. Fails with BAD_REQUEST.
 */
export function manifestFrom(body: unknown, target: Target): ObjectManifest {
  if (!isJsonObject(body)) {
    throw new BulkheadError('BAD_REQUEST', 'the body must be one object, as JSON or YAML');
  }
  const apiVersion = apiVersionOf(target.kind);
  const {
    apiVersion: bodyVersion,
    kind: bodyKind,
    metadata: bodyMetadata,
    status: _status,
    ...content
  } = body;
  if (bodyVersion !== undefined && bodyVersion !== apiVersion)
    throw mismatch('apiVersion', bodyVersion, apiVersion);
  if (bodyKind !== undefined && bodyKind !== target.kind.kind)
    throw mismatch('kind', bodyKind, target.kind.kind);
  const metadata = bodyMetadata ?? {};
  if (!isJsonObject(metadata)) throw new BulkheadError('BAD_REQUEST', 'metadata must be an object');
  if (metadata.namespace !== undefined && metadata.namespace !== target.namespace) {
    throw mismatch('namespace', metadata.namespace, target.namespace);
  }
  if (target.name !== undefined && metadata.name !== undefined && metadata.name !== target.name) {
    throw mismatch('name', metadata.name, target.name);
  }
  const name = target.name ?? metadata.name ?? nameFromPrefix(metadata.generateName);
  if (typeof name !== 'string' || name === '') {
    throw new BulkheadError('INVALID', `${target.kind.kind}: metadata.name is missing`, {
      causes: [{ reason: 'FieldValueRequired', field: 'metadata.name', message: 'Required value' }],
    });
  }
  return {
    ...content,
    apiVersion,
    kind: target.kind.kind,
    metadata: settableMetadata(metadata, name, target.namespace),
  } as ObjectManifest;
}

function nameFromPrefix(prefix: unknown): string | undefined {
  return typeof prefix === 'string' && prefix !== '' ? generatedName(prefix) : undefined;
}

/** The part of a stored object that clients decide: what a merge patch works on. */
export function desiredPart(object: StoredObject): Record<string, unknown> {
  const { status: _status, ...rest } = object;
  return rest;
}
