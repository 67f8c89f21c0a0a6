import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decidePrune, EMPTY_PRUNE_MEMORY, type PruneInput, type PruneMemory } from './prune.ts';

const OPTIONS = { settleMs: 1_000, holdMs: 10_000, maxPercent: 50, minCount: 5 };

function keys(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `Sandbox/default/s${index}`);
}

function decide(input: Partial<PruneInput>, memory: PruneMemory = EMPTY_PRUNE_MEMORY) {
  const full = { candidates: [], total: 100, emptied: false, deviceChanged: false, nowMs: 0, ...input };
  return decidePrune(full, memory, OPTIONS);
}

test('an object must be missing for the settle time before it is deleted', () => {
  const first = decide({ candidates: keys(1), nowMs: 500 });
  assert.equal(first.due.size, 0);
  assert.equal(first.checkAfterMs, 1_000);
  assert.equal(first.held, undefined, 'a second of waiting is nothing to tell people');
  assert.equal(decide({ candidates: keys(1), nowMs: 1_499 }, first.memory).due.size, 0);
  assert.deepEqual([...decide({ candidates: keys(1), nowMs: 1_500 }, first.memory).due], keys(1));
});

test('an object that comes back starts its waiting anew', () => {
  const gone = decide({ candidates: keys(1) });
  const back = decide({ candidates: [], nowMs: 500 }, gone.memory);
  assert.equal(decide({ candidates: keys(1), nowMs: 1_200 }, back.memory).due.size, 0);
});

test('a deletion beyond the fuse is held until it is seen unchanged for the hold time', () => {
  const first = decide({ candidates: keys(51) });
  assert.equal(first.due.size, 0);
  assert.match(first.held ?? '', /51 of 100 objects/);
  assert.equal(decide({ candidates: keys(51), nowMs: 9_999 }, first.memory).checkAfterMs, 1);
  assert.equal(decide({ candidates: keys(51), nowMs: 10_000 }, first.memory).due.size, 51);

  const changed = decide({ candidates: keys(52), nowMs: 9_999 }, first.memory);
  assert.equal(decide({ candidates: keys(52), nowMs: 10_000 }, changed.memory).due.size, 0);
  assert.equal(decide({ candidates: keys(52), nowMs: 19_999 }, changed.memory).due.size, 52);
});

test('the fuse is a share: half of the folder goes, and a few objects always may', () => {
  const memory = { missingSince: new Map(keys(50).map((key) => [key, 0])) };
  assert.equal(decide({ candidates: keys(50), nowMs: 1_000 }, memory).due.size, 50);
  assert.equal(decide({ candidates: keys(4), total: 5, nowMs: 1_000 }, memory).due.size, 4);
  assert.equal(decide({ candidates: keys(5), total: 6, nowMs: 1_000 }, memory).due.size, 0);
});

test('an emptied folder is held even with a single object, then believed', () => {
  const first = decide({ candidates: keys(1), total: 1, emptied: true });
  assert.equal(first.due.size, 0);
  assert.equal(first.unavailable, true);
  assert.equal(
    decide({ candidates: keys(1), total: 1, emptied: true, nowMs: 10_000 }, first.memory).due.size,
    1,
  );
});

test('a folder that is empty on another file system, as after a lost mount, is never believed', () => {
  const input = { candidates: keys(3), total: 3, emptied: true, deviceChanged: true };
  const first = decide(input);
  const later = decide({ ...input, nowMs: 1e9 }, first.memory);
  assert.equal(later.due.size, 0);
  assert.match(later.held ?? '', /another file system/);
  assert.equal(later.checkAfterMs, undefined);
});
