// Events in the form of events.k8s.io, where equal ones are one object that counts.
import { createHash } from 'node:crypto';
import { BulkheadError } from '../../api/errors.ts';
import { apiVersionOf, kindNamed } from '../../api/kinds.ts';
import { isJsonObject } from '../merge-patch.ts';
import type { EventRecord, StoredEvent } from '../store.ts';

const EVENTS = '/apis/events.k8s.io/v1';
/** Kubernetes' limits; longer texts are cut. */
const MAX_NOTE_BYTES = 1_024;
const MAX_REASON_LENGTH = 128;
/** A name of an object ends with 16 hexadecimal digits in the names of its events, and fits. */
const MAX_NAME_LENGTH = 253 - 17;

/** Who records: `controller` is a kind of program, `instance` one of it. */
export interface EventSource {
  /** E.g. `bulkhead.dev/node`. */
  controller: string;
  instance: string;
}

export function eventsPath(namespace?: string): string {
  return namespace === undefined
    ? `${EVENTS}/events`
    : `${EVENTS}/namespaces/${encodeURIComponent(namespace)}/events`;
}

/** Equal events have equal names, so that another of the same is counted, whoever recorded the first. */
export function eventName({ regarding, type, reason, message }: EventRecord): string {
  const identity = JSON.stringify([regarding.kind, regarding.uid, type, reason, message]);
  const digest = createHash('sha256').update(identity).digest('hex').slice(0, 16);
  return `${regarding.name.slice(0, MAX_NAME_LENGTH)}.${digest}`;
}

/** The first of its kind. */
export function newEvent(event: EventRecord, source: EventSource, now: Date): Record<string, unknown> {
  const { regarding, type, reason, message, count = 1 } = event;
  const resource = kindNamed(regarding.kind);
  return {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name: eventName(event), namespace: regarding.namespace },
    regarding: { ...regarding, ...(resource === undefined ? {} : { apiVersion: apiVersionOf(resource) }) },
    type,
    reason: reason.slice(0, MAX_REASON_LENGTH),
    note: cut(message, MAX_NOTE_BYTES),
    // Required beside the reason, and in our events the same.
    action: reason.slice(0, MAX_REASON_LENGTH),
    eventTime: microTime(now),
    reportingController: source.controller,
    reportingInstance: source.instance,
    ...(count > 1 ? { series: { count, lastObservedTime: microTime(now) } } : {}),
  };
}

/** A merge patch that counts `event` into what is stored as `known`. */
export function countedEvent(known: unknown, event: EventRecord, now: Date): Record<string, unknown> {
  const { count } = storedEvent(known);
  const metadata = isJsonObject(known) && isJsonObject(known.metadata) ? known.metadata : {};
  return {
    metadata: { resourceVersion: metadata.resourceVersion },
    series: { count: count + (event.count ?? 1), lastObservedTime: microTime(now) },
  };
}

export function storedEvent(answer: unknown): StoredEvent {
  if (!isJsonObject(answer) || !isJsonObject(answer.metadata))
    throw new BulkheadError('API_SERVER_UNAVAILABLE', 'The API server answered with what is no event.');
  const { metadata, regarding, series } = answer;
  const text = (from: unknown, name: string): string =>
    isJsonObject(from) && typeof from[name] === 'string' ? from[name] : '';
  const counted = isJsonObject(series) ? series : {};
  const oldCount = typeof answer.deprecatedCount === 'number' ? answer.deprecatedCount : 1;
  const first =
    text(answer, 'eventTime') ||
    text(answer, 'deprecatedFirstTimestamp') ||
    text(metadata, 'creationTimestamp');
  return {
    id: text(metadata, 'uid'),
    regarding: {
      kind: text(regarding, 'kind'),
      namespace: text(regarding, 'namespace'),
      name: text(regarding, 'name'),
      uid: text(regarding, 'uid'),
    },
    type: answer.type === 'Warning' ? 'Warning' : 'Normal',
    reason: text(answer, 'reason'),
    message: text(answer, 'note'),
    count: typeof counted.count === 'number' ? counted.count : Math.max(1, oldCount),
    firstTimestamp: first,
    lastTimestamp: text(counted, 'lastObservedTime') || text(answer, 'deprecatedLastTimestamp') || first,
  };
}

function cut(text: string, bytes: number): string {
  const encoded = Buffer.from(text);
  if (encoded.length <= bytes) return text;
  // A character that was cut in two decodes to a replacement, which goes too.
  return encoded
    .subarray(0, bytes - 3)
    .toString('utf8')
    .replace(/\uFFFD$/, '');
}

function microTime(date: Date): string {
  return date.toISOString().replace(/Z$/, '000Z');
}
