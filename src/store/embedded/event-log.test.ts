import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { withCode } from '../store.contract.ts';
import type { EventRecord } from '../store.ts';
import { EmbeddedStore } from './embedded-store.ts';
import { EVENTS_BEHIND_MAX } from './event-feed.ts';
import { temporaryDirectory } from './testing.ts';

const HOUR_MS = 3_600_000;

function event(reason: string, uid = 'u-1'): EventRecord {
  const regarding = { kind: 'Sandbox', namespace: 'default', name: 'apple', uid };
  return { regarding, type: 'Normal', reason, message: `${reason} happened` };
}

async function withStore(
  body: (store: EmbeddedStore, clock: { now: number }) => Promise<void>,
): Promise<void> {
  await using directory = await temporaryDirectory();
  const clock = { now: Date.parse('2026-01-01T00:00:00Z') };
  const store = EmbeddedStore.open({ path: join(directory.path, 'store.db'), now: () => clock.now });
  await body(store, clock);
  await store.close();
}

test('an event carries when it was first and last seen', () =>
  withStore(async (store, clock) => {
    await store.recordEvent(event('Started'));
    clock.now += 90_000;
    await store.recordEvent(event('Started'));
    const [seen] = await store.listEvents();
    assert.equal(seen?.count, 2);
    assert.equal(seen?.firstTimestamp, '2026-01-01T00:00:00Z');
    assert.equal(seen?.lastTimestamp, '2026-01-01T00:01:30Z');
  }));

test('a watcher that falls behind learns it, and costs no more memory', () =>
  withStore(async (store) => {
    const { signal } = new AbortController();
    const slow = store.watchEvents(signal)[Symbol.asyncIterator]();
    await Promise.all(
      Array.from({ length: EVENTS_BEHIND_MAX + 1 }, (_, index) => store.recordEvent(event(`R${index}`))),
    );
    await assert.rejects(slow.next(), withCode('EXPIRED'));
  }));

test('closing the store ends its watches of events', () =>
  withStore(async (store) => {
    const next = store.watchEvents(new AbortController().signal)[Symbol.asyncIterator]().next();
    await store.close();
    assert.equal((await next).done, true);
  }));

test('an event expires an hour after it was last seen, also when its object is gone', () =>
  withStore(async (store, clock) => {
    await store.recordEvent(event('Old'));
    await store.recordEvent(event('Renewed'));
    clock.now += HOUR_MS - 1;
    await store.recordEvent(event('Renewed'));
    assert.equal((await store.listEvents()).length, 2);
    clock.now += 1;
    assert.deepEqual(
      (await store.listEvents()).map(({ reason }) => reason),
      ['Renewed'],
    );
  }));

test('an event that comes again after it expired counts from one', () =>
  withStore(async (store, clock) => {
    await store.recordEvent({ ...event('Crashed'), count: 7 });
    clock.now += HOUR_MS;
    await store.recordEvent(event('Crashed'));
    assert.deepEqual(
      (await store.listEvents()).map(({ count }) => count),
      [1],
    );
  }));

test('one object keeps its 100 newest events and takes none from others', () =>
  withStore(async (store, clock) => {
    await store.recordEvent(event('Other', 'u-2'));
    for (let i = 0; i < 150; i += 1) {
      clock.now += 1000;
      await store.recordEvent(event(`R${i}`));
    }
    const own = await store.listEvents({ uid: 'u-1' });
    assert.equal(own.length, 100);
    assert.equal(own[0]?.reason, 'R50');
    assert.equal(own.at(-1)?.reason, 'R149');
    assert.equal((await store.listEvents({ uid: 'u-2' })).length, 1);
  }));

test('long texts are cut, and what is no event is refused', () =>
  withStore(async (store) => {
    await store.recordEvent({ ...event('Long'), message: 'x'.repeat(5000) });
    assert.equal((await store.listEvents())[0]?.message.length, 1024);
    const wrong = [
      { ...event(''), reason: '' },
      { ...event('A'), type: 'Odd' as 'Normal' },
      { ...event('A'), count: 0 },
      { ...event('A'), count: 1.5 },
      event('A', ''),
    ];
    for (const record of wrong) await assert.rejects(store.recordEvent(record), withCode('INVALID'));
  }));
