import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredObject } from '../../api/meta.ts';
import { decodeObject } from './objects.ts';

function text(status: unknown, more: Record<string, unknown> = {}): string {
  const metadata = { name: 'a', namespace: 'default', uid: 'u', resourceVersion: '1', generation: 1 };
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Sandbox',
    metadata,
    spec: { main: ['x'] },
    status,
    ...more,
  });
}

test('a new state of an object shares what did not change with the former one', () => {
  const former = decodeObject(text({ conditions: [{ type: 'Ready' }, { type: 'Stalled' }] }));
  const next = decodeObject(text({ conditions: [{ type: 'Ready' }, { type: 'Finished' }] }), former);
  assert.equal(next.spec, former.spec);
  const [before, after] = [former, next].map(({ status }) => (status as { conditions: object[] }).conditions);
  assert.equal(after?.[0], before?.[0]);
  assert.deepEqual(after?.[1], { type: 'Finished' });
  assert.deepEqual(before?.[1], { type: 'Stalled' });
});

const PAIRS: [string, unknown, unknown][] = [
  ['a list that grew', [1, 2], [1, 2, 3]],
  ['a list that shrank', [1, 2, 3], [1, 2]],
  ['an empty list in place of an empty map', {}, []],
  ['null in place of a map', {}, null],
  ['names in another order', { a: 1, b: 2 }, { b: 2, a: 1 }],
  ['a name that hides one of every object', { a: 1 }, JSON.parse('{"__proto__": {"a": 1}, "toString": 2}')],
  ['a number in place of its text', { a: '1' }, { a: 1 }],
];
for (const [what, before, after] of PAIRS) {
  test(`sharing keeps an object as it was written: ${what}`, () => {
    const former = decodeObject(text(before));
    assert.equal(JSON.stringify(decodeObject(text(after), former)), text(after));
    assert.equal(JSON.stringify(former), text(before));
  });
}

test('shared parts are frozen through and through', () => {
  const isFrozen = (value: unknown): boolean =>
    typeof value !== 'object' ||
    value === null ||
    (Object.isFrozen(value) && Object.values(value).every((part) => isFrozen(part)));
  const former: StoredObject = decodeObject(text({ a: [{ b: 'c' }] }, { data: { k: 'v' } }));
  assert.ok(isFrozen(former));
  assert.ok(isFrozen(decodeObject(text({ a: [{ b: 'c' }, { d: {} }] }, { data: {} }), former)));
});
