import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import type { Store } from '../store/store.ts';
import { Controller, ignoreStatusChanges } from './controller.ts';
import { Informer } from './informer.ts';
import { silentLog } from './log.ts';
import type { ControllerMetrics } from './metrics.ts';
import type { Outcome, Request } from './reconciler.ts';
import { FakeClock, settle } from './testing/fake-clock.ts';
import { changeOf, FakeStore, storedObject } from './testing/fake-store.ts';

const A: Request = { kind: 'Sandbox', namespace: 'default', name: 'a' };
const B: Request = { ...A, name: 'b' };
const DONE: Outcome = { type: 'done' };

interface SetUp {
  clock: FakeClock;
  controller: Controller;
  /** What the metrics were told. */
  told: string[];
}

function setUp(reconcile: (request: Request, signal: AbortSignal) => Promise<Outcome>, workers = 2): SetUp {
  const clock = new FakeClock();
  const told: string[] = [];
  const metrics: ControllerMetrics = {
    maxConcurrentReconciles: () => undefined,
    activeWorkers: () => undefined,
    reconciled: (result) => told.push(result),
    terminalError: () => told.push('terminal'),
    panic: () => told.push('panic'),
    timeout: () => told.push('timeout'),
  };
  const controller = new Controller({
    reconciler: { name: 'sandbox', kind: 'Sandbox', reconcile },
    clock,
    log: silentLog,
    workers,
    timeoutMs: 60_000,
    backoff: { baseMs: 1000, maxMs: 8000, jitter: 0.5 },
    metrics,
    random: () => 0,
  });
  return { clock, controller, told };
}

test('done: the key rests until it is enqueued again', async () => {
  const requests: Request[] = [];
  const { clock, controller, told } = setUp(async (request) => {
    requests.push(request);
    return DONE;
  });
  await controller.start();
  controller.enqueue(A);
  await clock.advance(3_600_000);
  assert.deepEqual(requests, [A]);
  controller.enqueueAfter(A, 1000);
  await clock.advance(1000);
  assert.deepEqual(requests, [A, A]);
  assert.deepEqual(told, ['success', 'success']);
  await controller.stop();
});

test('requeue: the key comes again after its time and counts as no failure', async () => {
  const times: number[] = [];
  const { clock, controller, told } = setUp(async () => {
    times.push(clock.monotonic());
    return times.length < 3 ? { type: 'requeue', afterMs: 5000 } : DONE;
  });
  await controller.start();
  controller.enqueue(A);
  await clock.advance(60_000);
  assert.deepEqual(times, [0, 5000, 10_000]);
  assert.deepEqual(told, ['requeue_after', 'requeue_after', 'success']);
  await controller.stop();
});

test('requeue at once: timers and input get their turn between two looks', async () => {
  let turns = 0;
  const { clock, controller } = setUp(async () => {
    turns += 1;
    return turns < 1000 ? { type: 'requeue', afterMs: 0 } : DONE;
  });
  await controller.start();
  controller.enqueue(A);
  await settle();
  assert.equal(turns, 1, 'the second look waits for the clock');
  await clock.advance(1);
  assert.equal(turns, 2);
  await controller.stop();
});

test('transient: the key is tried again at growing intervals, afresh after a success', async () => {
  const times: number[] = [];
  let failures = 3;
  const { clock, controller } = setUp(async () => {
    times.push(clock.monotonic());
    failures -= 1;
    return failures >= 0 ? { type: 'transient', error: new Error('not yet') } : DONE;
  });
  await controller.start();
  controller.enqueue(A);
  await clock.advance(10_000);
  assert.deepEqual(times, [0, 1000, 3000, 7000]);
  failures = 1;
  controller.enqueue(A);
  await clock.advance(5000);
  assert.deepEqual(times.slice(4), [10_000, 11_000]);
  await controller.stop();
});

test('terminal: the key waits for a change', async () => {
  let calls = 0;
  const { clock, controller, told } = setUp(async () => {
    calls += 1;
    return { type: 'terminal', error: new Error('cannot be') };
  });
  await controller.start();
  controller.enqueue(A);
  await clock.advance(3_600_000);
  assert.equal(calls, 1);
  assert.deepEqual(told, ['error', 'terminal']);
  await controller.stop();
});

for (const [what, defect] of Object.entries({
  'throws at once': () => {
    throw new TypeError('defect');
  },
  rejects: async () => {
    throw new TypeError('defect');
  },
  'throws no error': async () => {
    throw 'text';
  },
  'returns no outcome': async () => undefined as unknown as Outcome,
  'returns an unknown outcome': async () => ({ type: 'odd' }) as unknown as Outcome,
})) {
  test(`a reconciler that ${what} fails that key alone, which is tried again`, async () => {
    const seen: string[] = [];
    let broken = true;
    const { clock, controller, told } = setUp((request) => {
      seen.push(request.name);
      return broken && request.name === 'a' ? defect() : Promise.resolve(DONE);
    }, 1);
    await controller.start();
    controller.enqueue(A);
    controller.enqueue(B);
    await settle();
    assert.deepEqual(seen, ['a', 'b']);
    assert.deepEqual(told, ['panic', 'error', 'success']);
    broken = false;
    await clock.advance(1000);
    assert.deepEqual(seen, ['a', 'b', 'a']);
    await controller.stop();
  });
}

test('an error of ours that is thrown is transient, and no defect', async () => {
  const { controller, told, clock } = setUp(async () => {
    throw new BulkheadError('CONFLICT', 'changed meanwhile');
  });
  await controller.start();
  controller.enqueue(A);
  await settle();
  assert.deepEqual(told, ['error']);
  assert.deepEqual(clock.pending, [1000]);
  await controller.stop();
});

test('a reconcile that takes too long is aborted, and its key is not worked on beside it', async () => {
  let aborted: unknown;
  let running = 0;
  let most = 0;
  const release = Promise.withResolvers<void>();
  const { clock, controller, told } = setUp(async (_request, signal) => {
    running += 1;
    most = Math.max(most, running);
    signal.addEventListener('abort', () => {
      aborted = signal.reason;
    });
    await release.promise;
    running -= 1;
    return DONE;
  });
  await controller.start();
  controller.enqueue(A);
  await settle();
  controller.enqueue(A);
  await clock.advance(60_000);
  assert.ok(aborted instanceof BulkheadError && aborted.code === 'TIMEOUT');
  await clock.advance(60_000);
  assert.equal(most, 1);
  release.resolve();
  await settle();
  assert.equal(most, 1);
  assert.deepEqual(told, ['timeout', 'success', 'success']);
  await controller.stop();
});

test('as many keys at once as there are workers, no more', async () => {
  let running = 0;
  let most = 0;
  const gate = Promise.withResolvers<void>();
  const { controller } = setUp(async () => {
    running += 1;
    most = Math.max(most, running);
    await gate.promise;
    running -= 1;
    return DONE;
  }, 3);
  await controller.start();
  for (let i = 0; i < 10; i += 1) controller.enqueue({ ...A, name: `k${i}` });
  await settle();
  assert.equal(most, 3);
  gate.resolve();
  await settle();
  assert.equal(most, 3);
  assert.equal(running, 0);
  await controller.stop();
});

test('stop aborts what is under way, waits for it, and starts nothing more', async () => {
  const seen: string[] = [];
  const { controller, clock } = setUp(async (request, signal) => {
    seen.push(request.name);
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    await new Promise((resolve) => setImmediate(resolve));
    seen.push(`${request.name} ended`);
    throw signal.reason;
  }, 1);
  await controller.start();
  controller.enqueue(A);
  controller.enqueue(B);
  await settle();
  await controller.stop();
  await controller.stop();
  assert.deepEqual(seen, ['a', 'a ended']);
  controller.enqueue(B);
  await clock.advance(100_000);
  assert.deepEqual(seen, ['a', 'a ended']);
  assert.deepEqual(clock.pending, []);
});

test('changes that the informer sees wake keys, fresh ones before those of the first list', async () => {
  const store = new FakeStore();
  const seen: string[] = [];
  const { clock, controller } = setUp(async (request) => {
    seen.push(request.name);
    return DONE;
  }, 1);
  const informer = new Informer({ store: store as unknown as Store, kind: 'Sandbox', clock, log: silentLog });
  controller.watch(informer);
  store.objects = [storedObject('old1', 1), storedObject('old2', 2)];
  await informer.start();
  await settle();
  store.watches[0]?.send(changeOf('ADDED', storedObject('new', 101)));
  await settle();
  await controller.start();
  await settle();
  assert.deepEqual(seen, ['new', 'old1', 'old2']);
  store.watches[0]?.send(changeOf('DELETED', storedObject('old1', 102)));
  await settle();
  assert.equal(seen.at(-1), 'old1');
  await controller.stop();
  await informer.stop();
});

test('a change of another kind wakes the keys that it concerned before or concerns now', async () => {
  const store = new FakeStore();
  const seen: string[] = [];
  const { clock, controller } = setUp(async (request) => {
    seen.push(request.name);
    return DONE;
  });
  const informer = new Informer({ store: store as unknown as Store, kind: 'Secret', clock, log: silentLog });
  controller.watch(informer, {
    requests: ({ metadata }) => [{ ...A, name: metadata.labels?.user ?? 'nobody' }],
    matters: ({ type }) => type === 'updated',
  });
  await informer.start();
  await controller.start();
  await settle();
  store.watches[0]?.send(changeOf('ADDED', storedObject('s', 101, { labels: { user: 'a' } })));
  store.watches[0]?.send(changeOf('MODIFIED', storedObject('s', 102, { labels: { user: 'b' } })));
  await settle();
  assert.deepEqual(seen.toSorted(), ['a', 'b']);
  await controller.stop();
  await informer.stop();
});

test('a change of status alone can be left unheard, any other change not', () => {
  const before = storedObject('a', 1);
  const matters = (object: typeof before): boolean =>
    ignoreStatusChanges({ type: 'updated', object, previous: before, initial: false });
  assert.equal(matters({ ...storedObject('a', 2), status: { phase: 'Running' } }), false);
  assert.equal(matters({ ...storedObject('a', 2), spec: { image: 'x' } }), true);
  assert.equal(matters(storedObject('a', 2, { labels: { a: 'b' } })), true);
  assert.equal(matters(storedObject('a', 2, { deletionTimestamp: '2026-01-01T00:00:00Z' })), true);
  assert.equal(ignoreStatusChanges({ type: 'resync', object: before, initial: false }), true);
  assert.equal(ignoreStatusChanges({ type: 'deleted', object: before, initial: false }), true);
});
