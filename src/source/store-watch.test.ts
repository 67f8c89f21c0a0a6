import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { test } from 'node:test';
import { StoreWatch } from './store-watch.ts';
import { SourceHarness, sandboxYaml } from './testing/harness.ts';

const KEY = { kind: 'Sandbox', namespace: 'default', name: 'web' };
const WANTED = new Set(['Sandbox/default/web']);

/** A pass has seen one object; hints are counted. */
async function observed(h: SourceHarness) {
  await h.folder.write('web.yaml', sandboxYaml('web'));
  const outcome = await h.pass();
  const hints = new EventEmitter();
  let count = 0;
  const watch = new StoreWatch(h.store, () => {
    count++;
    hints.emit('hint');
  });
  if (outcome.observed === undefined) assert.fail('the pass came to its end');
  watch.observe(outcome.observed, WANTED);
  return {
    count: () => count,
    next: () => once(hints, 'hint'),
    [Symbol.asyncDispose]: () => watch.close(),
  };
}

test("the pass's own writes, status, finalizers and other objects are no news; a change of the spec is", async () => {
  await using h = await SourceHarness.create();
  await using hints = await observed(h);
  const hint = hints.next();
  await h.store.updateStatus(KEY, { phase: 'Running' });
  await h.store.patch(KEY, { metadata: { finalizers: ['bulkhead.dev/vm'] } });
  await h.store.create(JSON.parse(sandboxYaml('other')));
  await h.store.patch(KEY, { spec: { resources: { cpus: 2 } } });
  await hint;
  // Changes come in their order: had one of the first been news, it would have been counted before.
  assert.equal(hints.count(), 1);
});

test('a label, an annotation and the deletion of an object of the folder are news', async () => {
  await using h = await SourceHarness.create();
  await using hints = await observed(h);
  const changes = [
    () => h.store.patch(KEY, { metadata: { labels: { a: 'b' } } }),
    () => h.store.patch(KEY, { metadata: { labels: { a: null }, annotations: { c: 'd' } } }),
    () => h.store.delete(KEY),
  ];
  for (const change of changes) {
    const hint = hints.next();
    await change();
    await hint;
  }
  assert.equal(hints.count(), changes.length);
});
