// For tests: a store whose lists and watches are steered by hand.
import type { ObjectMeta, StoredObject } from '../../api/meta.ts';
import type { ListResult, Store, WatchEvent, WatchOptions } from '../../store/store.ts';

/** A stored object as a store would hand it out. */
export function storedObject(name: string, version: number, meta: Partial<ObjectMeta> = {}): StoredObject {
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: {
      name,
      namespace: 'default',
      uid: `uid-${name}`,
      resourceVersion: String(version),
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
      ...meta,
    },
    spec: {},
  };
}

export function changeOf(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: StoredObject): WatchEvent {
  return { type, object, resourceVersion: object.metadata.resourceVersion };
}

interface OpenWatch {
  from: string;
  send(event: WatchEvent): void;
  end(error?: Error): void;
}

/** Lists what `objects` holds, or fails with the next of `listErrors`; `watches` are those open, newest last. */
export class FakeStore implements Pick<Store, 'list' | 'watch'> {
  objects: StoredObject[] = [];
  version = 100;
  listErrors: Error[] = [];
  lists = 0;
  readonly watches: OpenWatch[] = [];

  async list(): Promise<ListResult> {
    this.lists += 1;
    const error = this.listErrors.shift();
    if (error !== undefined) throw error;
    return { items: [...this.objects], resourceVersion: String(this.version) };
  }

  async *watch(_kind: string, options: WatchOptions): AsyncGenerator<WatchEvent, void, undefined> {
    const queue: WatchEvent[] = [];
    let wake = Promise.withResolvers<void>();
    let end: { error: Error | undefined } | undefined;
    const watch: OpenWatch = {
      from: options.resourceVersion,
      send: (event) => {
        queue.push(event);
        wake.resolve();
      },
      end: (error) => {
        end = { error };
        wake.resolve();
      },
    };
    const abort = (): void => watch.end();
    options.signal.addEventListener('abort', abort);
    this.watches.push(watch);
    try {
      for (;;) {
        const event = queue.shift();
        if (event !== undefined) yield event;
        else if (end !== undefined) {
          if (end.error !== undefined) throw end.error;
          return;
        } else {
          await wake.promise;
          wake = Promise.withResolvers<void>();
        }
      }
    } finally {
      options.signal.removeEventListener('abort', abort);
      this.watches.splice(this.watches.indexOf(watch), 1);
    }
  }
}
