import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StartQueue } from './start-queue.ts';

const never = new AbortController().signal;

test('no more than its slots run at once, in the order of asking', async () => {
  const queue = new StartQueue(2);
  const order: number[] = [];
  let running = 0;
  let most = 0;
  const work = (index: number) =>
    queue.run(async () => {
      order.push(index);
      most = Math.max(most, ++running);
      await new Promise(setImmediate);
      running--;
    }, never);
  await Promise.all([0, 1, 2, 3, 4, 5].map(work));
  assert.equal(most, 2);
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5]);
});

test('a failure gives the slot back', async () => {
  const queue = new StartQueue(1);
  await assert.rejects(queue.run(() => Promise.reject(new Error('no')), never));
  assert.equal(await queue.run(() => Promise.resolve('yes'), never), 'yes');
});

test('an abort while waiting rejects, and its place goes to the next', async () => {
  const queue = new StartQueue(1);
  const gate = Promise.withResolvers<void>();
  const first = queue.run(() => gate.promise, never);
  const controller = new AbortController();
  const second = queue.run(() => Promise.resolve('second'), controller.signal);
  const third = queue.run(() => Promise.resolve('third'), never);
  controller.abort(new Error('changed my mind'));
  await assert.rejects(second, /changed my mind/);
  gate.resolve();
  await first;
  assert.equal(await third, 'third');
});
