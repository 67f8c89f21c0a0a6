// Random writes, refused ones among them, against what any store promises: whoever watches sees what is there, from any
// version on; a store that is opened again is the same; nothing fails but by a named refusal.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { fuzz, type Pick } from '../../../test/fixtures/chance.ts';
import { BulkheadError } from '../../api/errors.ts';
import type { ObjectManifest, StoredObject } from '../../api/meta.ts';
import type { ListOptions, ObjectKey } from '../store.ts';
import { EmbeddedStore } from './embedded-store.ts';
import { sandbox, temporaryDirectory } from './testing.ts';

const ROUNDS = 40;
const WRITES = 60;
const KIND = 'Sandbox';
const REFUSALS = ['NOT_FOUND', 'ALREADY_EXISTS', 'CONFLICT', 'INVALID', 'BAD_REQUEST', 'TOO_LARGE'];
const NAMES = ['a', 'b', 'c', 'a.b', 'constructor', '__proto__', 'A', '', 'a/b', 'ä', 'a\0', 'x'.repeat(300)];
const TEXTS = [
  '',
  'x',
  '\0',
  '\ud800',
  '👍',
  '__proto__',
  'x'.repeat(5_000),
  "'; DROP TABLE objects",
  '{"a":',
];
const LABELS = ['team', 'constructor', 'x/y', 'bad key', '__proto__'];
const SELECTIONS: ListOptions[] = [
  {},
  { namespace: 'other' },
  { labelSelector: 'team' },
  { labelSelector: 'team in (x),!x/y', namespace: 'default' },
  { fieldSelector: 'metadata.name=a' },
];

function one<T>(pick: Pick, values: readonly T[]): T {
  return values[pick(values.length)] as T;
}

/** Mostly a plain name, so that writes meet each other. */
function nameOf(pick: Pick): string {
  return one(pick, pick(6) === 0 ? NAMES : NAMES.slice(0, 3));
}

function value(pick: Pick, depth = 0): unknown {
  switch (pick(depth > 3 ? 4 : 6)) {
    case 0:
      return one(pick, TEXTS);
    case 1:
      return one(pick, [0, -0, 1e300, Number.MAX_SAFE_INTEGER, 0.1, Number.NaN]);
    case 2:
      return one(pick, [true, false, null]);
    case 3:
      return undefined;
    case 4:
      return Array.from({ length: pick(4) }, () => value(pick, depth + 1));
    default:
      return Object.fromEntries(
        Array.from({ length: pick(4) }, () => [one(pick, [...TEXTS, ...LABELS]), value(pick, depth + 1)]),
      );
  }
}

function metadataOf(pick: Pick): Record<string, unknown> {
  const labels = Object.fromEntries(
    Array.from({ length: pick(3) }, () => [
      one(pick, pick(8) === 0 ? LABELS : LABELS.slice(0, 3)),
      one(pick, ['', 'x', 'y']),
    ]),
  );
  return {
    ...(pick(2) === 0 ? { labels } : {}),
    ...(pick(6) === 0 ? { annotations: { note: one(pick, TEXTS) } } : {}),
    ...(pick(3) === 0 ? { finalizers: pick(2) === 0 ? [] : ['bulkhead.dev/vm'] } : {}),
    ...(pick(12) === 0 ? { uid: one(pick, TEXTS) } : {}),
    ...(pick(12) === 0 ? { resourceVersion: one(pick, ['1', '', '-1', 'x', '99999999999999999999']) } : {}),
    ...(pick(12) === 0 ? { ownerReferences: value(pick) } : {}),
  };
}

function keyOf(pick: Pick): ObjectKey {
  return { kind: KIND, namespace: one(pick, ['default', 'other']), name: nameOf(pick) };
}

/** One write of any kind. Some cannot be right. */
function write(store: EmbeddedStore, pick: Pick): Promise<unknown> {
  const key = keyOf(pick);
  const { kind, namespace, name } = key;
  const metadata = { ...metadataOf(pick), name, namespace };
  const manifest = {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind,
    metadata,
    spec: value(pick),
  } as ObjectManifest;
  switch (pick(7)) {
    case 0:
    case 1:
      return store.create(manifest);
    case 2:
      return store.update(manifest);
    case 3:
      return store.patch(
        key,
        pick(5) === 0 ? value(pick) : { metadata: metadataOf(pick), spec: value(pick) },
      );
    case 4:
      return store.updateStatus(key, value(pick), pick(8) === 0 ? '7' : undefined);
    case 5:
      return store.recordEvent({
        regarding: { ...key, uid: one(pick, TEXTS) },
        type: 'Normal',
        reason: one(pick, TEXTS),
        message: one(pick, TEXTS),
      });
    default:
      return store.delete(key);
  }
}

const textOf = ({ metadata }: StoredObject): string => `${metadata.namespace}/${metadata.name}`;

/** What a watcher from `resourceVersion` makes of what was there then, when it has seen everything up to `until`. */
async function replay(
  store: EmbeddedStore,
  start: { items: readonly StoredObject[]; resourceVersion: string },
  selected: ListOptions,
  until: number,
): Promise<StoredObject[]> {
  const seen = new Map(start.items.map((object) => [textOf(object), object]));
  const stop = new AbortController();
  const options = { ...selected, resourceVersion: start.resourceVersion, signal: stop.signal };
  let version = Number(start.resourceVersion);
  // A change that the selection does not see is not delivered: the store's own end is.
  setImmediate(() => stop.abort());
  for await (const event of store.watch(KIND, options)) {
    assert.ok(Number(event.resourceVersion) > version, 'versions only grow');
    version = Number(event.resourceVersion);
    if (event.type === 'ADDED') assert.ok(!seen.has(textOf(event.object)), 'it was not there');
    else if (event.type !== 'BOOKMARK') assert.ok(seen.has(textOf(event.object)), 'it was there');
    if (event.type === 'DELETED') seen.delete(textOf(event.object));
    else if (event.type !== 'BOOKMARK') seen.set(textOf(event.object), event.object);
  }
  assert.ok(version <= until);
  return [...seen.values()];
}

function sorted(objects: readonly StoredObject[]): StoredObject[] {
  return [...objects].sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1));
}

async function everything(store: EmbeddedStore): Promise<unknown> {
  const events = await store.listEvents();
  return { ...(await store.list(KIND)), events };
}

fuzz('random writes keep every promise of the store', ROUNDS, async (pick) => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  let store = EmbeddedStore.open({ path });
  // A store without any change begins at another version each time.
  await store.create(sandbox('first'));
  let reopened = false;
  const starts: { selected: ListOptions; items: StoredObject[]; resourceVersion: string }[] = [];
  for (let done = 0; done < WRITES; ) {
    const group = Array.from({ length: 1 + pick(8) }, () => write(store, pick));
    for (const outcome of await Promise.allSettled(group)) {
      done++;
      if (outcome.status === 'rejected') {
        const { reason } = outcome;
        assert.ok(reason instanceof BulkheadError && REFUSALS.includes(reason.code), String(reason?.stack));
      }
    }
    if (pick(4) === 0) {
      const selected = one(pick, SELECTIONS);
      starts.push({ selected, ...(await store.list(KIND, selected)) });
    }
    if (pick(10) === 0) {
      const before = await everything(store);
      await store.close();
      reopened = true;
      store = EmbeddedStore.open({ path });
      assert.deepEqual(await everything(store), before);
    }
  }
  for (const { selected, ...start } of starts) {
    const { items, resourceVersion } = await store.list(KIND, selected);
    assert.deepEqual(sorted(await replay(store, start, selected, Number(resourceVersion))), sorted(items));
  }
  await store.close();
  return reopened;
});
