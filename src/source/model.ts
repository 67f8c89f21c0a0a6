// Words that the parts of the folder source share.
import type { ObjectManifest } from '../api/meta.ts';
import type { ObjectKey } from '../store/store.ts';

/** Where a document stands. */
export interface DocumentPosition {
  /** Path below the root, with `/`. */
  file: string;
  /** Counted from 1. */
  document: number;
}

/** A valid document, with defaults filled in. */
export interface SourceDocument extends DocumentPosition {
  /** Of its first character, from 1. */
  line: number;
  column: number;
  key: ObjectKey;
  manifest: ObjectManifest;
}

/**
 * - `SourceUnavailable`: the folder as a whole cannot be read, or is suddenly empty.
 * - `SourceInvalid`: a document or file is not what it should be; what it last said in good shape still holds.
 * - `SourceDuplicate`: another document already declares this object.
 * - `SourceConflict`: an object of this name exists that the folder did not make.
 * - `SourceApplyFailed`: the store refused a change.
 * - `SourcePruneHeld`: a deletion waits.
 * - `SourceOrphaned`: an object from this folder that no document and no record accounts for.
 */
export type ProblemReason =
  | 'SourceUnavailable'
  | 'SourceInvalid'
  | 'SourceDuplicate'
  | 'SourceConflict'
  | 'SourceApplyFailed'
  | 'SourcePruneHeld'
  | 'SourceOrphaned';

/** Something a person should look at. `message` says where it is; the same text goes to log, event and annotation. */
export interface SourceProblem {
  reason: ProblemReason;
  message: string;
  /** The object concerned, where it is known. */
  key?: ObjectKey;
  file?: string;
  document?: number;
  line?: number;
  column?: number;
  /** JSON path of the field. */
  path?: string;
}

/**
 * How an object or document of the folder stands.
 *
 * - `synced`: the store holds what the document says.
 * - `invalid`: its document or file is broken; the last good version is kept.
 * - `duplicate`, `conflict`, `failed`: not applied; see the problem.
 * - `held`: gone from the folder, deletion waits.
 * - `disabled`: `reconcile: disabled` asks to leave it alone.
 * - `terminating`: being deleted.
 * - `orphaned`: left in the store on purpose or for want of a record.
 */
export const OBJECT_STATES = [
  'synced',
  'invalid',
  'duplicate',
  'conflict',
  'failed',
  'held',
  'disabled',
  'terminating',
  'orphaned',
] as const;
export type ObjectState = (typeof OBJECT_STATES)[number];

export interface ObjectReport {
  key: ObjectKey;
  state: ObjectState;
  file?: string;
  document?: number;
  message?: string;
}

/** `Sandbox/default/agent`: unique, and sorts by kind, then namespace, then name. */
export function keyText(key: ObjectKey): string {
  return `${key.kind}/${key.namespace}/${key.name}`;
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** `team/a.yaml:12:3: document 2: `, as the manifest reader begins its messages. */
export function placeText(document: SourceDocument): string {
  return `${document.file}:${document.line}:${document.column}: document ${document.document}: `;
}
