// Objects that come from a watched folder go back to what their file says.
import type { StoredObject } from '../api/meta.ts';

/** Labels and annotations of the folder source; part of its stable interface. */
const MANAGED_BY_LABEL = 'bulkhead.dev/managed-by';
const SOURCE_PATH_ANNOTATION = 'bulkhead.dev/source-path';

export function isFromFolder({ metadata }: StoredObject): boolean {
  return metadata.labels?.[MANAGED_BY_LABEL] === 'folder';
}

/** Says on stderr that a change will not last, where it will not. */
export function warnIfFromFolder(object: StoredObject): void {
  if (!isFromFolder(object)) return;
  const { kind, metadata } = object;
  const file = metadata.annotations?.[SOURCE_PATH_ANNOTATION];
  process.stderr.write(
    `warning: ${kind} ${metadata.name} comes from the manifest folder${file ? ` (${file})` : ''}: change it there, or the folder undoes this\n`,
  );
}
