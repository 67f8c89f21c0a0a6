import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EventRecord, Store } from '../store/store.ts';
import { EventRecorder } from './event-recorder.ts';
import { silentLog } from './log.ts';
import { FakeClock, settle } from './testing/fake-clock.ts';
import { storedObject } from './testing/fake-store.ts';

const APPLE = storedObject('apple', 1);

function setUp(fail = false): { clock: FakeClock; recorder: EventRecorder; written: EventRecord[] } {
  const clock = new FakeClock();
  const written: EventRecord[] = [];
  const store: Pick<Store, 'recordEvent'> = {
    async recordEvent(event) {
      if (fail) throw new Error('disk full');
      written.push(event);
    },
  };
  return { clock, recorder: new EventRecorder(store as Store, clock, silentLog), written };
}

test('an event is written at once, naming its object', async () => {
  const { recorder, written } = setUp();
  recorder.event(APPLE, 'Normal', 'Started', 'The VM runs.');
  await settle();
  assert.deepEqual(written, [
    {
      regarding: { kind: 'Sandbox', namespace: 'default', name: 'apple', uid: 'uid-apple' },
      type: 'Normal',
      reason: 'Started',
      message: 'The VM runs.',
    },
  ]);
  await recorder.close();
});

test('repeats within ten seconds are written as one, with their number', async () => {
  const { clock, recorder, written } = setUp();
  for (let i = 0; i < 5; i += 1) recorder.event(APPLE, 'Warning', 'PullFailed', 'No route.');
  await settle();
  assert.deepEqual(
    written.map(({ count }) => count),
    [undefined],
  );
  await clock.advance(10_000);
  assert.deepEqual(
    written.map(({ count }) => count),
    [undefined, 4],
  );
  recorder.event(APPLE, 'Warning', 'PullFailed', 'No route.');
  await settle();
  assert.equal(written.length, 3);
  await recorder.close();
});

test('one object cannot flood the log, and others are not held back by it', async () => {
  const { clock, recorder, written } = setUp();
  for (let i = 0; i < 100; i += 1) recorder.event(APPLE, 'Warning', 'Crashed', `Crash ${i}.`);
  await settle();
  assert.equal(written.length, 25);
  recorder.event(storedObject('banana', 2), 'Normal', 'Started', 'The VM runs.');
  await settle();
  assert.equal(written.length, 26);
  await clock.advance(300_000);
  recorder.event(APPLE, 'Warning', 'Crashed', 'Crash 101.');
  recorder.event(APPLE, 'Warning', 'Crashed', 'Crash 102.');
  await settle();
  assert.equal(written.at(-1)?.message, 'Crash 101.');
  assert.equal(written.length, 27);
  await recorder.close();
});

test('a store that fails does not fail the caller', async () => {
  const { recorder } = setUp(true);
  recorder.event(APPLE, 'Normal', 'Started', 'The VM runs.');
  await recorder.close();
});

test('close writes the repeats that were held back, and takes no more', async () => {
  const { clock, recorder, written } = setUp();
  recorder.event(APPLE, 'Normal', 'Started', 'The VM runs.');
  recorder.event(APPLE, 'Normal', 'Started', 'The VM runs.');
  await recorder.close();
  recorder.event(APPLE, 'Normal', 'Stopped', 'The VM ended.');
  await settle();
  assert.deepEqual(
    written.map(({ count }) => count),
    [undefined, 1],
  );
  assert.deepEqual(clock.pending, []);
});
