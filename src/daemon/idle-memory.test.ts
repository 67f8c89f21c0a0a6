import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../controller/testing/fake-clock.ts';
import { IdleMemory } from './idle-memory.ts';

const MIB = 1024 * 1024;
const PERIOD_MS = 10_000;

/** A heap with so much in use, of which `held` survives a collection. */
class FakeHeap {
  used: number;
  held: number;
  collections = 0;

  constructor(usedMiB: number, heldMiB: number) {
    this.used = usedMiB * MIB;
    this.held = heldMiB * MIB;
  }

  usedBytes(): number {
    return this.used;
  }

  collect(): void {
    this.collections += 1;
    this.used = this.held;
  }
}

test('memory is given back once after a burst, not while it lasts and not again without another', async () => {
  const clock = new FakeClock();
  const heap = new FakeHeap(60, 50);
  const memory = new IdleMemory(heap, clock);
  await memory.start();
  for (let look = 0; look < 3; look += 1) {
    heap.used += 100 * MIB;
    await clock.advance(PERIOD_MS);
  }
  assert.equal(heap.collections, 0);
  await clock.advance(PERIOD_MS);
  assert.equal(heap.collections, 1);
  heap.used += 10 * MIB;
  await clock.advance(PERIOD_MS * 10);
  assert.equal(heap.collections, 1);
  heap.used += 50 * MIB;
  await clock.advance(PERIOD_MS * 10);
  assert.equal(heap.collections, 2);
  await memory.stop();
  assert.deepEqual(clock.pending, []);
});
