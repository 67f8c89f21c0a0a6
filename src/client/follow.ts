// A list and then its changes, for as long as wanted: watches that end or fall behind are taken up again.
import { asBulkheadError } from '../api/errors.ts';
import type { ResourceKind, StoredObject } from '../api/meta.ts';
import type { BulkheadClient, ListQuery } from './client.ts';

export type Followed =
  /** What is there: at the start, and again whenever changes were missed. */
  | { type: 'SYNCED'; objects: StoredObject[] }
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: StoredObject };

/** Ends with the signal. Fails when the daemon goes away. */
export async function* followObjects(
  client: BulkheadClient,
  kind: ResourceKind,
  query: ListQuery,
  signal: AbortSignal,
): AsyncGenerator<Followed> {
  while (!signal.aborted) {
    const { items, metadata } = await client.list(kind, query);
    yield { type: 'SYNCED', objects: items };
    let resourceVersion = metadata.resourceVersion ?? '0';
    try {
      while (!signal.aborted) {
        for await (const { type, object } of client.watch(kind, { ...query, resourceVersion, signal })) {
          resourceVersion = object.metadata.resourceVersion;
          if (type !== 'BOOKMARK') yield { type, object };
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (asBulkheadError(error).code !== 'EXPIRED') throw error;
    }
  }
}
