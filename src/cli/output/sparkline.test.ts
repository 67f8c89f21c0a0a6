import assert from 'node:assert/strict';
import { test } from 'node:test';
import { showsBars, sparkline } from './sparkline.ts';

test('bars follow the values between nothing and full, and stay within', () => {
  assert.equal(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 7), '▁▂▃▄▅▆▇█');
  assert.equal(sparkline([-1, 100, Number.NaN], 7), '▁█▁');
  assert.equal(sparkline([0, 5], 0), '▁▁');
  assert.equal(sparkline([], 1), '');
});

test('bars are for terminals whose locale has them', () => {
  assert.ok(showsBars({ LANG: 'en_US.UTF-8' }));
  assert.ok(showsBars({ LC_ALL: 'C.utf8', LANG: 'C' }));
  assert.ok(!showsBars({ LC_ALL: 'C', LANG: 'en_US.UTF-8' }));
  assert.ok(!showsBars({}));
});
