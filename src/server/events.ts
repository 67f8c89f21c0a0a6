// Recorded events as core v1 `Event` objects, read-only.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { BulkheadError } from '../api/errors.ts';
import { apiVersionOf } from '../api/kinds.ts';
import type { Store, StoredEvent } from '../store/store.ts';
import type { ServedKind } from './contracts.ts';
import { boolean, integer, type Query, single } from './query.ts';
import { serveEventWatch, type WatchHost } from './watch.ts';

const FIELDS = {
  'involvedObject.kind': 'kind',
  'involvedObject.namespace': 'namespace',
  'involvedObject.name': 'name',
  'involvedObject.uid': 'uid',
} as const;
type EventFilter = Parameters<Store['listEvents']>[0];

/** `involvedObject.name=x,type=Warning` as a filter of the store plus one by type. */
function parseSelector(selector: string | undefined): { filter: NonNullable<EventFilter>; type?: string } {
  const parsed: { filter: NonNullable<EventFilter>; type?: string } = { filter: {} };
  for (const term of selector?.split(',') ?? []) {
    const [, field = '', value = ''] = /^([^=!]+)==?(.*)$/.exec(term.trim()) ?? [];
    if (field === 'type') parsed.type = value;
    else if (field in FIELDS) parsed.filter[FIELDS[field as keyof typeof FIELDS]] = value;
    else {
      throw new BulkheadError(
        'BAD_REQUEST',
        `fieldSelector: "${term}" is not supported; events are selected by ${Object.keys(FIELDS).join(', ')} and type`,
      );
    }
  }
  return parsed;
}

function regards({ regarding }: StoredEvent, filter: NonNullable<EventFilter>): boolean {
  return Object.entries(filter).every(
    ([field, value]) => regarding[field as keyof typeof regarding] === value,
  );
}

/** Registers `/api/v1/events` and its namespaced form. */
export function registerEvents(
  app: FastifyInstance,
  store: Store,
  kinds: readonly ServedKind[],
  watches: WatchHost,
): void {
  const versions = new Map(kinds.map((kind) => [kind.kind, apiVersionOf(kind)]));

  function toEvent(event: StoredEvent) {
    const { kind, namespace, name, uid } = event.regarding;
    return {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: {
        name: `${name}.${event.id}`,
        namespace,
        uid: event.id,
        creationTimestamp: event.firstTimestamp,
      },
      involvedObject: { apiVersion: versions.get(kind) ?? '', kind, namespace, name, uid },
      type: event.type,
      reason: event.reason,
      message: event.message,
      count: event.count,
      firstTimestamp: event.firstTimestamp,
      lastTimestamp: event.lastTimestamp,
      source: { component: 'bulkhead' },
    };
  }

  async function list(request: FastifyRequest, reply: FastifyReply) {
    const query = request.query as Query;
    const { namespace } = request.params as { namespace?: string };
    integer(query, 'limit');
    const { filter, type } = parseSelector(single(query, 'fieldSelector'));
    const selected = { ...filter, ...(namespace === undefined ? {} : { namespace }) };
    const ofType = (event: StoredEvent) => type === undefined || event.type === type;
    const present = async () => (await store.listEvents(selected)).filter(ofType);
    if (boolean(query, 'watch')) {
      const matches = (event: StoredEvent) => ofType(event) && regards(event, selected);
      return serveEventWatch(store, present, matches, toEvent, query, reply, watches);
    }
    return {
      apiVersion: 'v1',
      kind: 'EventList',
      metadata: {},
      items: (await present()).map(toEvent),
    };
  }
  app.get('/api/v1/events', list);
  app.get('/api/v1/namespaces/:namespace/events', list);
}
