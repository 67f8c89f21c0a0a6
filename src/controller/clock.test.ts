import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { sleep, systemClock } from './clock.ts';

test('the system clock calls back, and not when it was cancelled', async () => {
  const calls: string[] = [];
  const cancel = systemClock.after(0, () => calls.push('cancelled'));
  cancel();
  await new Promise<void>((resolve) => systemClock.after(1, resolve));
  assert.deepEqual(calls, []);
});

test('a delay longer than a timer of Node can be does not fire at once', () => {
  const timers = mock.method(globalThis, 'setTimeout');
  const cancel = systemClock.after(365 * 24 * 3_600_000, () => assert.fail('too early'));
  assert.equal(timers.mock.calls[0]?.arguments[1], 2 ** 31 - 1);
  cancel();
  timers.mock.restore();
});

test('sleep ends at once when its signal aborts, before or during', async () => {
  const stop = new AbortController();
  const asleep = sleep(systemClock, 3_600_000, stop.signal);
  stop.abort();
  await asleep;
  await sleep(systemClock, 3_600_000, stop.signal);
});
