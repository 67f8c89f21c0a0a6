// The rules for one object, free of storage: what a create, an update or a status write makes of it.
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { BulkheadError } from '../../api/errors.ts';
import type { ObjectManifest, ObjectMeta, OwnerReference, StoredObject } from '../../api/meta.ts';
import { isJsonObject } from '../merge-patch.ts';
import { isLabelKey, isLabelValue } from '../selectors.ts';
import type { ObjectKey } from '../store.ts';
import { freezeObject } from './sharing.ts';

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
const DEFAULT_NAMESPACE = 'default';

/** An object with the text it is stored as, so that it is serialised once. */
export interface EncodedObject {
  object: StoredObject;
  json: string;
}

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

function invalid(key: ObjectKey, problem: string): BulkheadError {
  return new BulkheadError('INVALID', `${describeKey(key)}: ${problem}`);
}

/** Parses stored text into a frozen object that shares what equals its `former` state. Throws SyntaxError where it is not JSON. */
export function decodeObject(json: string, former?: StoredObject): StoredObject {
  return freezeObject(JSON.parse(json) as StoredObject, former);
}

/** A frozen copy, with its text. What equals its `former` state is shared with that. */
function encode(object: StoredObject, former: StoredObject | undefined): EncodedObject {
  const json = JSON.stringify(object);
  return { object: decodeObject(json, former), json };
}

/** `encode` for what comes from a client: refuses what is too large or too deep, so nothing later needs to ask. */
function encodeChecked(
  key: ObjectKey,
  object: StoredObject,
  former: StoredObject | undefined,
): EncodedObject {
  if (isDeeperThan(object, MAX_OBJECT_DEPTH)) {
    throw invalid(key, `nested deeper than ${MAX_OBJECT_DEPTH} levels.`);
  }
  const encoded = encode(object, former);
  const bytes = Buffer.byteLength(encoded.json);
  if (bytes > MAX_OBJECT_BYTES) {
    throw new BulkheadError(
      'TOO_LARGE',
      `${describeKey(key)} takes ${bytes} bytes as JSON; the limit is ${MAX_OBJECT_BYTES}.`,
    );
  }
  return encoded;
}

/** Looks one level past `limit` at most, so it ends on cyclic values too. */
export function isDeeperThan(value: unknown, limit: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (limit === 0) return true;
  return Object.values(value).some((part) => isDeeperThan(part, limit - 1));
}

function checkKey(key: ObjectKey): void {
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

type SettableMeta = Pick<ObjectMeta, 'labels' | 'annotations' | 'finalizers' | 'ownerReferences'>;

/** The metadata that clients decide, checked; empty parts are left out, as Kubernetes serves them. */
function settableMeta(key: ObjectKey, from: Partial<ObjectMeta>): SettableMeta {
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

function assemble(
  key: ObjectKey,
  parts: { apiVersion: string; metadata: ObjectMeta; spec: unknown; data: unknown; status: unknown },
  former: StoredObject | undefined,
): EncodedObject {
  const { apiVersion, metadata, spec, data, status } = parts;
  if (typeof apiVersion !== 'string' || apiVersion === '') throw invalid(key, 'apiVersion is missing.');
  if (
    data !== undefined &&
    !(isJsonObject(data) && Object.values(data).every((v) => typeof v === 'string'))
  ) {
    throw invalid(key, 'data must map names to texts.');
  }
  return encodeChecked(
    key,
    {
      apiVersion,
      kind: key.kind,
      metadata,
      ...(spec === undefined ? {} : { spec }),
      ...(data === undefined ? {} : { data }),
      ...(status === undefined ? {} : { status }),
    } as StoredObject,
    former,
  );
}

/** A new object from what a client sent. Server-side metadata in the manifest is ignored, as Kubernetes does. */
export function newObject(manifest: ObjectManifest, resourceVersion: number, now: Date): EncodedObject {
  const key = keyOf(manifest);
  checkKey(key);
  return assemble(
    key,
    {
      apiVersion: manifest.apiVersion,
      metadata: {
        name: key.name,
        namespace: key.namespace,
        uid: randomUUID(),
        resourceVersion: String(resourceVersion),
        generation: 1,
        creationTimestamp: timestamp(now),
        ...settableMeta(key, manifest.metadata),
      },
      spec: manifest.spec,
      data: manifest.data,
      status: undefined,
    },
    undefined,
  );
}

/** What an update or a patch wants an object to be. Absent finalizers and ownerReferences stay as they are. */
export interface DesiredObject {
  apiVersion: string;
  metadata: Partial<ObjectMeta>;
  spec: unknown;
  data: unknown;
}

/** `current` changed to `desired`, or `undefined` where nothing would change. */
export function changedObject(
  current: StoredObject,
  desired: DesiredObject,
  resourceVersion: number,
): EncodedObject | undefined {
  const key = keyOf(current);
  const {
    labels: _labels,
    annotations: _annotations,
    finalizers,
    ownerReferences,
    ...serverSide
  } = current.metadata;
  const settable = settableMeta(key, {
    ...(finalizers === undefined ? {} : { finalizers }),
    ...(ownerReferences === undefined ? {} : { ownerReferences }),
    ...desired.metadata,
  });
  if (current.metadata.deletionTimestamp !== undefined) {
    const added = settable.finalizers?.filter((finalizer) => !finalizers?.includes(finalizer)) ?? [];
    if (added.length > 0) {
      throw invalid(
        key,
        `metadata.finalizers: ${added.join(', ')} cannot be added while it is being deleted.`,
      );
    }
  }
  const draft = {
    apiVersion: desired.apiVersion,
    spec: desired.spec,
    data: desired.data,
    status: current.status,
  };
  const changed = assemble(key, { ...draft, metadata: { ...serverSide, ...settable } }, current);
  if (isDeepStrictEqual(changed.object, current)) return undefined;
  const specMoved = !isDeepStrictEqual(changed.object.spec, current.spec);
  return assemble(
    key,
    {
      ...draft,
      metadata: {
        ...serverSide,
        ...settable,
        resourceVersion: String(resourceVersion),
        generation: current.metadata.generation + (specMoved ? 1 : 0),
      },
    },
    current,
  );
}

/** `current` with another status, or `undefined` where it has that status already. */
export function withStatus(
  current: StoredObject,
  status: unknown,
  resourceVersion: number,
): EncodedObject | undefined {
  const changed = encodeChecked(
    keyOf(current),
    {
      ...current,
      metadata: { ...current.metadata, resourceVersion: String(resourceVersion) },
      status,
    },
    current,
  );
  return isDeepStrictEqual(changed.object.status, current.status) ? undefined : changed;
}

/** `current` with some of its metadata replaced by the store itself: never refused, also at the size limit. */
export function withMeta(
  current: StoredObject,
  changes: Partial<ObjectMeta>,
  resourceVersion: number,
): EncodedObject {
  return encode(
    {
      ...current,
      metadata: { ...current.metadata, ...changes, resourceVersion: String(resourceVersion) },
    },
    current,
  );
}

/** RFC 3339 in UTC with whole seconds, as Kubernetes writes it. */
export function timestamp(date: Date): string {
  return date.toISOString().replace(/\.\d{3}Z$/, 'Z');
}
