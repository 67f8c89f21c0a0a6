// What every store must do, as tests that run against each implementation.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import type { ObjectKey, Store, WatchEvent } from './store.ts';

/** Makes an empty store for one test and disposes of it after. */
export interface StoreFixture {
  store: Store;
  [Symbol.asyncDispose](): Promise<void>;
}

const APPLE: ObjectKey = { kind: 'Sandbox', namespace: 'default', name: 'apple' };

function manifest(name: string, changes: { spec?: unknown; metadata?: object } = {}): ObjectManifest {
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name, ...changes.metadata },
    spec: changes.spec ?? { image: 'busybox' },
  };
}

/** For `assert.rejects`: a BulkheadError with this code. */
export function withCode(code: ErrorCode): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof BulkheadError, `not a BulkheadError: ${String(error)}`);
    assert.equal(error.code, code, error.message);
    return true;
  };
}

function ownerOf(owner: StoredObject): object {
  const { apiVersion, kind, metadata } = owner;
  return {
    ownerReferences: [{ apiVersion, kind, name: metadata.name, uid: metadata.uid, controller: true }],
  };
}

/** Reads `count` events that are no bookmarks, as `TYPE name`, then ends the watch. */
async function take(
  store: Store,
  resourceVersion: string,
  count: number,
  selector: { labelSelector?: string; fieldSelector?: string; namespace?: string } = {},
): Promise<string[]> {
  const stop = new AbortController();
  const seen: string[] = [];
  for await (const event of store.watch('Sandbox', { ...selector, resourceVersion, signal: stop.signal })) {
    if (event.type !== 'BOOKMARK') seen.push(`${event.type} ${event.object.metadata.name}`);
    if (seen.length === count) stop.abort();
  }
  return seen;
}

/** Registers the suite under `name` with node:test. */
export function testStoreContract(name: string, open: () => Promise<StoreFixture>): void {
  const promise = (title: string, body: (store: Store) => Promise<void>): void => {
    test(`${name}: ${title}`, async () => {
      await using fixture = await open();
      await body(fixture.store);
    });
  };

  promise('a new object gets uid, resourceVersion, generation 1 and a creation time', async (store) => {
    const created = await store.create(manifest('apple', { metadata: { labels: { a: 'b' } } }));
    assert.match(created.metadata.uid, /^[0-9a-f-]{36}$/);
    assert.equal(created.metadata.namespace, 'default');
    assert.equal(created.metadata.generation, 1);
    assert.ok(Date.parse(created.metadata.creationTimestamp) > 0);
    assert.notEqual(created.metadata.resourceVersion, '');
    assert.deepEqual(created.metadata.labels, { a: 'b' });
    assert.deepEqual(created.spec, { image: 'busybox' });
    assert.deepEqual(await store.get(APPLE), created);
  });

  promise('get of what does not exist is undefined', async (store) => {
    assert.equal(await store.get(APPLE), undefined);
  });

  promise('a second object of the same name is refused, in another namespace it is not', async (store) => {
    const first = await store.create(manifest('apple'));
    await assert.rejects(store.create(manifest('apple')), withCode('ALREADY_EXISTS'));
    const second = await store.create(manifest('apple', { metadata: { namespace: 'other' } }));
    assert.notEqual(first.metadata.uid, second.metadata.uid);
  });

  promise('an object made again after deletion has another uid', async (store) => {
    const first = await store.create(manifest('apple'));
    await store.delete(APPLE);
    const second = await store.create(manifest('apple'));
    assert.notEqual(first.metadata.uid, second.metadata.uid);
  });

  promise('generation moves with spec and with nothing else', async (store) => {
    await store.create(manifest('apple'));
    const respecced = await store.update(manifest('apple', { spec: { image: 'debian' } }));
    assert.equal(respecced.metadata.generation, 2);
    const labelled = await store.patch(APPLE, { metadata: { labels: { a: 'b' } } });
    assert.equal(labelled.metadata.generation, 2);
    const reported = await store.updateStatus(APPLE, { phase: 'Running' });
    assert.equal(reported.metadata.generation, 2);
    assert.notEqual(reported.metadata.resourceVersion, labelled.metadata.resourceVersion);
  });

  promise('update leaves status alone, and status updates leave spec and labels alone', async (store) => {
    await store.create(manifest('apple'));
    await store.updateStatus(APPLE, { phase: 'Running' });
    const updated = await store.update(manifest('apple', { spec: { image: 'debian' } }));
    assert.deepEqual(updated.status, { phase: 'Running' });
    const reported = await store.updateStatus(APPLE, { phase: 'Failed' });
    assert.deepEqual(reported.spec, { image: 'debian' });
  });

  promise('a write that changes nothing moves no version and makes no event', async (store) => {
    await store.create(manifest('apple', { metadata: { finalizers: ['bulkhead.dev/vm'] } }));
    const first = await store.updateStatus(APPLE, { phase: 'Running', list: [1, { a: 'b' }] });
    const { resourceVersion } = first.metadata;
    const status = await store.updateStatus(APPLE, { list: [1, { a: 'b' }], phase: 'Running' });
    const update = await store.update(manifest('apple'));
    const patch = await store.patch(APPLE, { spec: { image: 'busybox' }, metadata: { labels: {} } });
    for (const same of [status, update, patch]) assert.equal(same.metadata.resourceVersion, resourceVersion);
    await store.create(manifest('banana'));
    assert.deepEqual(await take(store, resourceVersion, 1), ['ADDED banana']);
  });

  promise(
    'a write on an old resourceVersion or another uid is a conflict and changes nothing',
    async (store) => {
      const old = await store.create(manifest('apple'));
      const { resourceVersion } = old.metadata;
      const now = await store.updateStatus(APPLE, { phase: 'Running' });
      const stale = { metadata: { resourceVersion }, spec: { image: 'x' } };
      const otherUid = { metadata: { uid: '00000000-0000-4000-8000-000000000000' }, spec: { image: 'x' } };
      await assert.rejects(store.update(manifest('apple', stale)), withCode('CONFLICT'));
      await assert.rejects(store.update(manifest('apple', otherUid)), withCode('CONFLICT'));
      await assert.rejects(store.patch(APPLE, stale), withCode('CONFLICT'));
      await assert.rejects(store.updateStatus(APPLE, {}, resourceVersion), withCode('CONFLICT'));
      await assert.rejects(store.delete(APPLE, { resourceVersion }), withCode('CONFLICT'));
      await assert.rejects(store.delete(APPLE, { uid: 'other' }), withCode('CONFLICT'));
      assert.deepEqual(await store.get(APPLE), now);
      await store.delete(APPLE, { uid: now.metadata.uid, resourceVersion: now.metadata.resourceVersion });
    },
  );

  promise('of writers that read the same version exactly one wins', async (store) => {
    const { metadata } = await store.create(manifest('apple'));
    const { resourceVersion } = metadata;
    const outcomes = await Promise.allSettled(
      [1, 2, 3, 4, 5].map((n) =>
        store.update(manifest('apple', { metadata: { resourceVersion }, spec: { n } })),
      ),
    );
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
  });

  promise('writes to what does not exist are NOT_FOUND', async (store) => {
    await assert.rejects(store.update(manifest('apple')), withCode('NOT_FOUND'));
    await assert.rejects(store.patch(APPLE, {}), withCode('NOT_FOUND'));
    await assert.rejects(store.updateStatus(APPLE, {}), withCode('NOT_FOUND'));
    await assert.rejects(store.delete(APPLE), withCode('NOT_FOUND'));
  });

  promise('an update without finalizers keeps those that a controller set', async (store) => {
    await store.create(manifest('apple'));
    await store.patch(APPLE, { metadata: { finalizers: ['bulkhead.dev/vm'], labels: { a: 'b' } } });
    const updated = await store.update(manifest('apple', { spec: { image: 'debian' } }));
    assert.deepEqual(updated.metadata.finalizers, ['bulkhead.dev/vm']);
    assert.equal(updated.metadata.labels, undefined);
  });

  promise('with a finalizer deletion marks, without it removes', async (store) => {
    await store.create(manifest('apple', { metadata: { finalizers: ['bulkhead.dev/vm'] } }));
    const marked = await store.delete(APPLE);
    assert.ok(marked.metadata.deletionTimestamp);
    const again = await store.delete(APPLE);
    assert.equal(again.metadata.deletionTimestamp, marked.metadata.deletionTimestamp);
    assert.ok(await store.get(APPLE), 'still there');
    await store.updateStatus(APPLE, { phase: 'Stopping' });
    await assert.rejects(
      store.patch(APPLE, { metadata: { finalizers: ['bulkhead.dev/vm', 'example.com/late'] } }),
      withCode('INVALID'),
    );
    await store.patch(APPLE, { metadata: { finalizers: [] } });
    assert.equal(await store.get(APPLE), undefined);
  });

  promise(
    'a merge patch merges, removes with null, and leaves status and server metadata alone',
    async (store) => {
      const created = await store.create(
        manifest('apple', { spec: { a: 1, b: { c: 2, d: 3 } }, metadata: { labels: { x: '1', y: '2' } } }),
      );
      await store.updateStatus(APPLE, { phase: 'Running' });
      const patched = await store.patch(APPLE, {
        metadata: { labels: { x: null, z: '3' }, generation: 99, creationTimestamp: '1970-01-01T00:00:00Z' },
        spec: { a: null, b: { c: 9 } },
        status: { phase: 'Hacked' },
      });
      assert.deepEqual(patched.spec, { b: { c: 9, d: 3 } });
      assert.deepEqual(patched.metadata.labels, { y: '2', z: '3' });
      assert.deepEqual(patched.status, { phase: 'Running' });
      assert.equal(patched.metadata.generation, 2);
      assert.equal(patched.metadata.creationTimestamp, created.metadata.creationTimestamp);
    },
  );

  promise('list selects by namespace, labels and name, in the order of names', async (store) => {
    for (const [name, namespace, team] of [
      ['cherry', 'default', 'a'],
      ['apple', 'default', 'b'],
      ['banana', 'default', 'a'],
      ['apple', 'other', 'a'],
    ] as const) {
      await store.create(manifest(name, { metadata: { namespace, labels: { team } } }));
    }
    const names = async (options: object): Promise<string[]> =>
      (await store.list('Sandbox', options)).items.map(
        ({ metadata }) => `${metadata.namespace}/${metadata.name}`,
      );
    assert.deepEqual(await names({}), ['default/apple', 'default/banana', 'default/cherry', 'other/apple']);
    assert.deepEqual(await names({ namespace: 'other' }), ['other/apple']);
    assert.deepEqual(await names({ namespace: 'default', labelSelector: 'team in (a)' }), [
      'default/banana',
      'default/cherry',
    ]);
    assert.deepEqual(await names({ fieldSelector: 'metadata.name=apple' }), ['default/apple', 'other/apple']);
    assert.deepEqual((await store.list('Volume')).items, []);
    await assert.rejects(store.list('Sandbox', { labelSelector: 'a=b=c' }), withCode('BAD_REQUEST'));
    await assert.rejects(store.list('Sandbox', { fieldSelector: 'spec.x=y' }), withCode('BAD_REQUEST'));
  });

  promise(
    'a watch from a list delivers what happens after, in order, each with its version',
    async (store) => {
      await store.create(manifest('apple'));
      const { resourceVersion } = await store.list('Sandbox');
      await store.create(manifest('banana'));
      await store.updateStatus(APPLE, { phase: 'Running' });
      await store.delete(APPLE);
      assert.deepEqual(await take(store, resourceVersion, 3), [
        'ADDED banana',
        'MODIFIED apple',
        'DELETED apple',
      ]);
    },
  );

  promise('a watch that waits is woken by a write', async (store) => {
    const { resourceVersion } = await store.list('Sandbox');
    const seen = take(store, resourceVersion, 1);
    await store.create(manifest('apple'));
    assert.deepEqual(await seen, ['ADDED apple']);
  });

  promise('a watch can go on from the version of any event', async (store) => {
    const { resourceVersion } = await store.list('Sandbox');
    for (const name of ['apple', 'banana', 'cherry']) await store.create(manifest(name));
    const stop = new AbortController();
    let from = '';
    for await (const event of store.watch('Sandbox', { resourceVersion, signal: stop.signal })) {
      from = event.resourceVersion;
      break;
    }
    assert.deepEqual(await take(store, from, 2), ['ADDED banana', 'ADDED cherry']);
  });

  promise('a watch with a selector sees objects come into view and leave it', async (store) => {
    const { resourceVersion } = await store.list('Sandbox');
    await store.create(manifest('apple'));
    await store.create(manifest('banana', { metadata: { namespace: 'other', labels: { team: 'a' } } }));
    await store.patch(APPLE, { metadata: { labels: { team: 'a' } } });
    await store.patch(APPLE, { spec: { image: 'debian' } });
    await store.patch(APPLE, { metadata: { labels: { team: 'b' } } });
    await store.delete(APPLE);
    await store.create(manifest('cherry', { metadata: { labels: { team: 'a' } } }));
    assert.deepEqual(
      await take(store, resourceVersion, 4, { namespace: 'default', labelSelector: 'team=a' }),
      ['ADDED apple', 'MODIFIED apple', 'DELETED apple', 'ADDED cherry'],
    );
    assert.deepEqual(await take(store, resourceVersion, 1, { fieldSelector: 'metadata.name=cherry' }), [
      'ADDED cherry',
    ]);
  });

  promise('a watch that is aborted ends, also while it waits', async (store) => {
    const { resourceVersion } = await store.list('Sandbox');
    const stop = new AbortController();
    const ended = (async (): Promise<WatchEvent[]> => {
      const events: WatchEvent[] = [];
      for await (const event of store.watch('Sandbox', { resourceVersion, signal: stop.signal })) {
        events.push(event);
      }
      return events;
    })();
    setImmediate(() => stop.abort());
    assert.deepEqual(await ended, []);
  });

  promise('objects that are handed out cannot be changed', async (store) => {
    const input = manifest('apple', { spec: { list: [{ a: 1 }] } });
    const created = await store.create(input);
    for (const object of [created, await store.get(APPLE), ...(await store.list('Sandbox')).items]) {
      assert.ok(object);
      assert.equal(Reflect.set(object, 'kind', 'Other'), false);
      const { list } = object.spec as { list: { a: number }[] };
      assert.throws(() => list.push({ a: 2 }), TypeError);
      assert.throws(() => Object.assign(list[0] as object, { a: 3 }), TypeError);
    }
    assert.ok(!Object.isFrozen(input.spec), "the caller's manifest stays its own");
  });

  promise('a Secret keeps its data, byte for byte', async (store) => {
    const data = { password: 'aHVudGVyMg==', 'ca.crt': '' };
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'keys' }, spec: undefined, data };
    const created = await store.create(secret);
    assert.deepEqual(created.data, data);
    assert.equal(Object.hasOwn(created, 'spec'), false, 'a Secret has no spec');
    const updated = await store.update({ ...secret, data: { password: 'eA==' } });
    assert.deepEqual(updated.data, { password: 'eA==' });
    assert.notEqual(updated.metadata.resourceVersion, created.metadata.resourceVersion);
  });

  promise('with its owner an object goes, unless another owner lives', async (store) => {
    const apple = await store.create(manifest('apple'));
    const banana = await store.create(manifest('banana'));
    const child = (name: string, ...owners: StoredObject[]): ObjectManifest => ({
      ...manifest(name, {
        metadata: {
          ownerReferences: owners.map(({ apiVersion, kind, metadata }) => ({
            apiVersion,
            kind,
            name: metadata.name,
            uid: metadata.uid,
          })),
        },
      }),
      kind: 'Volume',
    });
    const own = await store.create(child('own', apple));
    await store.create(child('grandchild', { ...own, kind: 'Volume' }));
    await store.create(child('shared', apple, banana));
    await store.delete(APPLE);
    const left = await waitForVolumes(store, ['shared']);
    assert.deepEqual(
      left[0]?.metadata.ownerReferences?.map(({ name }) => name),
      ['banana'],
    );
  });

  promise('a dependent with a finalizer is marked when its owner goes', async (store) => {
    const apple = await store.create(manifest('apple'));
    await store.create(
      manifest('banana', { metadata: { ...ownerOf(apple), finalizers: ['bulkhead.dev/vm'] } }),
    );
    const { resourceVersion } = await store.list('Sandbox');
    await store.delete(APPLE);
    assert.deepEqual(await take(store, resourceVersion, 2), ['DELETED apple', 'MODIFIED banana']);
    const banana = await store.get({ ...APPLE, name: 'banana' });
    assert.ok(banana?.metadata.deletionTimestamp);
  });

  const invalid: Record<string, object> = {
    'a name with a slash': { name: 'a/b' },
    'a name in capitals': { name: 'Apple' },
    'an empty name': { name: '' },
    'a name of 254 characters': { name: 'a'.repeat(254) },
    'a namespace with a dot': { namespace: 'a.b' },
    'a label value of 64 characters': { labels: { a: 'x'.repeat(64) } },
    'a label key with a blank': { labels: { 'a b': 'x' } },
    'a label that is a number': { labels: { a: 1 } },
    'labels that are a list': { labels: ['a'] },
    'annotations above 256 KiB': { annotations: { a: 'x'.repeat(256 * 1024) } },
    'a finalizer that is no name': { finalizers: ['!'] },
    'an owner without uid': { ownerReferences: [{ apiVersion: 'v1', kind: 'A', name: 'b' }] },
  };
  for (const [what, metadata] of Object.entries(invalid)) {
    promise(`${what} is refused`, async (store) => {
      await assert.rejects(store.create(manifest('apple', { metadata })), withCode('INVALID'));
      assert.deepEqual((await store.list('Sandbox')).items, []);
    });
  }

  promise('a patch that is no object, or that renames, is refused', async (store) => {
    await store.create(manifest('apple'));
    for (const patch of [null, [], 'x', 1]) {
      await assert.rejects(store.patch(APPLE, patch), withCode('BAD_REQUEST'));
    }
    await assert.rejects(store.patch(APPLE, { metadata: { name: 'pear' } }), withCode('INVALID'));
    await assert.rejects(store.patch(APPLE, { kind: 'Volume' }), withCode('INVALID'));
    await assert.rejects(store.patch(APPLE, { metadata: null }), withCode('INVALID'));
  });

  promise('equal events are counted, others are listed apart', async (store) => {
    const { metadata } = await store.create(manifest('apple'));
    const regarding = { kind: 'Sandbox', namespace: 'default', name: 'apple', uid: metadata.uid };
    const pulled = { regarding, type: 'Normal', reason: 'Pulled', message: 'got it' } as const;
    await store.recordEvent(pulled);
    await store.recordEvent({ ...pulled, count: 3 });
    await store.recordEvent({ ...pulled, type: 'Warning', reason: 'Failed' });
    const events = await store.listEvents({ kind: 'Sandbox', namespace: 'default', name: 'apple' });
    assert.deepEqual(events.map(({ reason, count }) => `${reason} ${count}`).sort(), [
      'Failed 1',
      'Pulled 4',
    ]);
    assert.deepEqual(await store.listEvents({ uid: 'other' }), []);
    assert.equal((await store.listEvents({ uid: metadata.uid })).length, 2);
  });

  promise('who watches events gets each from then on, and again when it is counted', async (store) => {
    const regarding = { kind: 'Sandbox', namespace: 'default', name: 'apple', uid: 'u-1' };
    const pulled = { regarding, type: 'Normal', reason: 'Pulled', message: 'got it' } as const;
    await store.recordEvent({ ...pulled, reason: 'Before' });
    const leave = new AbortController();
    const events = store.watchEvents(leave.signal);
    await store.recordEvent(pulled);
    await store.recordEvent({ ...pulled, count: 3 });
    const seen: string[] = [];
    for await (const { reason, count, regarding: of } of events) {
      seen.push(`${reason} ${count} ${of.name}`);
      if (seen.length === 2) leave.abort();
    }
    assert.deepEqual(seen, ['Pulled 1 apple', 'Pulled 4 apple']);
  });
}

/** Cascading deletion may take a moment in a cluster: waits, by a watch, until just these Volumes are left. */
async function waitForVolumes(store: Store, names: string[]): Promise<StoredObject[]> {
  for (;;) {
    const { items, resourceVersion } = await store.list('Volume');
    const settled = items.every(({ metadata }) => metadata.ownerReferences?.length === 1);
    if (items.length === names.length && settled) {
      assert.deepEqual(
        items.map(({ metadata }) => metadata.name),
        names,
      );
      return items;
    }
    for await (const _change of store.watch('Volume', {
      resourceVersion,
      signal: AbortSignal.timeout(30_000),
    })) {
      break;
    }
  }
}
