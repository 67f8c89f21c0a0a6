import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../controller/testing/fake-clock.ts';
import { IdleMemory } from './idle-memory.ts';

const MIB = 1024 * 1024;
const PERIOD_MS = 10_000;

/** A heap with so much in use, of which `held` survives a collection. V8 keeps what was once committed until it is asked. */
class FakeHeap {
  #used: number;
  readonly held: number;
  #committed = 0;
  collections = 0;

  constructor(usedMiB: number, heldMiB: number) {
    this.#used = usedMiB * MIB;
    this.held = heldMiB * MIB;
  }

  get used(): number {
    return this.#used;
  }

  set used(bytes: number) {
    this.#used = bytes;
    this.#committed = Math.max(this.#committed, bytes);
  }

  usedBytes(): number {
    return this.#used;
  }

  committedBytes(): number {
    return Math.max(this.#committed, this.#used);
  }

  collect(): void {
    this.collections += 1;
    this.#used = this.held;
    this.#committed = this.held;
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

test('what a burst took of the host is given back also where V8 has collected by itself since', async () => {
  const clock = new FakeClock();
  const heap = new FakeHeap(60, 50);
  const memory = new IdleMemory(heap, clock);
  await memory.start();
  await clock.advance(PERIOD_MS);
  assert.equal(heap.collections, 1);
  heap.used += 400 * MIB;
  heap.used -= 400 * MIB;
  await clock.advance(PERIOD_MS);
  assert.equal(heap.collections, 2);
  await clock.advance(PERIOD_MS * 10);
  assert.equal(heap.collections, 2);
  await memory.stop();
});
