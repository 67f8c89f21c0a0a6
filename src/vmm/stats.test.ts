import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseCpuSeconds, parseIdentity, parseKibLine, parseNetDev, readVmStats } from './stats.ts';

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

test('figures are of one process alone: not of its successor under the same number, nor of its remains', async () => {
  const child = spawn('sleep', ['1000']);
  await once(child, 'spawn');
  const pid = child.pid ?? 0;
  const { startTime } = parseIdentity(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  const { memoryBytes, memoryLimitBytes } = await readVmStats({ pid, startTime }, 7);
  assert.ok(memoryBytes > 0);
  assert.equal(memoryLimitBytes, 7);
  await assert.rejects(readVmStats({ pid, startTime: startTime + 1 }, 7), /has ended/);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await assert.rejects(readVmStats({ pid, startTime }, 7));
  assert.equal(parseIdentity('7 (a) Z 1 7 7 0 -1 0 1 0 0 0 150 50 0 0 20 0 1 0 99').ended, true);
});
