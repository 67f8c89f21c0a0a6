// Objects between the API server's form and that of the store.
import { BulkheadError } from '../../api/errors.ts';
import type { ObjectManifest, ObjectMeta, StoredObject } from '../../api/meta.ts';
import { isJsonObject } from '../merge-patch.ts';
import {
  checkKey,
  describeKey,
  invalid,
  isDeeperThan,
  keyOf,
  MAX_OBJECT_DEPTH,
  settableMeta,
} from '../object-rules.ts';
import { freezeObject } from '../sharing.ts';
import type { ObjectKey } from '../store.ts';

/** What a store hands out of `metadata`; the rest, managedFields above all, is the API server's own and large. */
const KEPT_METADATA = [
  'name',
  'namespace',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'labels',
  'annotations',
  'finalizers',
  'ownerReferences',
] as const satisfies readonly (keyof ObjectMeta)[];

/** What a merge patch may name of `metadata`; the rest is the server's. */
const PATCHED_METADATA = [
  'labels',
  'annotations',
  'finalizers',
  'ownerReferences',
  'resourceVersion',
  'uid',
] as const;

const KEPT_FIELDS = ['spec', 'data', 'status'] as const;

/** An object as it came. `kind` is said by who asked, since the items of a list of core kinds do not. Frozen. */
export function storedObject(kind: string, apiVersion: string, answer: unknown): StoredObject {
  const metadata = isJsonObject(answer) ? answer.metadata : undefined;
  if (!isJsonObject(answer) || !isJsonObject(metadata)) {
    throw new BulkheadError('API_SERVER_UNAVAILABLE', `The API server answered with what is no ${kind}.`);
  }
  const kept = KEPT_METADATA.filter((name) => metadata[name] !== undefined).map((name) => [
    name,
    metadata[name],
  ]);
  const fields = KEPT_FIELDS.filter((name) => answer[name] !== undefined).map((name) => [name, answer[name]]);
  return freezeObject({
    apiVersion,
    kind,
    metadata: { generation: 1, namespace: '', ...Object.fromEntries(kept) },
    ...Object.fromEntries(fields),
  } as StoredObject);
}

/** A new object for the API server. Refused where the embedded store would refuse it. */
export function newBody(manifest: ObjectManifest): Record<string, unknown> {
  const key = keyOf(manifest);
  checkKey(key);
  const { name, namespace } = key;
  return {
    ...contentOf(key, manifest),
    metadata: { name, namespace, ...settableMeta(key, manifest.metadata) },
  };
}

/** `current` as the API server gave it, with what `manifest` says of it. */
export function changedBody(
  current: Record<string, unknown>,
  manifest: ObjectManifest,
): Record<string, unknown> {
  const key = keyOf(manifest);
  const {
    metadata,
    spec: _spec,
    data: _data,
    ...kept
  } = current as { metadata: Record<string, unknown> } & Record<string, unknown>;
  const { labels: _labels, annotations: _annotations, ...keptMetadata } = metadata;
  return {
    ...kept,
    ...contentOf(key, manifest),
    metadata: { ...keptMetadata, ...settableMeta(key, manifest.metadata) },
  };
}

function contentOf(
  key: ObjectKey,
  { apiVersion, kind, spec, data }: ObjectManifest,
): Record<string, unknown> {
  const content = {
    ...(spec === undefined ? {} : { spec }),
    ...(data === undefined ? {} : { data }),
  };
  if (isDeeperThan(content, MAX_OBJECT_DEPTH))
    throw invalid(key, `nested deeper than ${MAX_OBJECT_DEPTH} levels.`);
  return { apiVersion, kind, ...content };
}

/** A merge patch without what only the server sets. Refused where it is no object or would rename. */
export function patchBody(key: ObjectKey, patch: unknown): Record<string, unknown> {
  if (!isJsonObject(patch)) throw new BulkheadError('BAD_REQUEST', 'A merge patch must be a JSON object.');
  if (isDeeperThan(patch, MAX_OBJECT_DEPTH))
    throw new BulkheadError(
      'BAD_REQUEST',
      `The merge patch is nested deeper than ${MAX_OBJECT_DEPTH} levels.`,
    );
  const { metadata = {}, status: _status, kind = key.kind, ...content } = patch;
  if (!isJsonObject(metadata)) throw invalid(key, 'metadata must be an object.');
  const { name = key.name, namespace = key.namespace } = metadata;
  for (const [field, wanted, found] of [
    ['kind', key.kind, kind],
    ['metadata.name', key.name, name],
    ['metadata.namespace', key.namespace, namespace],
  ]) {
    if (wanted !== found) throw new BulkheadError('INVALID', `${describeKey(key)}: ${field} cannot change.`);
  }
  const named = PATCHED_METADATA.filter((field) => field in metadata).map((field) => [
    field,
    metadata[field],
  ]);
  return { ...content, metadata: Object.fromEntries(named) };
}
