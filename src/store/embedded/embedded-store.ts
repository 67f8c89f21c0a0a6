// The object store of one machine: a SQLite file, with all objects in memory for reading.
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { BulkheadError } from '../../api/errors.ts';
import type { ObjectManifest, StoredObject } from '../../api/meta.ts';
import { keyOf } from '../object-rules.ts';
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
import { LOCK_WAIT_MS, openDatabase, rewriteHeader } from './database.ts';
import { EventFeed } from './event-feed.ts';
import { checkEvent, EventLog } from './event-log.ts';
import { corrupt, storeError } from './failures.ts';
import { type Change, History, MAX_HISTORY_BYTES, MAX_HISTORY_CHANGES } from './history.ts';
import { ObjectTable } from './object-table.ts';
import { decodeObject } from './objects.ts';
import { RevisionMark } from './revision-mark.ts';
import { lockStore, type StoreLock } from './store-lock.ts';
import { type StagedChange, Transaction } from './transaction.ts';
import { selection, Wakeup, watchHistory } from './watch.ts';

/** Writes that are committed together: one fsync for all, and about 20 ms of the event loop at most. */
const MAX_GROUP = 256;
/** Far above any real store; keeps a runaway client from taking the state directory's whole disk. */
const MAX_STORE_BYTES = 4 * 1024 * 1024 * 1024;

export interface EmbeddedStoreOptions {
  /** The file; made with mode 0600 when it does not exist. Its directory must exist. */
  path: string;
  /** Unix milliseconds; the system's clock by default. */
  now?: () => number;
  maxHistoryChanges?: number;
  maxHistoryBytes?: number;
  maxStoreBytes?: number;
  /** How long opening waits, blocking, for another process to release the file. */
  lockWaitMs?: number;
}

interface Write {
  run(transaction: Transaction): StoredObject | undefined;
  resolve(object: StoredObject | undefined): void;
  reject(error: unknown): void;
}

interface WriteStatements {
  put: StatementSync;
  remove: StatementSync;
  append: StatementSync;
  trim: StatementSync;
}

/**
 * Writes that arrive in the same turn of the event loop are committed as one group. A write's promise settles after its
 * group is on disk (`synchronous=FULL`): what was acknowledged survives `kill -9` and power loss.
 */
export class EmbeddedStore implements Store {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #statements: WriteStatements;
  readonly #events: EventLog;
  readonly #eventFeed = new EventFeed();
  readonly #objects: ObjectTable;
  readonly #history: History;
  readonly #mark: RevisionMark;
  readonly #lock: StoreLock;
  readonly #now: () => number;
  readonly #committed = new Wakeup();
  readonly #closed = new AbortController();
  /** The last write failed for the disk's sake. */
  #unwritable = false;
  #writes: Write[] = [];
  #scheduled: NodeJS.Immediate | undefined;

  /** Opens or makes the store. Fails with STORE_LOCKED, STORE_CORRUPT, STORE_TOO_NEW or STORE_FULL. */
  static open(options: EmbeddedStoreOptions): EmbeddedStore {
    const { path, lockWaitMs = LOCK_WAIT_MS, maxStoreBytes: maxBytes = MAX_STORE_BYTES } = options;
    const lock = lockStore(path, lockWaitMs);
    let database: DatabaseSync | undefined;
    try {
      database = openDatabase({ path, maxBytes, lockWaitMs });
      return new EmbeddedStore(database, lock, options);
    } catch (error) {
      database?.close();
      lock.release();
      throw storeError(error, path);
    }
  }

  private constructor(database: DatabaseSync, lock: StoreLock, options: EmbeddedStoreOptions) {
    this.#path = options.path;
    this.#lock = lock;
    this.#database = database;
    this.#now = options.now ?? Date.now;
    this.#events = new EventLog(database);
    this.#statements = {
      put: database.prepare(
        `INSERT INTO objects (kind, namespace, name, object) VALUES (?, ?, ?, ?)
         ON CONFLICT (kind, namespace, name) DO UPDATE SET object = excluded.object`,
      ),
      remove: database.prepare('DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?'),
      append: database.prepare(
        'INSERT INTO changes (resource_version, type, previous_labels, object) VALUES (?, ?, ?, ?)',
      ),
      trim: database.prepare('DELETE FROM changes WHERE resource_version <= ?'),
    };
    this.#objects = this.#loadObjects();
    this.#history = this.#loadHistory(
      options.maxHistoryChanges ?? MAX_HISTORY_CHANGES,
      options.maxHistoryBytes ?? MAX_HISTORY_BYTES,
    );
    const { floor, latest } = this.#history;
    // The version that a new store begins with is acknowledged to nobody, and not in its file.
    this.#mark = new RevisionMark(this.#path, floor === latest ? 0 : latest);
  }

  async get(key: ObjectKey): Promise<StoredObject | undefined> {
    return this.#objects.get(key);
  }

  async list(kind: string, options: ListOptions = {}): Promise<ListResult> {
    const { labels, names } = selection(options);
    return {
      items: this.#objects
        .ofKind(kind)
        .filter((object) => names(object.metadata) && labels(object.metadata.labels)),
      resourceVersion: String(this.#history.latest),
    };
  }

  watch(kind: string, options: WatchOptions): AsyncIterable<WatchEvent> {
    return watchHistory(this.#history, this.#committed, this.#closed.signal, kind, options);
  }

  async create(manifest: ObjectManifest): Promise<StoredObject> {
    return this.#write((transaction) => transaction.create(manifest));
  }

  async update(manifest: ObjectManifest): Promise<StoredObject> {
    return this.#write((transaction) => transaction.update(manifest));
  }

  async patch(key: ObjectKey, mergePatch: unknown): Promise<StoredObject> {
    return this.#write((transaction) => transaction.patch(key, mergePatch));
  }

  async updateStatus(key: ObjectKey, status: unknown, resourceVersion?: string): Promise<StoredObject> {
    return this.#write((transaction) => transaction.updateStatus(key, status, resourceVersion));
  }

  async delete(key: ObjectKey, preconditions: DeletePreconditions = {}): Promise<StoredObject> {
    return this.#write((transaction) => transaction.delete(key, preconditions));
  }

  async recordEvent(event: EventRecord): Promise<void> {
    checkEvent(event);
    await this.#enqueue((transaction) => {
      transaction.recordEvent(event);
      return undefined;
    });
  }

  async listEvents(
    filter: { kind?: string; namespace?: string; name?: string; uid?: string } = {},
  ): Promise<StoredEvent[]> {
    this.#checkOpen();
    return this.#events.list(filter, this.#now());
  }

  watchEvents(signal: AbortSignal): AsyncIterable<StoredEvent> {
    this.#checkOpen();
    return this.#eventFeed.watch(AbortSignal.any([signal, this.#closed.signal]));
  }

  /** Fails with DISK_UNWRITABLE while writes do: after one that failed it tries another, which changes nothing. */
  async checkWritable(): Promise<void> {
    this.#checkOpen();
    if (!this.#unwritable) return;
    try {
      rewriteHeader(this.#database);
    } catch (error) {
      throw storeError(error, this.#path);
    }
    this.#unwritable = false;
  }

  /** Commits what is waiting, ends all watches and releases the file. Safe to repeat. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    while (this.#writes.length > 0) this.#commitGroup();
    clearImmediate(this.#scheduled);
    this.#closed.abort();
    this.#mark.close();
    this.#database.close();
    this.#lock.release();
  }

  async #write(run: (transaction: Transaction) => StoredObject): Promise<StoredObject> {
    const object = await this.#enqueue(run);
    if (object === undefined) throw new BulkheadError('INTERNAL', 'A write ended without its object.');
    return object;
  }

  #enqueue(run: Write['run']): Promise<StoredObject | undefined> {
    this.#checkOpen();
    return new Promise((resolve, reject) => {
      this.#writes.push({ run, resolve, reject });
      this.#schedule();
    });
  }

  #checkOpen(): void {
    if (this.#closed.signal.aborted) throw new BulkheadError('INTERNAL', `${this.#path} is closed.`);
  }

  #schedule(): void {
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = undefined;
      this.#commitGroup();
      if (this.#writes.length > 0) this.#schedule();
    });
  }

  #commitGroup(): void {
    const group = this.#writes.splice(0, MAX_GROUP);
    const now = this.#now();
    const transaction = new Transaction(this.#objects, this.#history.latest, new Date(now));
    const staged: { write: Write; object: StoredObject | undefined }[] = [];
    for (const write of group) {
      try {
        staged.push({ write, object: transaction.attempt(write.run) });
      } catch (error) {
        write.reject(error);
      }
    }
    try {
      this.#eventFeed.publish(this.#commit(transaction, now));
    } catch (thrown) {
      const error = storeError(thrown, this.#path);
      this.#unwritable = error instanceof BulkheadError && error.code === 'DISK_UNWRITABLE';
      for (const { write } of staged) write.reject(error);
      return;
    }
    for (const change of transaction.changes) this.#publish(change);
    if (transaction.changes.length > 0) this.#committed.notify();
    for (const { write, object } of staged) write.resolve(object);
  }

  /** Puts the group on disk and returns its events as stored, or leaves the file as it was and throws. */
  #commit(transaction: Transaction, now: number): StoredEvent[] {
    if (transaction.changes.length === 0 && transaction.events.length === 0) return [];
    const { put, remove, append, trim } = this.#statements;
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      for (const { resourceVersion, type, object, previousLabels, json } of transaction.changes) {
        const { kind, namespace, name } = keyOf(object);
        if (type === 'DELETED') remove.run(kind, namespace, name);
        else put.run(kind, namespace, name, json);
        append.run(
          resourceVersion,
          type,
          previousLabels === undefined ? null : JSON.stringify(previousLabels),
          json,
        );
      }
      const events = this.#events.record(transaction.events, now);
      trim.run(this.#history.floor);
      this.#database.exec('COMMIT');
      this.#unwritable = false;
      const latest = transaction.changes.at(-1);
      if (latest !== undefined) this.#mark.advance(latest.resourceVersion);
      return events;
    } catch (error) {
      // SQLite has rolled back by itself after some errors.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }

  #publish({ json: _stored, ...change }: StagedChange): void {
    if (change.type === 'DELETED') this.#objects.remove(keyOf(change.object));
    else this.#objects.put(change.object);
    this.#history.append(change);
  }

  #loadObjects(): ObjectTable {
    const objects = new ObjectTable();
    for (const row of this.#database.prepare('SELECT * FROM objects').iterate()) {
      const { kind, namespace, name } = row;
      const object = this.#decode(String(row.object), `${kind} ${namespace}/${name}`);
      const { metadata } = object;
      if (object.kind !== kind || metadata?.namespace !== namespace || metadata.name !== name) {
        throw corrupt(this.#path, `${kind} ${namespace}/${name} holds another object`);
      }
      objects.put(object);
    }
    return objects;
  }

  #loadHistory(maxChanges: number, maxBytes: number): History {
    const rows = this.#database.prepare('SELECT * FROM changes ORDER BY resource_version').iterate();
    let history: History | undefined;
    for (const row of rows) {
      const resourceVersion = Number(row.resource_version);
      const json = String(row.object);
      const recorded = this.#decode(json, `change ${resourceVersion}`);
      const current = this.#objects.get(keyOf(recorded));
      history ??= new History(resourceVersion - 1, { maxChanges, maxBytes });
      if (resourceVersion !== history.latest + 1) {
        throw corrupt(this.#path, `changes between ${history.latest} and ${resourceVersion} are missing`);
      }
      history.append({
        resourceVersion,
        type: changeType(row.type),
        // Most changes are the newest of their object: held once.
        object: current?.metadata.resourceVersion === recorded.metadata.resourceVersion ? current : recorded,
        previousLabels: typeof row.previous_labels === 'string' ? JSON.parse(row.previous_labels) : undefined,
        bytes: Buffer.byteLength(json),
      });
    }
    // A new store starts above every version that a former store of this machine can have reached, as those advance far
    // slower than a clock's milliseconds: a watcher of the former one gets EXPIRED instead of missing changes.
    return history ?? new History(this.#now(), { maxChanges, maxBytes });
  }

  #decode(json: string, what: string): StoredObject {
    try {
      return decodeObject(json);
    } catch (error) {
      throw corrupt(this.#path, `${what} cannot be read`, error);
    }
  }
}

function changeType(value: unknown): Change['type'] {
  return value === 'ADDED' || value === 'DELETED' ? value : 'MODIFIED';
}
