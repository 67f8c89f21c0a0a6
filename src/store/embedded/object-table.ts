// All committed objects, in memory: reads cost no query and hand out the same frozen object to everyone.
import type { StoredObject } from '../../api/meta.ts';
import { keyOf } from '../object-rules.ts';
import type { ObjectKey } from '../store.ts';

/** Unique text of a key; neither kinds, namespaces nor names contain a slash. */
export function keyText(key: ObjectKey): string {
  return `${key.kind}/${key.namespace}/${key.name}`;
}

/** Order of a list: by namespace, then name, by code units. */
function byName(a: StoredObject, b: StoredObject): number {
  const [left, right] = [a.metadata, b.metadata];
  if (left.namespace !== right.namespace) return left.namespace < right.namespace ? -1 : 1;
  return left.name < right.name ? -1 : left.name > right.name ? 1 : 0;
}

export class ObjectTable {
  readonly #byKind = new Map<string, Map<string, StoredObject>>();
  /** Owner's uid to the keys of what it owns. */
  readonly #owned = new Map<string, Map<string, ObjectKey>>();

  get(key: ObjectKey): StoredObject | undefined {
    return this.#byKind.get(key.kind)?.get(keyText(key));
  }

  /** All of one kind, in the order of a list. */
  ofKind(kind: string): StoredObject[] {
    return [...(this.#byKind.get(kind)?.values() ?? [])].sort(byName);
  }

  ownedBy(uid: string): ObjectKey[] {
    return [...(this.#owned.get(uid)?.values() ?? [])];
  }

  put(object: StoredObject): void {
    const key = keyOf(object);
    this.remove(key);
    let kind = this.#byKind.get(key.kind);
    if (kind === undefined) {
      kind = new Map();
      this.#byKind.set(key.kind, kind);
    }
    kind.set(keyText(key), object);
    for (const { uid } of object.metadata.ownerReferences ?? []) {
      let owned = this.#owned.get(uid);
      if (owned === undefined) {
        owned = new Map();
        this.#owned.set(uid, owned);
      }
      owned.set(keyText(key), key);
    }
  }

  remove(key: ObjectKey): void {
    const text = keyText(key);
    const former = this.#byKind.get(key.kind)?.get(text);
    if (former === undefined) return;
    this.#byKind.get(key.kind)?.delete(text);
    for (const { uid } of former.metadata.ownerReferences ?? []) {
      const owned = this.#owned.get(uid);
      owned?.delete(text);
      if (owned?.size === 0) this.#owned.delete(uid);
    }
  }
}
