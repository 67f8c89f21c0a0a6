import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredObject } from '../api/meta.ts';
import { FakeClock } from '../controller/testing/fake-clock.ts';
import { UNUSED_MS, untilUnused } from './until-unused.ts';

const sandbox = (phase: string | undefined, operatingMode = 'Running', deleted = false) =>
  ({
    metadata: deleted ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {},
    ...{ spec: { operatingMode }, status: phase === undefined ? undefined : { phase } },
  }) as unknown as StoredObject;

async function endsWith(objects: () => StoredObject[], idleMs: (now: number) => number) {
  const clock = new FakeClock();
  let ended = 0;
  const watch = untilUnused({
    clock,
    idleMs: () => idleMs(clock.monotonic()),
    sandboxes: async () => objects(),
    end: () => ended++,
  });
  await watch.start(() => {});
  await clock.advance(60_000);
  await watch.stop();
  return ended;
}

test('a daemon that nobody needs ends once; sandboxes that rest keep it not', async () => {
  const idle = (now: number) => now;
  assert.equal(await endsWith(() => [], idle), 1);
  const resting = [sandbox('Suspended', 'Suspended'), sandbox('Succeeded'), sandbox('Failed')];
  assert.equal(await endsWith(() => resting, idle), 1);
});

test('clients, and sandboxes that run, begin, or are being removed keep it', async () => {
  assert.equal(
    await endsWith(
      () => [],
      () => 0,
    ),
    0,
  );
  assert.equal(
    await endsWith(
      () => [],
      () => UNUSED_MS - 1,
    ),
    0,
  );
  for (const object of [
    ...[sandbox('Running'), sandbox(undefined), sandbox('Stopping', 'Suspended'), sandbox('Unknown')],
    ...[sandbox('Suspended', 'Running'), sandbox('Failed', 'Running', true)],
  ])
    assert.equal(
      await endsWith(
        () => [object],
        (now) => now,
      ),
      0,
    );
  const broken = () => {
    throw new Error('the store does not answer');
  };
  assert.equal(await endsWith(broken, (now) => now), 0);
});
