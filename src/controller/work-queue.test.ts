import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFrom } from '../../test/fixtures/chance.ts';
import { noQueueMetrics } from './metrics.ts';
import { FakeClock, settle } from './testing/fake-clock.ts';
import { FRESH, RESYNC, WorkQueue } from './work-queue.ts';

function setUp(): { clock: FakeClock; queue: WorkQueue } {
  const clock = new FakeClock();
  // Always the longest delay: no chance in these tests.
  const queue = new WorkQueue({
    clock,
    random: () => 0,
    backoff: { baseMs: 100, maxMs: 1000, jitter: 0.2 },
  });
  return { clock, queue };
}

/** Takes what can be had now, and finishes each key at once. */
async function takeAll(queue: WorkQueue): Promise<string[]> {
  const keys: string[] = [];
  while (queue.length > 0) {
    const item = await queue.get();
    assert.ok(item);
    keys.push(item.key);
    queue.done(item.key);
  }
  return keys;
}

test('keys come in the order of adding, each once however often it was added', async () => {
  const { queue } = setUp();
  for (const key of ['a', 'b', 'a', 'c', 'b', 'a']) queue.add(key);
  assert.equal(queue.length, 3);
  assert.deepEqual(await takeAll(queue), ['a', 'b', 'c']);
});

test('fresh events pass resyncs, and lift a key that waits among them', async () => {
  const { queue } = setUp();
  for (const key of ['r1', 'r2', 'r3']) queue.add(key, RESYNC);
  queue.add('f1', FRESH);
  queue.add('r3', FRESH);
  queue.add('f1', RESYNC);
  assert.deepEqual(await takeAll(queue), ['f1', 'r3', 'r1', 'r2']);
});

test('a taker that waits gets the next key that is added', async () => {
  const { queue } = setUp();
  const takers = [queue.get(), queue.get()];
  queue.add('a');
  queue.add('b');
  assert.deepEqual(
    (await Promise.all(takers)).map((item) => item?.key),
    ['a', 'b'],
  );
});

test('a key added while it is worked on comes again after done, and not before', async () => {
  const { queue } = setUp();
  queue.add('a');
  await queue.get();
  queue.add('a', RESYNC);
  queue.add('a', FRESH);
  assert.equal(queue.length, 1);
  const second = queue.get();
  let handedOut = false;
  const watched = second.then((item) => {
    handedOut = true;
    return item;
  });
  await settle();
  assert.equal(handedOut, false);
  queue.done('a');
  assert.deepEqual(await watched, { key: 'a', priority: FRESH });
  queue.done('a');
  assert.equal(queue.length, 0);
});

test('a delayed key comes when its time has come', async () => {
  const { queue, clock } = setUp();
  queue.addAfter('b', 2000);
  queue.addAfter('a', 1000);
  await clock.advance(999);
  assert.equal(queue.length, 0);
  await clock.advance(1);
  assert.deepEqual(await takeAll(queue), ['a']);
  await clock.advance(1000);
  assert.deepEqual(await takeAll(queue), ['b']);
  assert.deepEqual(clock.pending, []);
});

test('of several delays the earliest holds, and an add ends the wait', async () => {
  const { queue, clock } = setUp();
  queue.addAfter('a', 5000, RESYNC);
  queue.addAfter('a', 1000, RESYNC);
  queue.addAfter('a', 9000, FRESH);
  assert.deepEqual(clock.pending, [1000]);
  await clock.advance(1000);
  assert.deepEqual(await queue.get(), { key: 'a', priority: FRESH });
  queue.done('a');
  queue.addAfter('b', 1000);
  queue.add('b');
  assert.deepEqual(await takeAll(queue), ['b']);
  await clock.advance(100_000);
  assert.equal(queue.length, 0, 'it does not come a second time');
});

test('a delay of nothing, or of no number, is now', async () => {
  const { queue } = setUp();
  queue.addAfter('a', 0);
  queue.addAfter('b', -5);
  queue.addAfter('c', Number.NaN);
  assert.deepEqual(await takeAll(queue), ['a', 'b', 'c']);
});

test('a key whose time comes while it is worked on comes again after done', async () => {
  const { queue, clock } = setUp();
  queue.add('a');
  await queue.get();
  queue.addAfter('a', 1000);
  await clock.advance(1000);
  assert.equal(queue.length, 1);
  queue.done('a');
  assert.deepEqual(await takeAll(queue), ['a']);
});

test('retries wait twice as long each time up to the ceiling, until forgotten', async () => {
  const { queue, clock } = setUp();
  const delays: number[] = [];
  for (let i = 0; i < 6; i += 1) {
    queue.addRateLimited('a');
    delays.push(clock.pending[0] ?? 0);
    await clock.advance(10_000);
    await takeAll(queue);
  }
  assert.deepEqual(delays, [100, 200, 400, 800, 1000, 1000]);
  assert.equal(queue.failures('a'), 6);
  queue.forget('a');
  queue.addRateLimited('a');
  assert.deepEqual(clock.pending, [100]);
});

test('jitter shortens a delay by no more than its part', async () => {
  const clock = new FakeClock();
  const queue = new WorkQueue({
    clock,
    random: () => 0.5,
    backoff: { baseMs: 100, maxMs: 1000, jitter: 0.2 },
  });
  queue.addRateLimited('a');
  assert.deepEqual(clock.pending, [90]);
});

test('a step of the wall clock moves no delay', async () => {
  const { queue, clock } = setUp();
  queue.addAfter('a', 1000);
  clock.step(-3_600_000);
  await clock.advance(1000);
  assert.deepEqual(await takeAll(queue), ['a']);
});

test('shutDown waits for what was handed out, and hands out and takes in nothing more', async () => {
  const { queue, clock } = setUp();
  queue.add('a');
  await queue.get();
  queue.add('a');
  queue.add('b');
  queue.addAfter('c', 1000);
  let drained = false;
  const end = queue.shutDown().then(() => {
    drained = true;
  });
  assert.equal(await queue.get(), undefined);
  queue.add('d');
  queue.addAfter('d', 1);
  await clock.advance(10_000);
  assert.equal(drained, false);
  queue.done('a');
  await end;
  await queue.shutDown();
  assert.equal(await queue.get(), undefined);
  assert.deepEqual(clock.pending, []);
});

test('waiting takers learn of the shutdown', async () => {
  const { queue } = setUp();
  const taker = queue.get();
  await queue.shutDown();
  assert.equal(await taker, undefined);
});

test('the figures say what is queued, how long keys waited and were worked on', async () => {
  const clock = new FakeClock();
  const seen: string[] = [];
  const queue = new WorkQueue({
    clock,
    metrics: {
      ...noQueueMetrics,
      depth: (keys) => seen.push(`depth ${keys}`),
      added: () => seen.push('added'),
      waited: (seconds) => seen.push(`waited ${seconds}`),
      worked: (seconds) => seen.push(`worked ${seconds}`),
    },
  });
  queue.add('a');
  queue.add('a');
  await clock.advance(2000);
  await queue.get();
  await clock.advance(3000);
  assert.deepEqual(queue.unfinishedWork(), { totalSeconds: 3, longestSeconds: 3 });
  queue.done('a');
  assert.deepEqual(seen, ['added', 'depth 1', 'waited 2', 'depth 0', 'worked 3']);
  assert.deepEqual(queue.unfinishedWork(), { totalSeconds: 0, longestSeconds: 0 });
});

test('in random interleavings no key is lost, worked on twice at once, or handed out without cause', async () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = randomFrom(seed);
    const pick = (n: number): number => Math.floor(random() * n);
    const clock = new FakeClock();
    const queue = new WorkQueue({ clock, random, backoff: { baseMs: 10, maxMs: 500, jitter: 0.5 } });
    const keys = ['a', 'b', 'c', 'd', 'e', 'f'];
    /** Keys added since they were last handed out. */
    const owed = new Set<string>();
    const working = new Set<string>();
    const problems: string[] = [];
    let takers = 0;
    const take = async (): Promise<void> => {
      takers += 1;
      const item = await queue.get();
      takers -= 1;
      if (item === undefined) return;
      if (working.has(item.key)) problems.push(`${item.key} is worked on twice at once`);
      if (!owed.delete(item.key)) problems.push(`${item.key} was handed out without cause`);
      working.add(item.key);
    };
    const finish = (): void => {
      const key = [...working][pick(working.size)];
      if (key === undefined) return;
      working.delete(key);
      queue.done(key);
    };
    const taken: Promise<void>[] = [];
    for (let step = 0; step < 150; step += 1) {
      const key = keys[pick(keys.length)] ?? 'a';
      const priority = random() < 0.5 ? FRESH : RESYNC;
      const action = pick(7);
      if (action <= 2) owed.add(key);
      if (action === 0) queue.add(key, priority);
      else if (action === 1) queue.addAfter(key, pick(300), priority);
      else if (action === 2) queue.addRateLimited(key, priority);
      else if (action === 3) queue.forget(key);
      else if (action === 4 && takers < 3) taken.push(take());
      else if (action === 5) finish();
      else if (action === 6) await clock.advance(pick(200));
      // Those who took learn of it before the next step, as the record above is theirs.
      for (let turn = 0; turn < 3; turn += 1) await Promise.resolve();
    }
    // No delay is longer than 500 ms: each turn makes what is owed due, and finishes something.
    for (let turn = 0; turn < 100 && owed.size + working.size > 0; turn += 1) {
      await clock.advance(1000);
      if (takers === 0 && owed.size > 0) taken.push(take());
      finish();
      for (let wait = 0; wait < 3; wait += 1) await Promise.resolve();
    }
    assert.deepEqual(problems, [], `seed ${seed}`);
    assert.deepEqual([...owed], [], `seed ${seed}: lost`);
    assert.equal(queue.length, 0, `seed ${seed}: left over`);
    assert.deepEqual(clock.pending, [], `seed ${seed}: a timer was left over`);
    await queue.shutDown();
    await Promise.all(taken);
  }
});
