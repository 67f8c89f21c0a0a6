// The contract of the object store. Two implementations: embedded/ (SQLite) and, in a cluster, the Kubernetes API.
// One contract suite (store.contract.ts) runs against each.
import type { ObjectManifest, StoredObject } from '../api/meta.ts';

/** Names one object. */
export interface ObjectKey {
  kind: string;
  namespace: string;
  name: string;
}

/** A change that a watch delivers. */
export type WatchEvent =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: StoredObject; resourceVersion: string }
  /** Nothing changed up to this version; a watcher may restart from it. */
  | { type: 'BOOKMARK'; resourceVersion: string };

export interface ListOptions {
  /** All namespaces when absent. */
  namespace?: string;
  /** Kubernetes label selector text, e.g. `team=research,tier!=dev`. */
  labelSelector?: string;
  /** Only `metadata.name=X` and `metadata.namespace=X` are supported. */
  fieldSelector?: string;
}

export interface ListResult {
  items: StoredObject[];
  /** Watching from here misses nothing that happened after this list. */
  resourceVersion: string;
}

export interface WatchOptions extends ListOptions {
  /** Start after this version. A version older than the history kept fails with `EXPIRED` (HTTP 410): list again. */
  resourceVersion: string;
  signal: AbortSignal;
}

export interface DeletePreconditions {
  uid?: string;
  resourceVersion?: string;
}

/** An event as the recorder hands it over; the store deduplicates (same object, type, reason, message). */
export interface EventRecord {
  regarding: { kind: string; namespace: string; name: string; uid: string };
  type: 'Normal' | 'Warning';
  reason: string;
  message: string;
  /** Occurrences that this record stands for; 1 when absent. */
  count?: number;
}

/** A recorded event. Times are RFC 3339. */
export interface StoredEvent extends EventRecord {
  id: string;
  count: number;
  firstTimestamp: string;
  lastTimestamp: string;
}

/**
 * Objects with Kubernetes' rules: optimistic concurrency by resourceVersion, generation that moves with spec only,
 * finalizers, status written by its own call. Failures are `BulkheadError`s: NOT_FOUND, ALREADY_EXISTS, CONFLICT,
 * EXPIRED, INVALID, BAD_REQUEST, TOO_LARGE, STORE_FULL, STORE_CORRUPT.
 * Objects handed out are frozen: a caller that wants to change one makes a copy.
 */
export interface Store {
  get(key: ObjectKey): Promise<StoredObject | undefined>;
  list(kind: string, options?: ListOptions): Promise<ListResult>;
  /** Ends when `signal` aborts; throws EXPIRED when the history is gone. Slow consumers get EXPIRED, not unbounded memory. */
  watch(kind: string, options: WatchOptions): AsyncIterable<WatchEvent>;
  create(manifest: ObjectManifest): Promise<StoredObject>;
  /**
   * Replaces spec (or data), labels and annotations; finalizers and ownerReferences only where given, so that a manifest
   * from a file removes none that a controller set. `metadata.resourceVersion` and `metadata.uid`, where given, must match.
   * Never touches status. No change is no write and no event.
   */
  update(manifest: ObjectManifest): Promise<StoredObject>;
  /**
   * JSON merge patch (RFC 7386) of spec, data and metadata (labels, annotations, finalizers, ownerReferences); status and the
   * server's own metadata are left alone. `metadata.resourceVersion` and `metadata.uid` in the patch are preconditions.
   */
  patch(key: ObjectKey, mergePatch: unknown): Promise<StoredObject>;
  /** Replaces the whole status; `resourceVersion`, where given, must match. Unchanged status is no write and no event. */
  updateStatus(key: ObjectKey, status: unknown, resourceVersion?: string): Promise<StoredObject>;
  /**
   * With finalizers: sets deletionTimestamp and returns the object; it goes with its last finalizer. Without: removes it.
   * Objects that only a removed one owned (`ownerReferences`) are deleted too.
   */
  delete(key: ObjectKey, preconditions?: DeletePreconditions): Promise<StoredObject>;

  recordEvent(event: EventRecord): Promise<void>;
  listEvents(options?: {
    kind?: string;
    namespace?: string;
    name?: string;
    uid?: string;
  }): Promise<StoredEvent[]>;

  /**
   * Events as they are recorded from this call on; one that is counted again comes again, with its new count. Ends when
   * `signal` aborts; throws EXPIRED for a consumer that is too slow.
   */
  watchEvents(signal: AbortSignal): AsyncIterable<StoredEvent>;

  close(): Promise<void>;
}
