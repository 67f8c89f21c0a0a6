// Which objects are the folder's, and how a document and the live object become the object to write.
import { posix } from 'node:path';
import {
  MANAGED_BY_FOLDER,
  MANAGED_BY_LABEL,
  PRUNE_ANNOTATION,
  RECONCILE_ANNOTATION,
  SOURCE_PATH_ANNOTATION,
  SOURCE_PROBLEM_ANNOTATION,
} from '../api/annotations.ts';
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import { sameJson } from './canonical.ts';
import type { InventoryRow } from './inventory.ts';

/** An annotation is for reading at a glance; the whole text is in the event and in the source's status. */
const MAX_PROBLEM_LENGTH = 1024;

/** What the folder wants of one object. */
export interface Desired {
  manifest: ObjectManifest;
  file: string;
  /** Why the document behind it cannot be used now; the manifest is then the last good one. */
  problem?: string;
}

function hasSwitch(annotations: Record<string, string> | undefined, name: string): boolean {
  return annotations?.[name] === 'disabled';
}

export function isReconcileDisabled(object: ObjectManifest | StoredObject | undefined): boolean {
  return hasSwitch(object?.metadata.annotations, RECONCILE_ANNOTATION);
}

export function isPruneDisabled(object: ObjectManifest | StoredObject | undefined): boolean {
  return hasSwitch(object?.metadata.annotations, PRUNE_ANNOTATION) || isReconcileDisabled(object);
}

/** Made by the folder, by its mark or by the record of its uid (which holds even when someone removed the mark). */
export function isOwned(live: StoredObject, row: InventoryRow | undefined): boolean {
  if (live.metadata.labels?.[MANAGED_BY_LABEL] === MANAGED_BY_FOLDER) return true;
  return row?.uid !== undefined && row.uid === live.metadata.uid;
}

/** The manifest's path below `root` that the object was made from, if it was made from there. */
export function sourceFileOf(live: StoredObject, root: string): string | undefined {
  const path = live.metadata.annotations?.[SOURCE_PATH_ANNOTATION];
  return path?.startsWith(`${root}/`) ? path.slice(root.length + 1) : undefined;
}

/** What a document may say about an object; what the server decides, and our own marks, are left out. */
export function cleanManifest(manifest: ObjectManifest, namespace: string): ObjectManifest {
  const { name, labels, annotations, finalizers, ownerReferences } = manifest.metadata;
  const {
    [SOURCE_PATH_ANNOTATION]: _path,
    [SOURCE_PROBLEM_ANNOTATION]: _problem,
    ...rest
  } = annotations ?? {};
  const { [MANAGED_BY_LABEL]: _managedBy, ...ownLabels } = labels ?? {};
  const { metadata: _metadata, ...content } = manifest;
  return {
    ...content,
    metadata: {
      name,
      namespace,
      ...(Object.keys(ownLabels).length === 0 ? {} : { labels: ownLabels }),
      ...(Object.keys(rest).length === 0 ? {} : { annotations: rest }),
      ...(finalizers === undefined ? {} : { finalizers }),
      ...(ownerReferences === undefined ? {} : { ownerReferences }),
    },
  };
}

/** The last good manifest as far as the live object tells it: for a record that was lost. */
export function manifestFromLive(live: StoredObject): ObjectManifest {
  const { status: _status, ...content } = live;
  const { finalizers: _finalizers, ownerReferences: _owners, ...metadata } = live.metadata;
  return cleanManifest({ ...content, metadata }, live.metadata.namespace);
}

/** Labels and annotations as they should be: the document's, our marks, and what others added, less what we retired. */
function mergeMap(
  live: Record<string, string> | undefined,
  own: Record<string, string>,
  retired: readonly string[],
): Record<string, string> {
  const kept = Object.entries(live ?? {}).filter(([name]) => !retired.includes(name));
  return { ...Object.fromEntries(kept), ...own };
}

/** The object to write, to create (`live` absent) or to replace the live one. */
export function toWrite(
  root: string,
  desired: Desired,
  live: StoredObject | undefined,
  row: Pick<InventoryRow, 'retired'> | undefined,
): ObjectManifest {
  const { manifest } = desired;
  const annotations = {
    ...manifest.metadata.annotations,
    [SOURCE_PATH_ANNOTATION]: posix.join(root, desired.file),
    ...(desired.problem === undefined
      ? {}
      : { [SOURCE_PROBLEM_ANNOTATION]: desired.problem.slice(0, MAX_PROBLEM_LENGTH) }),
  };
  const labels = { ...manifest.metadata.labels, [MANAGED_BY_LABEL]: MANAGED_BY_FOLDER };
  if (live === undefined) return { ...manifest, metadata: { ...manifest.metadata, labels, annotations } };

  const { finalizers, ownerReferences, resourceVersion, namespace, name } = live.metadata;
  return {
    ...manifest,
    metadata: {
      name,
      namespace,
      resourceVersion,
      labels: mergeMap(live.metadata.labels, labels, row?.retired?.labels ?? []),
      annotations: mergeMap(live.metadata.annotations, annotations, [
        SOURCE_PROBLEM_ANNOTATION,
        ...(row?.retired?.annotations ?? []),
      ]),
      // Finalizers and owners belong to the controllers that put them there.
      ...(finalizers === undefined ? {} : { finalizers }),
      ...(ownerReferences === undefined ? {} : { ownerReferences }),
    },
  };
}

/** True when writing `wanted` would change the live object. */
export function differs(wanted: ObjectManifest, live: StoredObject): boolean {
  return !(
    wanted.apiVersion === live.apiVersion &&
    sameJson(wanted.spec, live.spec) &&
    sameJson(wanted.data, live.data) &&
    sameJson(wanted.metadata.labels, live.metadata.labels) &&
    sameJson(wanted.metadata.annotations, live.metadata.annotations)
  );
}
