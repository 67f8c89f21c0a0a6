// The object store of a cluster: the Kubernetes API.
import { isDeepStrictEqual } from 'node:util';
import { BulkheadError } from '../../api/errors.ts';
import { kindNamed } from '../../api/kinds.ts';
import type { ObjectManifest, StoredObject } from '../../api/meta.ts';
import { isJsonObject } from '../merge-patch.ts';
import { describeKey, keyOf } from '../object-rules.ts';
import { parseLabelSelector } from '../selectors.ts';
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
import type { ApiClient } from './api-client.ts';
import { countedEvent, type EventSource, eventName, eventsPath, newEvent, storedEvent } from './events.ts';
import { absentAsUndefined } from './failures.ts';
import { changedBody, newBody, patchBody, storedObject } from './objects.ts';
import { collectionPath, objectPath, resourceOf } from './resources.ts';
import { listVersion, watchCollection } from './watch.ts';

/** Objects of one page of a list, as Kubernetes' own clients ask. */
const PAGE_SIZE = 500;
/** Writers that met another one read again and repeat: so often, as each time somebody got ahead. */
const MAX_ATTEMPTS = 8;

export interface ClusterStoreOptions {
  client: ApiClient;
  /**
   * By this name the API server knows which fields are ours. Programs that write one status in turns have one name, so that
   * each can take away what the other wrote; the version in each write keeps them from doing so unseen.
   */
  fieldManager: string;
  events: EventSource;
  /** By kind: what every list and watch selects beside what is asked for, e.g. those objects of one node. */
  selectors?: Readonly<Record<string, KindSelector>>;
  /** Unix milliseconds; the system's clock by default. */
  now?: () => number;
}

export interface KindSelector {
  fields?: string;
  labels?: string;
}

export class ClusterStore implements Store {
  readonly #client: ApiClient;
  readonly #fieldManager: string;
  readonly #source: EventSource;
  readonly #selectors: Readonly<Record<string, KindSelector>>;
  readonly #now: () => number;
  readonly #closed = new AbortController();
  /** By kind: the version of the list that was made last, from which a watch begins without a doubt. */
  readonly #listed = new Map<string, string>();
  /** Watches of events that begin: what is recorded after they were asked for waits until they see it. */
  readonly #beginning = new Set<Promise<unknown>>();

  constructor(options: ClusterStoreOptions) {
    this.#client = options.client;
    this.#fieldManager = options.fieldManager;
    this.#source = options.events;
    this.#selectors = options.selectors ?? {};
    this.#now = options.now ?? Date.now;
  }

  async get(key: ObjectKey): Promise<StoredObject | undefined> {
    const answer = await absentAsUndefined(this.#client.send({ method: 'GET', path: objectPath(key) }));
    return answer === undefined ? undefined : stored(key.kind, answer);
  }

  async list(kind: string, options: ListOptions = {}): Promise<ListResult> {
    const path = collectionPath(kind, options.namespace);
    const query = this.#selection(kind, options);
    const listed = await this.#pages(kind, path, { ...query, limit: String(PAGE_SIZE) }).catch((error) => {
      // The version that the pages are of is gone before the last of them: all at once then.
      if (error instanceof BulkheadError && error.code === 'EXPIRED') return this.#pages(kind, path, query);
      throw error;
    });
    this.#listed.set(kind, listed.resourceVersion);
    return listed;
  }

  async *watch(kind: string, options: WatchOptions): AsyncIterable<WatchEvent> {
    const signal = AbortSignal.any([options.signal, this.#closed.signal]);
    const path = collectionPath(kind, options.namespace);
    const query = this.#selection(kind, options);
    const { resourceVersion: from } = options;
    const isFresh = this.#listed.get(kind) === from;
    this.#listed.delete(kind);
    for await (const event of watchCollection(this.#client, path, query, from, signal, isFresh)) {
      const { type, resourceVersion } = event;
      if (type === 'BOOKMARK') yield { type, resourceVersion };
      else yield { type, object: stored(kind, event.object), resourceVersion };
    }
  }

  async create(manifest: ObjectManifest): Promise<StoredObject> {
    const body = newBody(manifest);
    const { kind, namespace } = keyOf(manifest);
    const path = collectionPath(kind, namespace);
    return stored(kind, await this.#write('POST', path, body));
  }

  async update(manifest: ObjectManifest): Promise<StoredObject> {
    const key = keyOf(manifest);
    const { uid, resourceVersion } = manifest.metadata;
    return retrying(uid === undefined && resourceVersion === undefined, async () => {
      const current = await this.#require(key);
      checkPreconditions(key, current, { uid, resourceVersion });
      const changed = changedBody(current, manifest);
      if (isDeepStrictEqual(changed, current)) return stored(key.kind, current);
      return stored(key.kind, await this.#write('PUT', objectPath(key), changed));
    });
  }

  async patch(key: ObjectKey, mergePatch: unknown): Promise<StoredObject> {
    const body = patchBody(key, mergePatch);
    const answer = await this.#client.send({
      ...{ method: 'PATCH', path: objectPath(key), body, contentType: 'application/merge-patch+json' },
      query: { fieldManager: this.#fieldManager },
    });
    return stored(key.kind, answer);
  }

  /** By server-side apply: what this writer wrote before and leaves out now goes, what others wrote stays. */
  async updateStatus(key: ObjectKey, status: unknown, resourceVersion?: string): Promise<StoredObject> {
    const answer = await this.#client.send({
      method: 'PATCH',
      path: `${objectPath(key)}/status`,
      query: { fieldManager: this.#fieldManager, force: 'true' },
      contentType: 'application/apply-patch+yaml',
      body: {
        apiVersion: resourceOf(key.kind).apiVersion,
        kind: key.kind,
        metadata: {
          ...{ name: key.name, namespace: key.namespace },
          ...(resourceVersion === undefined ? {} : { resourceVersion }),
        },
        status,
      },
    });
    return stored(key.kind, answer);
  }

  async delete(key: ObjectKey, preconditions: DeletePreconditions = {}): Promise<StoredObject> {
    const current = await this.#require(key);
    const { uid } = (current.metadata ?? {}) as { uid?: string };
    const answer = await this.#client.send({
      method: 'DELETE',
      path: objectPath(key),
      body: {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        propagationPolicy: 'Background',
        preconditions: { uid, ...preconditions },
      },
    });
    // An object that is gone at once is answered with a Status.
    const gone = !isJsonObject(answer) || answer.kind !== key.kind;
    return stored(key.kind, gone ? current : answer);
  }

  async recordEvent(event: EventRecord): Promise<void> {
    await Promise.allSettled(this.#beginning);
    const path = eventsPath(event.regarding.namespace);
    const own = `${path}/${encodeURIComponent(eventName(event))}`;
    await retrying(true, async () => {
      const now = new Date(this.#now());
      // Most are the first of their kind: one request for those.
      const isNew = await unlessThere(this.#write('POST', path, newEvent(event, this.#source, now)));
      if (isNew) return;
      const known = await this.#client.send({ method: 'GET', path: own }).catch(raced);
      await this.#client.send({
        method: 'PATCH',
        path: own,
        query: { fieldManager: this.#fieldManager },
        contentType: 'application/merge-patch+json',
        body: countedEvent(known, event, now),
      });
    });
  }

  async listEvents(
    filter: { kind?: string; namespace?: string; name?: string; uid?: string } = {},
  ): Promise<StoredEvent[]> {
    const { kind, namespace, name, uid } = filter;
    const fields = { 'regarding.kind': kind, 'regarding.name': name, 'regarding.uid': uid };
    const fieldSelector = Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([field, value]) => `${field}=${value}`)
      .join(',');
    const events: StoredEvent[] = [];
    for await (const page of this.#answers(eventsPath(namespace), {
      fieldSelector,
      limit: String(PAGE_SIZE),
    }))
      events.push(...page.items.map(storedEvent));
    const ours = events.filter(({ regarding }) => kindNamed(regarding.kind) !== undefined);
    return ours.sort((a, b) => Date.parse(a.lastTimestamp) - Date.parse(b.lastTimestamp));
  }

  watchEvents(asked: AbortSignal): AsyncIterable<StoredEvent> {
    const signal = AbortSignal.any([asked, this.#closed.signal]);
    const begun = this.#client
      .send({ method: 'GET', path: eventsPath(), query: { limit: '1' }, signal })
      .then((answer) => listVersion(answer));
    const settled = begun.catch(() => undefined).finally(() => this.#beginning.delete(settled));
    this.#beginning.add(settled);
    return this.#eventsFrom(begun, signal);
  }

  async close(): Promise<void> {
    this.#closed.abort();
  }

  async *#eventsFrom(begun: Promise<string>, signal: AbortSignal): AsyncGenerator<StoredEvent> {
    const version = await begun;
    for await (const { type, object } of watchCollection(
      this.#client,
      eventsPath(),
      {},
      version,
      signal,
      true,
    )) {
      if (type !== 'ADDED' && type !== 'MODIFIED') continue;
      const event = storedEvent(object);
      if (kindNamed(event.regarding.kind) !== undefined) yield event;
    }
  }

  #write(method: 'POST' | 'PUT', path: string, body: unknown): Promise<unknown> {
    return this.#client.send({ method, path, body, query: { fieldManager: this.#fieldManager } });
  }

  async #require(key: ObjectKey): Promise<Record<string, unknown>> {
    const answer = await this.#client.send({ method: 'GET', path: objectPath(key) });
    if (!isJsonObject(answer)) throw new BulkheadError('NOT_FOUND', `${describeKey(key)} does not exist.`);
    return answer;
  }

  #selection(
    kind: string,
    { labelSelector, fieldSelector }: ListOptions,
  ): Record<string, string | undefined> {
    // Refused here in the words of the embedded store; the API server would take less.
    parseLabelSelector(labelSelector ?? '');
    const own = this.#selectors[kind] ?? {};
    const joined = (...parts: (string | undefined)[]): string | undefined =>
      parts.filter((part) => part !== undefined && part !== '').join(',') || undefined;
    return {
      labelSelector: joined(labelSelector, own.labels),
      fieldSelector: joined(fieldSelector, own.fields),
    };
  }

  async #pages(
    kind: string,
    path: string,
    query: Readonly<Record<string, string | undefined>>,
  ): Promise<ListResult> {
    const items: StoredObject[] = [];
    let resourceVersion = '';
    for await (const page of this.#answers(path, query)) {
      for (const item of page.items) items.push(stored(kind, item));
      resourceVersion ||= page.resourceVersion;
    }
    return { items, resourceVersion };
  }

  async *#answers(
    path: string,
    query: Readonly<Record<string, string | undefined>>,
  ): AsyncGenerator<{ items: unknown[]; resourceVersion: string }> {
    let more: string | undefined;
    do {
      const answer = await this.#client.send({ method: 'GET', path, query: { ...query, continue: more } });
      const { items, metadata } = isJsonObject(answer) ? answer : {};
      yield { items: Array.isArray(items) ? items : [], resourceVersion: listVersion(answer) };
      more = isJsonObject(metadata) && typeof metadata.continue === 'string' ? metadata.continue : '';
    } while (more !== '');
  }
}

function stored(kind: string, answer: unknown): StoredObject {
  return storedObject(kind, resourceOf(kind).apiVersion, answer);
}

/** Whether what was to be made is new; false where it was there already. */
async function unlessThere(made: Promise<unknown>): Promise<boolean> {
  try {
    await made;
    return true;
  } catch (error) {
    if (error instanceof BulkheadError && error.code === 'ALREADY_EXISTS') return false;
    throw error;
  }
}

/** What was there a moment ago is gone: as any other write that came between. */
function raced(error: unknown): never {
  if (!(error instanceof BulkheadError) || error.code !== 'NOT_FOUND') throw error;
  throw new BulkheadError('CONFLICT', error.message, { cause: error });
}

/** Repeats a read and write where another writer came between, unless the caller said which version it means. */
async function retrying<T>(mayRepeat: boolean, attempt: () => Promise<T>): Promise<T> {
  for (let left = MAX_ATTEMPTS - 1; ; left -= 1) {
    try {
      return await attempt();
    } catch (error) {
      const lost =
        error instanceof BulkheadError && (error.code === 'CONFLICT' || error.code === 'ALREADY_EXISTS');
      if (!lost || !mayRepeat || left === 0) throw error;
    }
  }
}

function checkPreconditions(
  key: ObjectKey,
  current: Record<string, unknown>,
  wanted: { uid: string | undefined; resourceVersion: string | undefined },
): void {
  const found = (current.metadata ?? {}) as { uid?: string; resourceVersion?: string };
  for (const field of ['uid', 'resourceVersion'] as const) {
    if (wanted[field] === undefined || wanted[field] === found[field]) continue;
    throw new BulkheadError(
      'CONFLICT',
      `${describeKey(key)} has ${field} ${found[field]}, not ${wanted[field]}: it changed meanwhile.`,
    );
  }
}
