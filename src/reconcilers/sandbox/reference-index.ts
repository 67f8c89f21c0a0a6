// Which sandboxes refer to which Secrets, ConfigMaps and Volumes, so that a change of one wakes those it concerns.
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { ObjectKey } from '../../store/store.ts';
import { referencedObjects } from './references.ts';

export class ReferenceIndex {
  readonly #bySandbox = new Map<string, { generation: number; uid: string; objects: string[] }>();
  readonly #byObject = new Map<string, Map<string, ObjectKey>>();

  /** Takes note of what a sandbox refers to now. */
  note(key: ObjectKey, object: DefaultedSandbox): void {
    const id = idOf(key);
    const { generation, uid } = object.metadata;
    const former = this.#bySandbox.get(id);
    if (former?.generation === generation && former.uid === uid) return;
    this.forget(key);
    const objects = referencedObjects(object).map(idOf);
    if (objects.length === 0) return;
    this.#bySandbox.set(id, { generation, uid, objects });
    for (const each of objects) {
      const dependents = this.#byObject.get(each) ?? new Map<string, ObjectKey>();
      dependents.set(id, key);
      this.#byObject.set(each, dependents);
    }
  }

  forget(key: ObjectKey): void {
    const id = idOf(key);
    for (const each of this.#bySandbox.get(id)?.objects ?? []) {
      const dependents = this.#byObject.get(each);
      dependents?.delete(id);
      if (dependents?.size === 0) this.#byObject.delete(each);
    }
    this.#bySandbox.delete(id);
  }

  dependents(key: ObjectKey): ObjectKey[] {
    return [...(this.#byObject.get(idOf(key))?.values() ?? [])];
  }
}

function idOf({ kind, namespace, name }: ObjectKey): string {
  return `${kind}/${namespace}/${name}`;
}
