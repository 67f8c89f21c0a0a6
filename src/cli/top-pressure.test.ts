import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pressureText } from './top-pressure.ts';

const guest = (cpuSomeAvg10: unknown, memorySomeAvg10: unknown, ioSomeAvg10: unknown) => ({
  pressure: { cpuSomeAvg10, memorySomeAvg10, ioSomeAvg10 },
});

test('resources that work waited for are named with the part of the time', () => {
  assert.equal(pressureText(guest(12.4, 0, 99.6)), 'cpu 12% io 100%');
  assert.equal(pressureText(guest(0, 0.4, 0)), '-');
});

test('whatever a guest says, it is one of these forms', () => {
  assert.equal(pressureText(guest('\u001b[2J', -5, 1e9)), '-');
  assert.equal(pressureText(guest(Number.NaN, null, '7')), 'io 7%');
  for (const nothing of [undefined, null, 'text', {}, { pressure: 3 }])
    assert.equal(pressureText(nothing), '');
});
