import assert from 'node:assert/strict';
import { test } from 'node:test';
import { editDistance, nearestName } from './nearest.ts';

test('insertions, deletions, replacements and swaps each cost one, case costs nothing', () => {
  assert.equal(editDistance('image', 'image'), 0);
  assert.equal(editDistance('imge', 'image'), 1);
  assert.equal(editDistance('imagge', 'image'), 1);
  assert.equal(editDistance('imaga', 'image'), 1);
  assert.equal(editDistance('iamge', 'image'), 1);
  assert.equal(editDistance('IMAGE', 'image'), 0);
  assert.equal(editDistance('', 'abc'), 3);
});

test('the distance is symmetric and obeys the triangle inequality up to swaps', () => {
  const words = ['image', 'imagePullPolicy', 'user', 'env', 'ports', 'patches', ''];
  for (const a of words) for (const b of words) assert.equal(editDistance(a, b), editDistance(b, a));
});

test('a near name is offered, a far one is not', () => {
  const names = ['cpus', 'memory', 'disk'];
  assert.equal(nearestName('cpu', names), 'cpus');
  assert.equal(nearestName('memroy', names), 'memory');
  assert.equal(nearestName('gpu', names), undefined);
  assert.equal(nearestName('network', names), undefined);
  assert.equal(nearestName('', names), undefined);
});

test('an endless name costs nothing', () => {
  assert.equal(nearestName('x'.repeat(1_000_000), ['image']), undefined);
});
