import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Turns } from './turns.ts';

const never = new AbortController().signal;

test('as many as there are places go at once, the next one follows whoever leaves first', async () => {
  const turns = new Turns(2, 10);
  const first = await turns.take('a', never);
  await turns.take('a', never);
  const order: string[] = [];
  const third = turns.take('a', never).then((leave) => {
    order.push('third');
    return leave;
  });
  const fourth = turns.take('a', never).then(() => order.push('fourth'));
  await turns.take('b', never);
  assert.deepEqual(order, []);
  first();
  first();
  const leave = await third;
  assert.deepEqual(order, ['third']);
  leave();
  await fourth;
});

test('whoever gives up leaves its place in the queue', async () => {
  const turns = new Turns(1, 1);
  const leave = await turns.take('a', never);
  const given = new AbortController();
  const second = turns.take('a', given.signal);
  await assert.rejects(turns.take('a', never), { code: 'TOO_MANY_REQUESTS' });
  given.abort(new Error('no longer'));
  await assert.rejects(second, /no longer/);
  const third = turns.take('a', never);
  leave();
  await third;
});
