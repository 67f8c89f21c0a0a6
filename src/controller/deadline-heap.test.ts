import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeadlineHeap } from './deadline-heap.ts';

test('deadlines come out in order, whether given at once or one by one', () => {
  for (const size of [0, 1, 2, 3, 10, 257]) {
    const items = Array.from({ length: size }, (_, i) => ({ at: (i * 7919) % 101, key: String(i) }));
    const sorted = items.map(({ at }) => at).sort((a, b) => a - b);
    const grown = new DeadlineHeap();
    for (const item of items) grown.push(item);
    for (const heap of [grown, new DeadlineHeap(items)]) {
      assert.equal(heap.size, size);
      const out: number[] = [];
      for (let item = heap.pop(); item !== undefined; item = heap.pop()) out.push(item.at);
      assert.deepEqual(out, sorted);
      assert.equal(heap.peek(), undefined);
    }
  }
});
