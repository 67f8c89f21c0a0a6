// Watches: each is a position in the history, so one that is slow costs no memory and learns that it is EXPIRED.
import { BulkheadError } from '../../api/errors.ts';
import {
  type LabelPredicate,
  type NamePredicate,
  parseFieldSelector,
  parseLabelSelector,
} from '../selectors.ts';
import type { ListOptions, WatchEvent, WatchOptions } from '../store.ts';
import type { Change, History } from './history.ts';

/** After so many changes that a watch does not deliver it delivers a bookmark: a fraction of the history's length. */
export const BOOKMARK_EVERY_CHANGES = 1_000;

/** Wakes all who wait, each time something was committed. */
export class Wakeup {
  readonly #waiting = new Set<() => void>();

  /** Resolves at the next `notify`, or when `signal` aborts. */
  wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener('abort', done);
      if (signal.aborted) done();
    });
  }

  notify(): void {
    for (const done of [...this.#waiting]) done();
  }
}

export interface Selection {
  labels: LabelPredicate;
  names: NamePredicate;
}

/** The part of list and watch options that selects objects. Fails with BAD_REQUEST. */
export function selection(options: ListOptions): Selection {
  const byField = parseFieldSelector(options.fieldSelector ?? '');
  const { namespace } = options;
  return {
    labels: parseLabelSelector(options.labelSelector ?? ''),
    names: (metadata) => (namespace === undefined || metadata.namespace === namespace) && byField(metadata),
  };
}

/** How a watch with this selection sees a change; `undefined` when it does not see it. */
function seen(change: Change, selected: Selection): WatchEvent | undefined {
  const { object, type } = change;
  if (!selected.names(object.metadata)) return undefined;
  const before = type !== 'ADDED' && selected.labels(change.previousLabels);
  const after = type !== 'DELETED' && selected.labels(object.metadata.labels);
  if (!before && !after) return undefined;
  const resourceVersion = String(change.resourceVersion);
  return { type: before ? (after ? 'MODIFIED' : 'DELETED') : 'ADDED', object, resourceVersion };
}

function parseVersion(text: string): number {
  if (!/^\d{1,15}$/.test(text)) {
    throw new BulkheadError('BAD_REQUEST', `resourceVersion "${text}" is not one that this store gave out.`);
  }
  return Number(text);
}

/** Delivers changes of one kind from the history until `options.signal` or `closed` aborts. */
export async function* watchHistory(
  history: History,
  committed: Wakeup,
  closed: AbortSignal,
  kind: string,
  options: WatchOptions,
): AsyncGenerator<WatchEvent, void, undefined> {
  const selected = selection(options);
  const ended = AbortSignal.any([options.signal, closed]);
  let position = parseVersion(options.resourceVersion);
  let delivered = position;
  if (position > history.latest) {
    throw new BulkheadError(
      'EXPIRED',
      `resourceVersion ${position} is newer than this store's ${history.latest}.`,
    );
  }
  while (!ended.aborted) {
    if (position < history.floor) {
      throw new BulkheadError(
        'EXPIRED',
        `Changes after resourceVersion ${position} are no longer kept; the oldest kept follows ${history.floor}.`,
      );
    }
    if (position === history.latest) {
      await committed.wait(ended);
      continue;
    }
    position += 1;
    const change = history.at(position);
    const event = change?.object.kind === kind ? seen(change, selected) : undefined;
    if (event !== undefined) {
      delivered = position;
      yield event;
    } else if (position - delivered >= BOOKMARK_EVERY_CHANGES) {
      delivered = position;
      yield { type: 'BOOKMARK', resourceVersion: String(position) };
    }
  }
}
