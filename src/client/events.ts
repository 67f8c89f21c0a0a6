// Events as they are shown, whatever recorded them.

/** Times are RFC 3339. */
export interface EventObject {
  metadata: { name: string; namespace: string; uid: string };
  involvedObject: { kind: string; namespace: string; name: string; uid: string };
  type: string;
  reason: string;
  message: string;
  count: number;
  firstTimestamp: string;
  lastTimestamp: string;
}

export interface EventQuery {
  /** All namespaces when absent. */
  namespace?: string;
  fieldSelector?: string;
}

/** A core v1 Event. Recorded by events.k8s.io, it has other times, and its count where it happened again. */
interface CoreEvent extends Omit<EventObject, 'count' | 'firstTimestamp' | 'lastTimestamp'> {
  count?: number;
  firstTimestamp?: string | null;
  lastTimestamp?: string | null;
  eventTime?: string | null;
  series?: { count: number; lastObservedTime: string };
}

/** The core group shows events of both, with the same selectors, to whoever may see one of them. */
export function eventsPath(namespace: string | undefined): string {
  const within = namespace === undefined ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `/api/v1${within}/events`;
}

export function eventOf(answer: unknown): EventObject {
  const event = answer as CoreEvent & { metadata: { creationTimestamp?: string } };
  const { series, metadata } = event;
  const first = event.firstTimestamp ?? event.eventTime ?? metadata.creationTimestamp ?? '';
  return {
    ...event,
    count: series?.count ?? (event.count || 1),
    firstTimestamp: first,
    lastTimestamp: series?.lastObservedTime ?? event.lastTimestamp ?? first,
  };
}
