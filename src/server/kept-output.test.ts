import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeptOutput } from './kept-output.ts';

/** What the guest may send ahead of its acknowledgement. */
const WINDOW = 256 * 1024;

function chunk(offset: number, data: Uint8Array) {
  return { stream: 'stdout' as const, offset, data, lostBefore: 0 };
}

test('a window of single bytes is kept, and comes back whole from any offset', () => {
  const kept = new KeptOutput('stdout', 0);
  for (let at = 0; at < WINDOW; at++) kept.push(chunk(at, Uint8Array.of(at % 251)), at);
  for (const from of [0, 1, 8191, 8192, 100_000, WINDOW - 1]) {
    let at = from;
    for (let next = kept.next(at); next !== undefined; next = kept.next(at)) {
      assert.deepEqual([next.offset, next.lostBefore], [at, 0]);
      for (const [index, byte] of next.data.entries()) assert.equal(byte, (at + index) % 251);
      at += next.data.byteLength;
    }
    assert.equal(at, WINDOW);
  }
});

test('what is acknowledged is dropped in whole pieces, and what is asked of it again is counted as lost', () => {
  const kept = new KeptOutput('stdout', 0);
  kept.push(chunk(0, new Uint8Array(10_000)), 0);
  kept.push(chunk(10_000, new Uint8Array(10_000)), 1);
  assert.deepEqual(kept.drop(9_999), { bytes: 0, start: 0 });
  assert.deepEqual(kept.drop(15_000), { bytes: 10_000, start: 10_000 });
  const next = kept.next(4_000);
  assert.deepEqual([next?.offset, next?.lostBefore, next?.data.byteLength], [10_000, 6_000, 10_000]);
  kept.drop(20_000);
  const lost = kept.next(4_000);
  assert.deepEqual([lost?.offset, lost?.lostBefore, lost?.data.byteLength], [20_000, 16_000, 0]);
  assert.equal(kept.next(20_000), undefined);
});

test('gaps are counted where they are', () => {
  const kept = new KeptOutput('stdout', 0);
  kept.push(chunk(0, Uint8Array.of(1)), 0);
  kept.push(chunk(100, Uint8Array.of(2)), 1);
  assert.equal(kept.next(0)?.lostBefore, 0);
  assert.deepEqual([kept.next(1)?.lostBefore, kept.next(1)?.offset], [99, 100]);
});

test('a guest that cuts its output up, with gaps or without, takes a bounded amount of memory', () => {
  const floods: ((at: number) => number)[] = [(at) => at * 2, (at) => at + Math.floor(at / 2) * 5];
  for (const offsetOf of floods) {
    const kept = new KeptOutput('stdout', 0);
    const flood = () => {
      for (let at = 0; at < WINDOW; at++) kept.push(chunk(offsetOf(at), Uint8Array.of(1)), at);
    };
    assert.throws(flood, { code: 'AGENT_PROTOCOL' });
  }
});
