import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GuestStats } from '../guest/agent.ts';
import { guestFigures } from './guest-figures.ts';

const NOW = 1_000_000;
const BOUNDS = { memoryBytes: 1000, diskBytes: 5000 };
const ROOT = {
  ...{ mountPath: '/', totalBytes: 4000, usedBytes: 1000, availableBytes: 3000 },
  ...{ totalInodes: 10, usedInodes: 4 },
};
const said = (change: Partial<GuestStats> = {}): GuestStats => ({
  uptimeSeconds: 5,
  cpu: { userSeconds: 1, systemSeconds: 2, idleSeconds: 3, iowaitSeconds: 4, stealSeconds: 5 },
  memory: { totalBytes: 900, availableBytes: 300, cachedBytes: 100 },
  load: [0.1, 0.2, 0.3],
  pressure: { cpuSomeAvg10: 50, memorySomeAvg10: 0, ioSomeAvg10: 100 },
  fileSystems: [ROOT],
  interfaces: [],
  processes: 3,
  ...change,
});
const heard = (stats: GuestStats, ago = 0) => guestFigures({ at: new Date(NOW - ago), stats }, BOUNDS, NOW);

test('what the guest says is passed on in base units', () => {
  const figures = heard(said());
  assert.equal(figures?.memoryUsedBytes, 600);
  assert.equal(figures?.memoryAvailableBytes, 300);
  assert.equal(figures?.fileSystem?.limitBytes, 4000);
  assert.deepEqual(figures?.detail.pressure, { cpu: 0.5, memory: 0, io: 1 });
});

test('claims that cannot be true have no series', () => {
  const lies = [
    { totalBytes: 1001, availableBytes: 1, cachedBytes: 0 },
    { totalBytes: 900, availableBytes: 901, cachedBytes: 0 },
  ];
  for (const memory of lies) assert.equal(heard(said({ memory }))?.memoryUsedBytes, undefined);
  for (const change of [{ usedBytes: 4001 }, { totalBytes: 5001 }, { mountPath: '/proc' }])
    assert.equal(heard(said({ fileSystems: [{ ...ROOT, ...change }] }))?.fileSystem, undefined);
});

test('a guest that has been silent for more than a minute is not quoted', () => {
  assert.notEqual(heard(said(), 60_000), undefined);
  assert.equal(heard(said(), 60_001), undefined);
  assert.equal(guestFigures(undefined, BOUNDS, NOW), undefined);
});
