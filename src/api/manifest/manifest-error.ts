// What is wrong with a manifest, with the place where a person mends it.
import type { KindName } from '../kinds.ts';
import { withHint } from '../validation/field-error.ts';

/** Names of an object, as far as its document tells them. */
export interface ObjectName {
  kind: KindName;
  namespace: string;
  name: string;
}

export interface ManifestError {
  /** File or stream as the caller named it. */
  source: string;
  /** Number of the document in its source, from 1; 0 when the source as a whole is meant. */
  document: number;
  /** From 1; 0 when the source as a whole is meant. */
  line: number;
  column: number;
  /** Path of the field in its document, e.g. `spec.resources.cpus`; empty when the whole is meant. */
  path: string;
  /** Sentence without the place; the same text that the server and the cluster give for a field. */
  message: string;
  /** What helps a person beyond that. */
  hint?: string;
  found?: string;
  expected?: string;
  /** Valid name that was probably meant. */
  nearest?: string;
  /** The object that the document speaks of, where it could be told in spite of the mistake. */
  object?: ObjectName;
}

/** `agent.yaml:12:9: document 2: spec.drivr: unknown field (did you mean driver?)`. */
export function formatManifestError(error: ManifestError): string {
  if (error.document === 0) return `${error.source}: ${withHint(error)}`;
  const path = error.path === '' ? '' : `${error.path}: `;
  return `${error.source}:${error.line}:${error.column}: document ${error.document}: ${path}${withHint(error)}`;
}
