// One group of writes: applies the rules against committed plus staged objects, and collects what to commit.
import { BulkheadError } from '../../api/errors.ts';
import type { ObjectManifest, ObjectMeta, OwnerReference, StoredObject } from '../../api/meta.ts';
import { applyMergePatch, isJsonObject } from '../merge-patch.ts';
import { describeKey, isDeeperThan, keyOf, MAX_OBJECT_DEPTH } from '../object-rules.ts';
import type { DeletePreconditions, EventRecord, ObjectKey } from '../store.ts';
import type { Change } from './history.ts';
import { keyText, type ObjectTable } from './object-table.ts';
import { changedObject, type EncodedObject, newObject, timestamp, withMeta, withStatus } from './objects.ts';

/** A change with the text to store. */
export type StagedChange = Change & { json: string };

export class Transaction {
  readonly changes: StagedChange[] = [];
  readonly events: EventRecord[] = [];
  readonly #committed: ObjectTable;
  readonly #now: Date;
  readonly #firstVersion: number;
  /** Keys that this group changed; `undefined` for removed ones. */
  #staged = new Map<string, StoredObject | undefined>();

  /** `latest` is the version of the last committed change. */
  constructor(committed: ObjectTable, latest: number, now: Date) {
    this.#committed = committed;
    this.#firstVersion = latest + 1;
    this.#now = now;
  }

  /** Runs one write of the group: either all of it is staged, or, when it throws, none. */
  attempt<T>(write: (transaction: Transaction) => T): T {
    const before = { changes: this.changes.length, events: this.events.length };
    try {
      return write(this);
    } catch (error) {
      this.changes.length = before.changes;
      this.events.length = before.events;
      this.#staged = new Map();
      for (const { type, object } of this.changes) {
        this.#staged.set(keyText(keyOf(object)), type === 'DELETED' ? undefined : object);
      }
      throw error;
    }
  }

  create(manifest: ObjectManifest): StoredObject {
    const created = newObject(manifest, this.#nextVersion(), this.#now);
    const key = keyOf(created.object);
    if (this.#get(key) !== undefined) {
      throw new BulkheadError('ALREADY_EXISTS', `${describeKey(key)} exists already.`);
    }
    this.#checkOwnersExist(created.object, []);
    this.#stage('ADDED', created, undefined);
    return created.object;
  }

  update(manifest: ObjectManifest): StoredObject {
    const current = this.#require(keyOf(manifest));
    const { metadata } = manifest;
    checkPreconditions(current, metadata);
    return this.#change(
      current,
      changedObject(
        current,
        { apiVersion: manifest.apiVersion, metadata, spec: manifest.spec, data: manifest.data },
        this.#nextVersion(),
      ),
    );
  }

  patch(key: ObjectKey, mergePatch: unknown): StoredObject {
    if (!isJsonObject(mergePatch))
      throw new BulkheadError('BAD_REQUEST', 'A merge patch must be a JSON object.');
    if (isDeeperThan(mergePatch, MAX_OBJECT_DEPTH)) {
      throw new BulkheadError(
        'BAD_REQUEST',
        `The merge patch is nested deeper than ${MAX_OBJECT_DEPTH} levels.`,
      );
    }
    const current = this.#require(key);
    const patched = applyMergePatch(current, mergePatch) as Partial<StoredObject>;
    const metadata: unknown = patched.metadata;
    if (!isJsonObject(metadata))
      throw new BulkheadError('INVALID', `${describeKey(key)}: metadata must be an object.`);
    for (const [field, wanted, found] of [
      ['kind', current.kind, patched.kind],
      ['metadata.name', current.metadata.name, metadata.name],
      ['metadata.namespace', current.metadata.namespace, metadata.namespace],
    ]) {
      if (wanted !== found)
        throw new BulkheadError('INVALID', `${describeKey(key)}: ${field} cannot change.`);
    }
    checkPreconditions(current, metadata as DeletePreconditions);
    // Said outright, as a patch that removes them means it, while an update without them keeps them.
    const settable = {
      ...metadata,
      finalizers: metadata.finalizers ?? [],
      ownerReferences: metadata.ownerReferences ?? [],
    };
    return this.#change(
      current,
      changedObject(
        current,
        {
          apiVersion: patched.apiVersion ?? '',
          metadata: settable as Partial<ObjectMeta>,
          spec: patched.spec,
          data: patched.data,
        },
        this.#nextVersion(),
      ),
    );
  }

  updateStatus(key: ObjectKey, status: unknown, resourceVersion: string | undefined): StoredObject {
    const current = this.#require(key);
    checkPreconditions(current, resourceVersion === undefined ? {} : { resourceVersion });
    return this.#change(current, withStatus(current, status, this.#nextVersion()));
  }

  delete(key: ObjectKey, preconditions: DeletePreconditions): StoredObject {
    const current = this.#require(key);
    checkPreconditions(current, preconditions);
    if ((current.metadata.finalizers ?? []).length > 0) return this.#markDeleted(current);
    const removed = withMeta(current, {}, this.#nextVersion());
    this.#remove(removed, current);
    return removed.object;
  }

  recordEvent(event: EventRecord): void {
    this.events.push(event);
  }

  #nextVersion(): number {
    return this.#firstVersion + this.changes.length;
  }

  #get(key: ObjectKey): StoredObject | undefined {
    const text = keyText(key);
    return this.#staged.has(text) ? this.#staged.get(text) : this.#committed.get(key);
  }

  #require(key: ObjectKey): StoredObject {
    const object = this.#get(key);
    if (object === undefined) throw new BulkheadError('NOT_FOUND', `${describeKey(key)} does not exist.`);
    return object;
  }

  #stage(type: Change['type'], encoded: EncodedObject, previous: StoredObject | undefined): void {
    const { object, json } = encoded;
    this.#staged.set(keyText(keyOf(object)), type === 'DELETED' ? undefined : object);
    this.changes.push({
      resourceVersion: this.#nextVersion(),
      type,
      object,
      previousLabels: previous?.metadata.labels,
      bytes: Buffer.byteLength(json),
      json,
    });
  }

  /** Stages a changed object; one that lost its last finalizer while being deleted goes now. */
  #change(current: StoredObject, changed: EncodedObject | undefined): StoredObject {
    if (changed === undefined) return current;
    this.#checkOwnersExist(changed.object, current.metadata.ownerReferences ?? []);
    const { deletionTimestamp, finalizers = [] } = changed.object.metadata;
    if (deletionTimestamp !== undefined && finalizers.length === 0) this.#remove(changed, current);
    else this.#stage('MODIFIED', changed, current);
    return changed.object;
  }

  #markDeleted(current: StoredObject): StoredObject {
    if (current.metadata.deletionTimestamp !== undefined) return current;
    const marked = withMeta(
      current,
      { deletionTimestamp: timestamp(this.#now), deletionGracePeriodSeconds: 0 },
      this.#nextVersion(),
    );
    this.#stage('MODIFIED', marked, current);
    return marked.object;
  }

  /** Removes an object, and deletes what only it owned. Ends: each step removes one object. */
  #remove(last: EncodedObject, current: StoredObject): void {
    this.#stage('DELETED', last, current);
    const removedUids = [current.metadata.uid];
    for (const uid of removedUids) {
      for (const dependent of this.#dependentsOf(uid)) {
        const { finalizers = [], ownerReferences = [] } = dependent.metadata;
        const remaining = ownerReferences.filter((owner) => this.#exists(owner, dependent));
        if (remaining.length > 0) {
          const kept = withMeta(dependent, { ownerReferences: remaining }, this.#nextVersion());
          this.#stage('MODIFIED', kept, dependent);
        } else if (finalizers.length > 0) {
          this.#markDeleted(dependent);
        } else {
          this.#stage('DELETED', withMeta(dependent, {}, this.#nextVersion()), dependent);
          removedUids.push(dependent.metadata.uid);
        }
      }
    }
  }

  #dependentsOf(uid: string): StoredObject[] {
    const keys = new Map(this.#committed.ownedBy(uid).map((key) => [keyText(key), key]));
    for (const { object } of this.changes) keys.set(keyText(keyOf(object)), keyOf(object));
    return [...keys.values()]
      .map((key) => this.#get(key))
      .filter((object) => object !== undefined)
      .filter((object) => object.metadata.ownerReferences?.some((owner) => owner.uid === uid) ?? false);
  }

  /** Owners live in the namespace of what they own. */
  #exists(owner: OwnerReference, dependent: StoredObject): boolean {
    const { kind, name, uid } = owner;
    return this.#get({ kind, namespace: dependent.metadata.namespace, name })?.metadata.uid === uid;
  }

  /** What names an owner that is gone would never be cleaned up; Kubernetes collects it, here it is refused. */
  #checkOwnersExist(object: StoredObject, known: readonly OwnerReference[]): void {
    for (const owner of object.metadata.ownerReferences ?? []) {
      if (known.some(({ uid }) => uid === owner.uid) || this.#exists(owner, object)) continue;
      throw new BulkheadError(
        'INVALID',
        `${describeKey(keyOf(object))}: metadata.ownerReferences: ${owner.kind} ${owner.name} with uid ${owner.uid} does not exist.`,
      );
    }
  }
}

function checkPreconditions(current: StoredObject, wanted: DeletePreconditions): void {
  const { uid, resourceVersion } = current.metadata;
  const name = describeKey(keyOf(current));
  if (wanted.uid !== undefined && wanted.uid !== uid) {
    throw new BulkheadError(
      'CONFLICT',
      `${name} has uid ${uid}, not ${wanted.uid}: it was deleted and made anew.`,
    );
  }
  if (wanted.resourceVersion !== undefined && wanted.resourceVersion !== resourceVersion) {
    throw new BulkheadError(
      'CONFLICT',
      `${name} is at resourceVersion ${resourceVersion}, not ${wanted.resourceVersion}: it changed meanwhile.`,
    );
  }
}
