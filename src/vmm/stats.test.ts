import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCpuSeconds, parseKibLine, parseNetDev } from './stats.ts';

test('CPU time is read behind a command with blanks and parentheses', () => {
  assert.equal(parseCpuSeconds('7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 9'), 2);
  assert.equal(parseCpuSeconds(''), 0);
});

test('sizes of /proc are turned into bytes, missing lines are said to be missing', () => {
  assert.equal(parseKibLine('Rss:  8 kB\nPss:     12 kB\n', 'Pss'), 12288);
  assert.equal(parseKibLine('', 'Pss'), undefined);
});

test('counters of one interface are picked out, with and without blanks before them', () => {
  const text =
    'Inter-|\n face |\n    lo: 1 2 0 0 0 0 0 0 3 4 0\n  tap0:10 20 0 0 0 0 0 0 30 40 0 0 0 0 0 0\n';
  assert.deepEqual(parseNetDev(text, 'tap0'), {
    receiveBytes: 10,
    receivePackets: 20,
    transmitBytes: 30,
    transmitPackets: 40,
  });
  assert.equal(parseNetDev(text, 'tap1').receiveBytes, 0);
});
