// Notices that someone changed or removed an object of the folder through the API. A hint, as the folder's watch is.
import type { StoredObject } from '../api/meta.ts';
import type { Store, WatchEvent } from '../store/store.ts';
import { canonicalJson } from './canonical.ts';
import type { Observed } from './folder-sync.ts';
import { keyText } from './model.ts';

/** What the folder decides about an object; its status is none of that. */
function fingerprint(object: StoredObject): string {
  const { uid, generation, labels, annotations, deletionTimestamp } = object.metadata;
  return canonicalJson([uid, generation, labels, annotations, deletionTimestamp, object.data]);
}

export class StoreWatch {
  readonly #store: Store;
  readonly #onHint: () => void;
  readonly #abort = new AbortController();
  readonly #running = new Map<string, Promise<void>>();
  #objects: ReadonlyMap<string, StoredObject> = new Map();
  /** Keys of documents and objects that the folder cares about. */
  #wanted: ReadonlySet<string> = new Set();

  constructor(store: Store, onHint: () => void) {
    this.#store = store;
    this.#onHint = onHint;
  }

  /** After a pass: what it saw is no news. Watches that have ended start again from its lists. */
  observe(observed: Observed, wanted: ReadonlySet<string>): void {
    this.#objects = observed.objects;
    this.#wanted = wanted;
    for (const [kind, resourceVersion] of observed.resourceVersions) {
      if (this.#running.has(kind) || this.#abort.signal.aborted) continue;
      this.#running.set(kind, this.#follow(kind, resourceVersion));
    }
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#running.values());
  }

  /** Ends quietly on any failure: the next pass starts it again. */
  async #follow(kind: string, resourceVersion: string): Promise<void> {
    try {
      for await (const event of this.#store.watch(kind, { resourceVersion, signal: this.#abort.signal })) {
        if (this.#isNews(event)) this.#onHint();
      }
    } catch {
      // EXPIRED, or the store is closing; the resync covers what is missed until then.
    } finally {
      this.#running.delete(kind);
    }
  }

  #isNews(event: WatchEvent): boolean {
    if (event.type === 'BOOKMARK') return false;
    const { kind, metadata } = event.object;
    const key = keyText({ kind, namespace: metadata.namespace, name: metadata.name });
    if (!this.#wanted.has(key)) return false;
    const known = this.#objects.get(key);
    if (event.type === 'DELETED') return known !== undefined;
    return known === undefined || fingerprint(known) !== fingerprint(event.object);
  }
}
