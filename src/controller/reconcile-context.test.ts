import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { BulkheadError } from '../api/errors.ts';
import type { Store } from '../store/store.ts';
import { Controller, ignoreStatusChanges } from './controller.ts';
import { Informer } from './informer.ts';
import { reconcileFields } from './reconcile-context.ts';
import type { Outcome } from './reconciler.ts';
import { FakeClock, settle } from './testing/fake-clock.ts';
import { FakeStore, storedObject } from './testing/fake-store.ts';

type Line = Record<string, unknown> & { msg: string };

test('each line of a reconcile says which one it was, of which object and uid; no other line does', async () => {
  const lines: Line[] = [];
  const log = pino({ mixin: reconcileFields }, { write: (text: string) => lines.push(JSON.parse(text)) });
  const clock = new FakeClock();
  const store = new FakeStore();
  const objects = [storedObject('a', 1), storedObject('b', 2)];
  store.objects = objects;
  const deep = async (name: string): Promise<void> => {
    await turn();
    log.info({ extra: name }, 'from deep within');
  };
  const outcomes: Record<string, Outcome> = {
    a: { type: 'transient', error: new Error('later') },
    b: { type: 'terminal', error: new BulkheadError('IMAGE_NOT_PRESENT', 'never') },
  };
  const controller = new Controller({
    reconciler: {
      name: 'sandbox',
      kind: 'Sandbox',
      async reconcile({ name }) {
        await deep(name);
        // Goes on when the reconcile is over.
        setImmediate(() => log.info('set going by a reconcile'));
        const outcome = outcomes[name];
        if (outcome === undefined) throw new TypeError('defect');
        return outcome;
      },
    },
    clock,
    log,
    backoff: { baseMs: 3_600_000, maxMs: 3_600_000, jitter: 0 },
  });
  const informer = new Informer({ store: store as unknown as Store, kind: 'Sandbox', clock, log });
  controller.watch(informer, { matters: ignoreStatusChanges });
  log.info('before');
  await informer.start();
  await controller.start();
  controller.enqueue({ kind: 'Sandbox', namespace: 'default', name: 'gone' });
  await settle();
  await settle();
  log.info('after');
  await controller.stop();
  await informer.stop();

  const of = (name: string) => lines.filter(({ object }) => (object as { name?: string })?.name === name);
  for (const { metadata } of objects) {
    const own = of(metadata.name);
    assert.deepEqual(
      new Set(own.map(({ msg }) => msg)),
      new Set([
        'from deep within',
        'set going by a reconcile',
        metadata.name === 'a' ? 'reconcile failed, trying again' : 'reconcile failed, waiting for a change',
      ]),
    );
    for (const { uid, object, controller: by } of own) {
      assert.equal(uid, metadata.uid);
      assert.deepEqual(object, { kind: 'Sandbox', namespace: 'default', name: metadata.name });
      assert.equal(by, 'sandbox');
    }
    assert.equal(new Set(own.map(({ reconcile }) => reconcile)).size, 1);
    assert.match(String(own[0]?.reconcile), /^[0-9a-f-]{36}$/);
  }
  const ids = new Set(['a', 'b', 'gone'].map((name) => of(name)[0]?.reconcile));
  assert.equal(ids.size, 3, 'each reconcile has an id of its own');
  assert.ok(of('gone').some(({ msg }) => msg === 'reconciler threw'));
  for (const line of lines.filter(({ msg }) => ['before', 'after'].includes(msg)))
    assert.ok(!('reconcile' in line) && !('object' in line), JSON.stringify(line));
});
