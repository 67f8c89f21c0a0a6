// What the agent of one node sees of a cluster: its own sandboxes and volumes, read from memory.
//
// A sandbox is a node's from the moment that `status.nodeName` names the node. One whose place was taken away (its
// reservation was evicted, drained or pre-empted) is shown as deleted: the node then does what it does for one that is, takes
// its finalizer off last, and by that lets go of it. So a sandbox has a VM on one node at a time, whoever fails when.
import { findCondition } from '../../api/conditions.ts';
import { asBulkheadError } from '../../api/errors.ts';
import type { ObjectManifest, StoredObject } from '../../api/meta.ts';
import type { SandboxStatus } from '../../api/sandbox.ts';
import type {
  DeletePreconditions,
  EventRecord,
  ListOptions,
  ListResult,
  ObjectKey,
  Store,
  StoredEvent,
  WatchEvent,
  WatchOptions,
} from '../store.ts';
import type { FollowedObjects } from './followed-objects.ts';
import { isNewer } from './watch.ts';

/** Kinds that the agent follows as a whole, so that what it knows of them is current. */
const FOLLOWED = new Set(['Sandbox', 'Volume', 'NetworkPolicy']);
/** Kinds of which it may read single objects alone. */
const REFERENCED = new Set(['Secret', 'ConfigMap']);

export class NodeStore implements Store {
  readonly #cluster: Store;
  readonly #nodeName: string;
  readonly #references: FollowedObjects;
  /** The newest state known of each object of a followed kind, by `KIND NAMESPACE/NAME`. */
  readonly #known = new Map<string, StoredObject>();

  constructor(cluster: Store, nodeName: string, references: FollowedObjects) {
    this.#cluster = cluster;
    this.#nodeName = nodeName;
    this.#references = references;
  }

  async get(key: ObjectKey): Promise<StoredObject | undefined> {
    if (REFERENCED.has(key.kind)) return this.#references.get(key);
    const known = this.#known.get(textOf(key));
    if (known !== undefined) return this.#view(known);
    const object = await this.#cluster.get(key);
    return object === undefined ? undefined : this.#view(this.#note(object));
  }

  async list(kind: string, options: ListOptions = {}): Promise<ListResult> {
    if (REFERENCED.has(kind)) return this.#references.list(kind);
    const listed = await this.#cluster.list(kind, options);
    const whole = Object.keys(options).length === 0;
    if (whole) this.#forgetAllBut(kind, listed.items);
    return { ...listed, items: this.#views(listed.items.map((object) => this.#note(object))) };
  }

  async *watch(kind: string, options: WatchOptions): AsyncIterable<WatchEvent> {
    if (REFERENCED.has(kind)) {
      yield* this.#references.watch(kind, options.signal);
      return;
    }
    try {
      for await (const event of this.#cluster.watch(kind, options)) yield this.#told(event);
    } catch (error) {
      // The history that our versions are of may be gone altogether: what is listed next counts, also where its version is lower.
      if (asBulkheadError(error).code === 'EXPIRED') this.#forgetAllBut(kind, []);
      throw error;
    }
  }

  async create(manifest: ObjectManifest): Promise<StoredObject> {
    return this.#note(await this.#cluster.create(manifest));
  }

  async update(manifest: ObjectManifest): Promise<StoredObject> {
    return this.#written(await this.#cluster.update(manifest));
  }

  async patch(key: ObjectKey, mergePatch: unknown): Promise<StoredObject> {
    return this.#written(await this.#readingAfterConflict(key, this.#cluster.patch(key, mergePatch)));
  }

  /** Of a policy no node knows the whole: what it would say is left unsaid. */
  async updateStatus(key: ObjectKey, status: unknown, resourceVersion?: string): Promise<StoredObject> {
    const policy = key.kind === 'NetworkPolicy' ? await this.get(key) : undefined;
    if (policy !== undefined) return policy;
    const written = this.#cluster.updateStatus(key, status, resourceVersion);
    return this.#written(await this.#readingAfterConflict(key, written));
  }

  async delete(key: ObjectKey, preconditions?: DeletePreconditions): Promise<StoredObject> {
    const object = await this.#cluster.delete(key, preconditions);
    this.#forget(object);
    return object;
  }

  recordEvent(event: EventRecord): Promise<void> {
    return this.#cluster.recordEvent(event);
  }

  listEvents(options?: {
    kind?: string;
    namespace?: string;
    name?: string;
    uid?: string;
  }): Promise<StoredEvent[]> {
    return this.#cluster.listEvents(options);
  }

  watchEvents(signal: AbortSignal): AsyncIterable<StoredEvent> {
    return this.#cluster.watchEvents(signal);
  }

  close(): Promise<void> {
    this.#references.close();
    return this.#cluster.close();
  }

  /** What a watch tells, as the node sees it. */
  #told(event: WatchEvent): WatchEvent {
    if (event.type === 'BOOKMARK') return event;
    if (event.type === 'DELETED') {
      this.#forget(event.object);
      return event;
    }
    const view = this.#view(this.#note(event.object));
    return view === undefined ? { ...event, type: 'DELETED' } : { ...event, object: view };
  }

  /** A watch that is late, or broken, would let the caller try the same version again and again: so it is read here. */
  async #readingAfterConflict(key: ObjectKey, write: Promise<StoredObject>): Promise<StoredObject> {
    try {
      return await write;
    } catch (error) {
      if (asBulkheadError(error).code === 'CONFLICT') {
        const current = await this.#cluster.get(key);
        if (current !== undefined) this.#note(current);
      }
      throw error;
    }
  }

  /** The answer to a write. What is no longer ours is handed back as it is: the caller reads again and finds nothing. */
  #written(object: StoredObject): StoredObject {
    // An object that lost its last finalizer while it was deleted is answered a last time.
    const gone = object.metadata.deletionTimestamp !== undefined && object.metadata.finalizers === undefined;
    if (gone) this.#forget(object);
    else this.#note(object);
    return this.#view(object) ?? object;
  }

  #views(objects: readonly StoredObject[]): StoredObject[] {
    return objects.map((object) => this.#view(object)).filter((object) => object !== undefined);
  }

  #view(object: StoredObject): StoredObject | undefined {
    if (object.kind !== 'Sandbox') return object;
    const status = object.status as SandboxStatus | undefined;
    if (status?.nodeName !== this.#nodeName) return undefined;
    const disruption = findCondition(status.conditions, 'DisruptionTarget');
    if (disruption?.status !== 'True' || object.metadata.deletionTimestamp !== undefined) return object;
    if (object.metadata.finalizers === undefined) return undefined;
    return { ...object, metadata: { ...object.metadata, deletionTimestamp: disruption.lastTransitionTime } };
  }

  /** Takes note of an object where it is newer than what is known, and returns the newest. */
  #note(object: StoredObject): StoredObject {
    if (!FOLLOWED.has(object.kind)) return object;
    const id = textOf(keyOf(object));
    const known = this.#known.get(id);
    if (known !== undefined && known.metadata.uid === object.metadata.uid && isNewerObject(known, object))
      return known;
    this.#known.set(id, object);
    return object;
  }

  #forget(object: StoredObject): void {
    const id = textOf(keyOf(object));
    if (this.#known.get(id)?.metadata.uid === object.metadata.uid) this.#known.delete(id);
  }

  #forgetAllBut(kind: string, present: readonly StoredObject[]): void {
    const ids = new Set(present.map((object) => textOf(keyOf(object))));
    for (const [id, object] of this.#known) if (object.kind === kind && !ids.has(id)) this.#known.delete(id);
  }
}

function keyOf({ kind, metadata: { namespace, name } }: StoredObject): ObjectKey {
  return { kind, namespace, name };
}

function textOf({ kind, namespace, name }: ObjectKey): string {
  return `${kind} ${namespace}/${name}`;
}

function isNewerObject(a: StoredObject, b: StoredObject): boolean {
  return isNewer(a.metadata.resourceVersion, b.metadata.resourceVersion);
}
