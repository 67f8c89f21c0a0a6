// The kinds and rules that the server enforces: those of src/api, the same as the folder source's.
import { KINDS } from '../api/kinds.ts';
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import { checkerOf } from '../api/validation/object-schemas.ts';
import { requireValid } from '../api/validation/validate.ts';
import type { ObjectRules, ServedKind } from './contracts.ts';

/** Everything but how a body becomes a document. */
export function apiRules(parse: ObjectRules['parse']): ObjectRules {
  const kinds: ServedKind[] = KINDS.map((kind) => ({
    ...kind,
    hasStatus: kind.group !== '',
    categories: [],
    schema: () => checkerOf(kind.kind).schema,
  }));
  return {
    kinds,
    parse,
    admit: (document: ObjectManifest, current?: StoredObject) => requireValid(document, current),
  };
}
