// What every store checks of the objects that clients send, so that each refuses the same.
import { BulkheadError } from '../api/errors.ts';
import type { ObjectMeta, OwnerReference } from '../api/meta.ts';
import { isJsonObject } from './merge-patch.ts';
import { isLabelKey, isLabelValue } from './selectors.ts';
import type { ObjectKey } from './store.ts';

/** Largest object as JSON: what a Kubernetes Secret may hold, and far above any Sandbox. */
export const MAX_OBJECT_BYTES = 1024 * 1024;
/** Deepest nesting of an object; recursion over objects needs no other bound. Schemas stay below 20. */
export const MAX_OBJECT_DEPTH = 64;
/** All keys and values of one object's annotations together, as Kubernetes limits them. */
const MAX_ANNOTATIONS_BYTES = 256 * 1024;
/** One object's finalizers and owner references each; both are held by a handful of controllers. */
const MAX_METADATA_LIST = 32;
const MAX_KIND_LENGTH = 63;

const KIND = /^[A-Za-z][A-Za-z0-9]*$/;
const DNS_LABEL = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;

/** Namespace of an object that names none. */
export const DEFAULT_NAMESPACE = 'default';

/** Names an object; one without a namespace is in the default one. */
export function keyOf(object: { kind: string; metadata: { namespace?: string; name: string } }): ObjectKey {
  return {
    kind: object.kind,
    namespace: object.metadata.namespace ?? DEFAULT_NAMESPACE,
    name: object.metadata.name,
  };
}

/** For messages: `Sandbox default/agent`. */
export function describeKey(key: ObjectKey): string {
  return `${key.kind} ${key.namespace}/${key.name}`;
}

/** An INVALID that names the object. */
export function invalid(key: ObjectKey, problem: string): BulkheadError {
  return new BulkheadError('INVALID', `${describeKey(key)}: ${problem}`);
}

/** Looks one level past `limit` at most, so it ends on cyclic values too. */
export function isDeeperThan(value: unknown, limit: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (limit === 0) return true;
  return Object.values(value).some((part) => isDeeperThan(part, limit - 1));
}

/** Refuses a kind, namespace or name that no object can have. */
export function checkKey(key: ObjectKey): void {
  if (typeof key.kind !== 'string' || key.kind.length > MAX_KIND_LENGTH || !KIND.test(key.kind)) {
    throw new BulkheadError(
      'INVALID',
      `kind: "${String(key.kind).slice(0, MAX_KIND_LENGTH)}" is no kind's name.`,
    );
  }
  if (typeof key.name !== 'string' || !DNS_SUBDOMAIN.test(key.name)) {
    throw invalid(key, 'metadata.name must be 1 to 253 of a-z, 0-9, "-" and ".", alphanumeric at both ends.');
  }
  if (typeof key.namespace !== 'string' || !DNS_LABEL.test(key.namespace)) {
    throw invalid(key, 'metadata.namespace must be 1 to 63 of a-z, 0-9 and "-", alphanumeric at both ends.');
  }
}

function checkLabels(key: ObjectKey, labels: unknown): asserts labels is Record<string, string> {
  if (!isJsonObject(labels)) throw invalid(key, 'metadata.labels must map names to texts.');
  for (const [name, value] of Object.entries(labels)) {
    if (!isLabelKey(name)) throw invalid(key, `metadata.labels: "${name}" is no label key.`);
    if (typeof value !== 'string' || !isLabelValue(value)) {
      throw invalid(key, `metadata.labels["${name}"] must be at most 63 of A-Z, a-z, 0-9, "-", "_" and ".".`);
    }
  }
}

function checkAnnotations(
  key: ObjectKey,
  annotations: unknown,
): asserts annotations is Record<string, string> {
  if (!isJsonObject(annotations)) throw invalid(key, 'metadata.annotations must map names to texts.');
  let bytes = 0;
  for (const [name, value] of Object.entries(annotations)) {
    if (!isLabelKey(name)) throw invalid(key, `metadata.annotations: "${name}" is no annotation key.`);
    if (typeof value !== 'string') throw invalid(key, `metadata.annotations["${name}"] must be a text.`);
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  if (bytes > MAX_ANNOTATIONS_BYTES) {
    throw invalid(key, `metadata.annotations take ${bytes} bytes; the limit is ${MAX_ANNOTATIONS_BYTES}.`);
  }
}

function checkFinalizers(key: ObjectKey, finalizers: unknown): asserts finalizers is string[] {
  if (!Array.isArray(finalizers) || !finalizers.every((f) => typeof f === 'string' && isLabelKey(f))) {
    throw invalid(key, 'metadata.finalizers must be a list of names such as example.com/what-it-guards.');
  }
  if (finalizers.length > MAX_METADATA_LIST) {
    throw invalid(key, `metadata.finalizers has more than ${MAX_METADATA_LIST} entries.`);
  }
}

function checkOwners(key: ObjectKey, owners: unknown): asserts owners is OwnerReference[] {
  const isReference = (owner: unknown): boolean =>
    isJsonObject(owner) &&
    [owner.apiVersion, owner.kind, owner.name, owner.uid].every((t) => typeof t === 'string' && t !== '');
  if (!Array.isArray(owners) || !owners.every(isReference)) {
    throw invalid(key, 'metadata.ownerReferences must be a list of {apiVersion, kind, name, uid}.');
  }
  if (owners.length > MAX_METADATA_LIST) {
    throw invalid(key, `metadata.ownerReferences has more than ${MAX_METADATA_LIST} entries.`);
  }
  if (owners.filter((owner) => owner.controller === true).length > 1) {
    throw invalid(key, 'metadata.ownerReferences: only one of them may have controller: true.');
  }
}

export type SettableMeta = Pick<ObjectMeta, 'labels' | 'annotations' | 'finalizers' | 'ownerReferences'>;

/** The metadata that clients decide, checked; empty parts are left out, as Kubernetes serves them. */
export function settableMeta(key: ObjectKey, from: Partial<ObjectMeta>): SettableMeta {
  const settable: SettableMeta = {};
  const { labels, annotations, finalizers, ownerReferences } = from;
  if (labels !== undefined && labels !== null) {
    checkLabels(key, labels);
    if (Object.keys(labels).length > 0) settable.labels = labels;
  }
  if (annotations !== undefined && annotations !== null) {
    checkAnnotations(key, annotations);
    if (Object.keys(annotations).length > 0) settable.annotations = annotations;
  }
  if (finalizers !== undefined && finalizers !== null) {
    checkFinalizers(key, finalizers);
    if (finalizers.length > 0) settable.finalizers = [...new Set(finalizers)];
  }
  if (ownerReferences !== undefined && ownerReferences !== null) {
    checkOwners(key, ownerReferences);
    if (ownerReferences.length > 0) settable.ownerReferences = ownerReferences;
  }
  return settable;
}
