import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyMergePatch } from './merge-patch.ts';

// The table of RFC 7386, appendix A: original, patch, result.
const RFC_CASES: [unknown, unknown, unknown][] = [
  [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
  [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
  [{ a: 'b' }, { a: null }, {}],
  [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
  [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
  [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
  [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
  [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
  [
    ['a', 'b'],
    ['c', 'd'],
    ['c', 'd'],
  ],
  [{ a: 'b' }, ['c'], ['c']],
  [{ a: 'foo' }, null, null],
  [{ a: 'foo' }, 'bar', 'bar'],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: 'b', c: null }, { a: 'b' }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
];

for (const [target, patch, result] of RFC_CASES) {
  test(`merge patch ${JSON.stringify(target)} + ${JSON.stringify(patch)} gives ${JSON.stringify(result)}`, () => {
    assert.deepEqual(applyMergePatch(target, patch), result);
  });
}

test('a merge patch leaves its inputs as they were', () => {
  const target = Object.freeze({ a: Object.freeze({ b: 1, c: 2 }) });
  const patch = Object.freeze({ a: Object.freeze({ b: null }) });
  assert.deepEqual(applyMergePatch(target, patch), { a: { c: 2 } });
});

test('a key named __proto__ changes no prototype', () => {
  const patched = applyMergePatch(
    {},
    JSON.parse('{"__proto__": {"polluted": true}, "a": {"__proto__": {"x": 1}}}'),
  );
  assert.equal(Object.getPrototypeOf(patched), Object.prototype);
  assert.equal(Reflect.get({}, 'polluted'), undefined);
  assert.equal(JSON.stringify(patched), '{"__proto__":{"polluted":true},"a":{"__proto__":{"x":1}}}');
});
