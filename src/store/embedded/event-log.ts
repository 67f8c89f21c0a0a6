// Events about objects: equal ones are counted, old ones expire, no object can fill the log.
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite';
import { BulkheadError } from '../../api/errors.ts';
import type { EventRecord, StoredEvent } from '../store.ts';
import { timestamp } from './objects.ts';

/** As Kubernetes' API server keeps them. */
const EVENT_TTL_MS = 60 * 60 * 1000;
/** Distinct events of one object; the ones seen longest ago go first. */
const MAX_EVENTS_PER_OBJECT = 100;
/** Events of all objects, also those that are gone: about 10 MB. */
const MAX_EVENTS = 20_000;
/** Kubernetes' limits; longer texts are cut. */
const MAX_MESSAGE_LENGTH = 1024;
const MAX_REASON_LENGTH = 128;
const EXPIRE_EVERY_MS = 60_000;

export class EventLog {
  readonly #upsert: StatementSync;
  readonly #expireObject: StatementSync;
  readonly #trimObject: StatementSync;
  readonly #expireAll: StatementSync;
  readonly #trimAll: StatementSync;
  readonly #select: StatementSync;
  #lastExpiry = 0;

  constructor(database: DatabaseSync) {
    this.#upsert = database.prepare(
      `INSERT INTO events (kind, namespace, name, uid, type, reason, message, count, first_time, last_time)
       VALUES (:kind, :namespace, :name, :uid, :type, :reason, :message, :count, :now, :now)
       ON CONFLICT (uid, type, reason, message) DO UPDATE SET count = count + :count, last_time = :now
       RETURNING *`,
    );
    this.#expireObject = database.prepare('DELETE FROM events WHERE uid = ? AND last_time <= ?');
    this.#trimObject = database.prepare(
      `DELETE FROM events WHERE id IN
         (SELECT id FROM events WHERE uid = ? ORDER BY last_time DESC, id DESC LIMIT -1 OFFSET ${MAX_EVENTS_PER_OBJECT})`,
    );
    this.#expireAll = database.prepare('DELETE FROM events WHERE last_time <= ?');
    this.#trimAll = database.prepare(
      `DELETE FROM events WHERE id IN
         (SELECT id FROM events ORDER BY last_time DESC, id DESC LIMIT -1 OFFSET ${MAX_EVENTS})`,
    );
    this.#select = database.prepare(
      `SELECT * FROM events
       WHERE last_time > :oldest AND (:kind IS NULL OR kind = :kind) AND (:namespace IS NULL OR namespace = :namespace)
         AND (:name IS NULL OR name = :name) AND (:uid IS NULL OR uid = :uid)
       ORDER BY last_time, id`,
    );
  }

  /** Writes events within the caller's transaction, and returns them as they are stored now. */
  record(events: readonly EventRecord[], now: number): StoredEvent[] {
    const stored: StoredEvent[] = [];
    for (const { regarding, type, reason, message, count = 1 } of events) {
      this.#expireObject.run(regarding.uid, now - EVENT_TTL_MS);
      const row = this.#upsert.get({
        kind: regarding.kind,
        namespace: regarding.namespace,
        name: regarding.name,
        uid: regarding.uid,
        type,
        reason: reason.slice(0, MAX_REASON_LENGTH),
        message: message.slice(0, MAX_MESSAGE_LENGTH),
        count,
        now,
      });
      if (row !== undefined) stored.push(eventOf(row));
      this.#trimObject.run(regarding.uid);
    }
    // Also when the clock was set back: the difference is then negative.
    if (events.length > 0 && Math.abs(now - this.#lastExpiry) >= EXPIRE_EVERY_MS) {
      this.#lastExpiry = now;
      this.#expireAll.run(now - EVENT_TTL_MS);
      this.#trimAll.run();
    }
    return stored;
  }

  list(
    filter: { kind?: string; namespace?: string; name?: string; uid?: string },
    now: number,
  ): StoredEvent[] {
    const rows = this.#select.all({
      oldest: now - EVENT_TTL_MS,
      kind: filter.kind ?? null,
      namespace: filter.namespace ?? null,
      name: filter.name ?? null,
      uid: filter.uid ?? null,
    });
    return rows.map(eventOf);
  }
}

function eventOf(row: Record<string, SQLOutputValue>): StoredEvent {
  return {
    id: String(row.id),
    regarding: {
      kind: String(row.kind),
      namespace: String(row.namespace),
      name: String(row.name),
      uid: String(row.uid),
    },
    type: row.type === 'Warning' ? 'Warning' : 'Normal',
    reason: String(row.reason),
    message: String(row.message),
    count: Number(row.count),
    firstTimestamp: timestamp(new Date(Number(row.first_time))),
    lastTimestamp: timestamp(new Date(Number(row.last_time))),
  };
}

/** Refuses an event that could not be stored faithfully. */
export function checkEvent({ regarding, type, reason, message, count = 1 }: EventRecord): void {
  const texts = [regarding.kind, regarding.namespace, regarding.name, regarding.uid, reason];
  if (!texts.every((text) => typeof text === 'string' && text !== '') || typeof message !== 'string') {
    throw new BulkheadError(
      'INVALID',
      'An event needs kind, namespace, name and uid of its object, reason and message.',
    );
  }
  if (type !== 'Normal' && type !== 'Warning') {
    throw new BulkheadError('INVALID', `An event's type is Normal or Warning, not "${String(type)}".`);
  }
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new BulkheadError('INVALID', `An event's count is a positive integer, not ${count}.`);
  }
}
