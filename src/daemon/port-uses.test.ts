import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PortUses } from './port-uses.ts';

test('a use begins once, lasts as long as it is told of, and ends once', () => {
  const seen: string[] = [];
  const running = new Set(['a', 'b']);
  const uses = new PortUses((uid) => {
    if (!running.has(uid)) return undefined;
    seen.push(`${uid} begins`);
    return () => seen.push(`${uid} ends`);
  });
  uses.told(['a', 'gone', 'a']);
  uses.told(['a', 'b']);
  assert.deepEqual(seen, ['a begins', 'b begins']);
  uses.told(['b']);
  uses.told([]);
  uses.told([]);
  assert.deepEqual(seen, ['a begins', 'b begins', 'a ends', 'b ends']);
  running.add('gone');
  uses.told(['gone']);
  assert.equal(seen.at(-1), 'gone begins');
});
