// `?watch=1`: changes of a collection as newline-delimited JSON, in Kubernetes' framing.
import type { FastifyReply } from 'fastify';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import { apiVersionOf } from '../api/kinds.ts';
import type { StoredObject } from '../api/meta.ts';
import { statusOf } from '../api/status.ts';
import type { ListOptions, Store, StoredEvent } from '../store/store.ts';
import type { ServedKind } from './contracts.ts';
import { FOLLOWERS_MAX, WATCH_SECONDS_MAX } from './limits.ts';
import { openLineStream } from './line-stream.ts';
import { boolean, integer, type Query, single } from './query.ts';
import type { TablePrinter } from './table.ts';

/** What all open watches and followed logs of a server share. */
export interface WatchHost {
  /** Aborts when the server closes. */
  readonly closing: AbortSignal;
  /** How many are open now. */
  followers: number;
}

/** Counts one more open response; fails with TOO_MANY_REQUESTS. The returned function takes it back. */
export function admitFollower(host: WatchHost): () => void {
  if (host.followers >= FOLLOWERS_MAX) {
    throw new BulkheadError('TOO_MANY_REQUESTS', `${FOLLOWERS_MAX} watches and logs are open already`);
  }
  host.followers++;
  let open = true;
  return () => {
    if (open) host.followers--;
    open = false;
  };
}

/** A watch of events: those that there are, as ADDED, then each as it is recorded. */
export async function serveEventWatch(
  store: Store,
  list: () => Promise<StoredEvent[]>,
  matches: (event: StoredEvent) => boolean,
  toObject: (event: StoredEvent) => unknown,
  query: Query,
  reply: FastifyReply,
  host: WatchHost,
): Promise<void> {
  const seconds = Math.min(integer(query, 'timeoutSeconds', 1) ?? WATCH_SECONDS_MAX, WATCH_SECONDS_MAX);
  const done = admitFollower(host);
  const stream = openLineStream(reply, 'application/json;stream=watch', host.closing);
  const signal = AbortSignal.any([stream.signal, AbortSignal.timeout(seconds * 1000)]);
  const send = (type: string, object: unknown) => stream.write(`${JSON.stringify({ type, object })}\n`);
  try {
    // Watched before they are listed, so that none falls between; one may so come twice.
    const recorded = store.watchEvents(signal);
    for (const event of await list()) await send('ADDED', toObject(event));
    for await (const event of recorded) {
      if (matches(event)) await send(event.count > 1 ? 'MODIFIED' : 'ADDED', toObject(event));
    }
  } catch (error) {
    if (!signal.aborted) await send('ERROR', statusOf(asBulkheadError(error)));
  } finally {
    done();
    stream.end();
  }
}

/**
 * Serves one watch until the client leaves, `timeoutSeconds` pass or the history is gone. Without a resourceVersion, or with
 * 0, the present objects come first, as ADDED. With a printer each object is a Table of one row. Failures after the start arrive as an ERROR line, as Kubernetes does.
 */
export async function serveWatch(
  kind: ServedKind,
  options: ListOptions,
  query: Query,
  reply: FastifyReply,
  store: Store,
  host: WatchHost,
  printer?: TablePrinter,
): Promise<void> {
  const bookmarks = boolean(query, 'allowWatchBookmarks');
  const seconds = Math.min(integer(query, 'timeoutSeconds', 1) ?? WATCH_SECONDS_MAX, WATCH_SECONDS_MAX);
  const from = single(query, 'resourceVersion');
  const sendInitial = boolean(query, 'sendInitialEvents');
  const initial =
    from === undefined || from === '0' || sendInitial ? await store.list(kind.kind, options) : undefined;
  const done = admitFollower(host);
  const apiVersion = apiVersionOf(kind);
  const stream = openLineStream(reply, 'application/json;stream=watch', host.closing);
  const signal = AbortSignal.any([stream.signal, AbortSignal.timeout(seconds * 1000)]);
  const send = (type: string, object: unknown) => stream.write(`${JSON.stringify({ type, object })}\n`);
  const shown = (object: StoredObject) =>
    printer?.table([object], { resourceVersion: object.metadata.resourceVersion }) ?? object;
  const bookmark = (resourceVersion: string, annotations?: Record<string, string>) =>
    send('BOOKMARK', {
      apiVersion,
      kind: kind.kind,
      metadata: { resourceVersion, ...(annotations ? { annotations } : {}) },
    });
  try {
    for (const object of initial?.items ?? []) await send('ADDED', shown(object));
    const resourceVersion = initial?.resourceVersion ?? from ?? '0';
    if (sendInitial) await bookmark(resourceVersion, { 'k8s.io/initial-events-end': 'true' });
    for await (const event of store.watch(kind.kind, { ...options, resourceVersion, signal })) {
      if (event.type !== 'BOOKMARK') await send(event.type, shown(event.object));
      else if (bookmarks) await bookmark(event.resourceVersion);
      if (signal.aborted) break;
    }
  } catch (error) {
    if (!signal.aborted) await send('ERROR', statusOf(asBulkheadError(error)));
  } finally {
    done();
    stream.end();
  }
}
