// Lists in parts: `limit` and `continue`. All pages of one list show the store at the moment of the first, as in
// Kubernetes: the objects are immutable and shared with the store, so what is kept costs little beside its length.
import { randomUUID } from 'node:crypto';
import { BulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { ListResult } from '../store/store.ts';
import { LIST_TOKEN_BYTES_MAX, LISTS_KEPT_MAX, LISTS_KEPT_MS } from './limits.ts';

export interface Page {
  items: readonly StoredObject[];
  resourceVersion: string;
  /** For the next page; absent on the last one. */
  continue?: string;
  /** How many follow this page. */
  remainingItemCount?: number;
}

interface KeptList extends ListResult {
  /** What was asked for: a continuation must ask for the same. */
  query: string;
  /** Monotonic milliseconds of the last page. */
  usedAt: number;
}

/** The lists whose later pages may still be asked for. The one that was used longest ago goes first. */
export class Pages {
  readonly #kept = new Map<string, KeptList>();
  readonly #monotonic: () => number;

  constructor(monotonic: () => number = () => performance.now()) {
    this.#monotonic = monotonic;
  }

  /** The first page of a list; all of it when `limit` is 0. */
  first(list: ListResult, query: string, limit: number): Page {
    this.#expire();
    if (limit === 0 || list.items.length <= limit) return list;
    const id = randomUUID();
    return this.#page(id, { ...list, query, usedAt: 0 }, 0, limit);
  }

  /** The page that a token leads to. Throws EXPIRED where the list is no longer kept, BAD_REQUEST for what is no token. */
  next(token: string, query: string, limit: number): Page {
    this.#expire();
    const [, id = '', at = ''] =
      (token.length <= LIST_TOKEN_BYTES_MAX ? /^([0-9a-f-]{36})\.(\d{1,9})$/.exec(token) : null) ?? [];
    if (id === '') throw new BulkheadError('BAD_REQUEST', 'continue: this is no token of this server');
    const list = this.#kept.get(id);
    if (list === undefined) {
      throw new BulkheadError('EXPIRED', 'continue: the list is no longer kept; start it anew');
    }
    if (list.query !== query) {
      throw new BulkheadError('BAD_REQUEST', 'continue: the token is of a list with other parameters');
    }
    return this.#page(id, list, Number(at), limit);
  }

  #page(id: string, list: KeptList, from: number, limit: number): Page {
    const to = limit === 0 ? list.items.length : Math.min(from + limit, list.items.length);
    const remaining = list.items.length - to;
    const page = { items: list.items.slice(from, to), resourceVersion: list.resourceVersion };
    this.#kept.delete(id);
    // The last page may be asked for again too, by a client whose connection broke.
    this.#kept.set(id, { ...list, usedAt: this.#monotonic() });
    if (this.#kept.size > LISTS_KEPT_MAX) this.#dropOldest();
    if (remaining === 0) return page;
    return { ...page, continue: `${id}.${to}`, remainingItemCount: remaining };
  }

  #dropOldest(): void {
    const [oldest] = this.#kept.keys();
    if (oldest !== undefined) this.#kept.delete(oldest);
  }

  #expire(): void {
    const now = this.#monotonic();
    for (const [id, { usedAt }] of this.#kept) {
      if (now - usedAt < LISTS_KEPT_MS) return;
      this.#kept.delete(id);
    }
  }
}
