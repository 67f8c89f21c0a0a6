// A watch that outlives the connections of which it is made.
import { BulkheadError } from '../../api/errors.ts';
import { isJsonObject } from '../merge-patch.ts';
import type { ApiClient } from './api-client.ts';
import { apiFailure } from './failures.ts';

/** After so long the API server ends the connection and the watch goes on with another: longer than it sends bookmarks. */
const CONNECTION_SECONDS = 290;
/** A watch that ends sooner and without an event has not been served: to go on at once would ask without end. */
const SHORTEST_SERVED_MS = 1_000;

/** One line of a watch; `resourceVersion` is where another could go on. */
export interface RawWatchEvent {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  object: unknown;
  resourceVersion: string;
}

/**
 * Before each connection but one that is `fresh`, right after a list, the server is asked for its newest version: a database that
 * was restored from an older snapshot is behind ours, and the server would hold such a watch open and tell nothing until it has
 * caught up. That is EXPIRED as well.
 *
 * Goes on by itself where the server ends a connection in order. Ends when `signal` aborts. Fails with EXPIRED where the
 * history is gone, and with what else went wrong: who calls backs off and goes on from the last version.
 */
export async function* watchCollection(
  client: ApiClient,
  path: string,
  query: Readonly<Record<string, string | undefined>>,
  resourceVersion: string,
  signal: AbortSignal,
  fresh = false,
): AsyncGenerator<RawWatchEvent> {
  let version = resourceVersion;
  let isSure = fresh;
  while (!signal.aborted) {
    if (!isSure) await checkHistory(client, path, query, version, signal);
    isSure = false;
    if (signal.aborted) return;
    const opened = performance.now();
    const from = version;
    const lines = client.lines(
      path,
      {
        ...query,
        ...{ watch: '1', allowWatchBookmarks: 'true', resourceVersion: version },
        timeoutSeconds: String(CONNECTION_SECONDS),
      },
      signal,
    );
    try {
      for await (const line of lines) {
        const event = watchEvent(line);
        version = event.resourceVersion;
        yield event;
        if (signal.aborted) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    if (version === from && performance.now() - opened < SHORTEST_SERVED_MS)
      throw new BulkheadError('API_SERVER_UNAVAILABLE', 'The API server ended a watch at once.');
  }
}

async function checkHistory(
  client: ApiClient,
  path: string,
  query: Readonly<Record<string, string | undefined>>,
  version: string,
  signal: AbortSignal,
): Promise<void> {
  let newest: string;
  try {
    // With the selection of the watch: who may watch single objects may list no others.
    newest = listVersion(await client.send({ method: 'GET', path, query: { ...query, limit: '1' }, signal }));
  } catch (error) {
    if (signal.aborted) return;
    throw error;
  }
  if (!isNewer(version, newest)) return;
  throw new BulkheadError(
    'EXPIRED',
    `The API server is at version ${newest}, before ${version}: its database was restored from an older state.`,
  );
}

/** Of a list: the version that it is of. */
export function listVersion(answer: unknown): string {
  const metadata = isJsonObject(answer) ? answer.metadata : undefined;
  const version = isJsonObject(metadata) ? metadata.resourceVersion : undefined;
  if (typeof version !== 'string')
    throw new BulkheadError('API_SERVER_UNAVAILABLE', 'The API server answered with what is no list.');
  return version;
}

/** Versions of a collection grow, as numbers; Kubernetes says so since 1.35. */
export function isNewer(version: string, than: string): boolean {
  return BigInt(version) > BigInt(than);
}

function watchEvent(line: unknown): RawWatchEvent {
  const { type, object } = isJsonObject(line) ? line : {};
  if (type === 'ERROR') {
    const code = isJsonObject(object) && typeof object.code === 'number' ? object.code : 500;
    throw apiFailure(code, object, 'the watch failed');
  }
  const metadata = isJsonObject(object) ? object.metadata : undefined;
  const version = isJsonObject(metadata) ? metadata.resourceVersion : undefined;
  if (
    (type !== 'ADDED' && type !== 'MODIFIED' && type !== 'DELETED' && type !== 'BOOKMARK') ||
    typeof version !== 'string'
  ) {
    throw new BulkheadError(
      'API_SERVER_UNAVAILABLE',
      'The API server sent a line in a watch that is no event.',
    );
  }
  return { type, object, resourceVersion: version };
}
