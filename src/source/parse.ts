// The manifest reader's answer in the folder's terms.
import { formatManifestError } from '../api/manifest/manifest-error.ts';
import { readManifests } from '../api/manifest/read.ts';
import type { ParsedFile } from './documents.ts';
import { cleanManifest } from './ownership.ts';

/** Documents and mistakes of one file. `file` is its path below the root. */
export function parseManifests(bytes: Uint8Array, file: string): ParsedFile {
  const { objects, errors } = readManifests(bytes, file);
  return {
    documents: objects.map(({ manifest, document, line, column }) => {
      const namespace = manifest.metadata.namespace ?? 'default';
      const key = { kind: manifest.kind, namespace, name: manifest.metadata.name };
      return { file, document, line, column, key, manifest: cleanManifest(manifest, namespace) };
    }),
    problems: errors.map((error) => ({
      reason: 'SourceInvalid',
      message: formatManifestError(error),
      file,
      ...(error.document === 0 ? {} : { document: error.document, line: error.line, column: error.column }),
      ...(error.path === '' ? {} : { path: error.path }),
      ...(error.object === undefined ? {} : { key: error.object }),
    })),
  };
}
