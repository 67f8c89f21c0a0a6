import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Condition } from '../../api/meta.ts';
import { World } from '../testing/world.ts';
import { createUnsupportedReconciler } from './reconciler.ts';

test('an object of a kind that is not acted on says so once per generation', async () => {
  await using world = new World();
  const key = { kind: 'Volume', namespace: 'default', name: 'data' };
  await world.store.create({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Volume',
    metadata: { name: 'data', namespace: 'default' },
    spec: { capacity: '1Gi' },
  });
  const reconciler = createUnsupportedReconciler('Volume', world.store, world.clock);
  const { signal } = new AbortController();
  assert.equal((await reconciler.reconcile(key, signal)).type, 'terminal');
  assert.equal((await reconciler.reconcile(key, signal)).type, 'done');
  const { status } = (await world.store.get(key)) ?? {};
  const { observedGeneration, conditions } = status as {
    observedGeneration: number;
    conditions: Condition[];
  };
  assert.equal(observedGeneration, 1);
  assert.deepEqual(
    conditions.map(({ type, status: holds, reason }) => [type, holds, reason]),
    [
      ['Ready', 'False', 'NotSupported'],
      ['Stalled', 'True', 'NotSupported'],
    ],
  );
  await world.store.patch(key, { spec: { capacity: '2Gi' } });
  assert.equal((await reconciler.reconcile(key, signal)).type, 'terminal');
});

test('an object that is gone is left alone', async () => {
  await using world = new World();
  const reconciler = createUnsupportedReconciler('NetworkPolicy', world.store, world.clock);
  const key = { kind: 'NetworkPolicy', namespace: 'default', name: 'none' };
  assert.deepEqual(await reconciler.reconcile(key, new AbortController().signal), { type: 'done' });
});
