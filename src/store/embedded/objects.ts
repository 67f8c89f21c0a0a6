// The rules for one object, free of storage: what a create, an update or a status write makes of it.
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { BulkheadError } from '../../api/errors.ts';
import type { ObjectManifest, ObjectMeta, StoredObject } from '../../api/meta.ts';
import { isJsonObject } from '../merge-patch.ts';
import {
  checkKey,
  describeKey,
  invalid,
  isDeeperThan,
  keyOf,
  MAX_OBJECT_BYTES,
  MAX_OBJECT_DEPTH,
  settableMeta,
} from '../object-rules.ts';
import { freezeObject } from '../sharing.ts';
import type { ObjectKey } from '../store.ts';

/** An object with the text it is stored as, so that it is serialised once. */
export interface EncodedObject {
  object: StoredObject;
  json: string;
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
