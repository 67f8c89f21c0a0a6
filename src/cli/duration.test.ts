import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAge } from '../api/age.ts';
import { parseDuration } from './duration.ts';
import { CommandFailure } from './failure.ts';

test('durations are read as Go writes them, bare numbers as seconds', () => {
  const cases: [string, number][] = [
    ['90s', 90_000],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['250ms', 250],
    ['1.5s', 1500],
    ['30', 30_000],
    ['0', 0],
    ['2d', 172_800_000],
  ];
  for (const [text, ms] of cases) assert.equal(parseDuration(text), ms, text);
  for (const wrong of ['', 'soon', '5x', '-5s', '5 m', 's'])
    assert.throws(() => parseDuration(wrong), CommandFailure, wrong);
});

test('ages have the units that kubectl gives them', () => {
  const cases: [number, string][] = [
    [0, '0s'],
    [119, '119s'],
    [120, '2m'],
    [150, '2m30s'],
    [3600, '60m'],
    [4 * 3600 + 120, '4h2m'],
    [9 * 3600, '9h'],
    [49 * 3600, '2d1h'],
    [30 * 86_400, '30d'],
  ];
  for (const [seconds, text] of cases) assert.equal(formatAge(seconds * 1000), text);
});
