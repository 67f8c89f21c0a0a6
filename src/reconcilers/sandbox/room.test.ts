import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { HOST_MEMORY_BYTES, World } from '../testing/world.ts';
import { RESTARTED_AT_ANNOTATION } from './limits.ts';
import { type HostRoom, Room } from './room.ts';

const GIBIBYTE = 1024 ** 3;

function roomOf(
  figures: {
    total?: number;
    free?: number;
    disk?: number;
    overcommit?: number;
    formerly?: [string, number][];
  } = {},
): Room {
  const { total = 16, free = total, disk = 100, overcommit = 1, formerly = [] } = figures;
  const host: HostRoom = {
    memory: async () => ({ totalBytes: total * GIBIBYTE, availableBytes: free * GIBIBYTE }),
    disk: async () => ({ availableBytes: disk * GIBIBYTE, keptBytes: GIBIBYTE }),
  };
  return new Room({ host, memoryOvercommit: overcommit, formerly: async () => new Map(formerly) });
}

describe('the ledger', () => {
  test('gives memory up to the factor, and what was given back again', async () => {
    const room = roomOf({ total: 8, free: 64, overcommit: 1.5 });
    assert.equal(await room.take('a', 8 * GIBIBYTE, false), undefined);
    assert.equal(await room.take('a', 8 * GIBIBYTE, false), undefined, 'asking twice takes it once');
    assert.deepEqual(await room.take('b', 5 * GIBIBYTE, false), {
      code: 'INSUFFICIENT_MEMORY',
      message:
        'resources.memory asks for 5120Mi; sandboxes of this host have 8192Mi of the 12288Mi that may be given.',
    });
    let told = 0;
    room.onRelease(() => {
      told += 1;
    });
    room.release('a');
    room.release('a');
    assert.equal(told, 1);
    assert.equal(await room.take('b', 5 * GIBIBYTE, false), undefined);
  });

  test('gives another amount in place of the former, and keeps neither for what then does not fit', async () => {
    const room = roomOf({ total: 8, free: 64 });
    assert.equal(await room.take('a', 2 * GIBIBYTE, true), undefined);
    assert.equal(await room.take('b', 5 * GIBIBYTE, true), undefined);
    assert.equal(room.has('a', 2 * GIBIBYTE), true);
    assert.equal(room.has('a', 4 * GIBIBYTE), false);
    let told = 0;
    room.onRelease(() => {
      told += 1;
    });
    assert.equal((await room.take('a', 4 * GIBIBYTE, true))?.code, 'INSUFFICIENT_MEMORY');
    assert.equal(told, 1);
    assert.equal(await room.take('c', 3 * GIBIBYTE, true), undefined);
    assert.equal(await room.take('b', 4 * GIBIBYTE, true), undefined);
    assert.equal(await room.take('d', GIBIBYTE, true), undefined, 'what b no longer has');
  });

  test('gives the last of it to one of many that ask at once', async () => {
    const room = roomOf({ total: 8, free: 64 });
    const asked = await Promise.all(['a', 'b', 'c'].map((uid) => room.take(uid, 5 * GIBIBYTE, false)));
    assert.equal(asked.filter((problem) => problem === undefined).length, 1);
  });

  test('knows VMs of an earlier daemon before it gives anything', async () => {
    const room = roomOf({ total: 8, free: 64, formerly: [['old', 6 * GIBIBYTE]] });
    assert.equal((await room.take('new', 4 * GIBIBYTE, false))?.code, 'INSUFFICIENT_MEMORY');
    room.release('old');
    assert.equal(await room.take('new', 4 * GIBIBYTE, false), undefined);
  });

  test('looks at what others of the host have left', async () => {
    const problem = await roomOf({ total: 64, free: 1 }).take('a', 2 * GIBIBYTE, false);
    assert.match(problem?.message ?? '', /this host has 1024Mi free, of which 256Mi are kept/);
  });

  test('needs room on the disk for a new root, and the mark for one that is there', async () => {
    assert.equal((await roomOf({ disk: 1.01 }).take('a', GIBIBYTE, false))?.code, 'INSUFFICIENT_DISK');
    assert.equal(await roomOf({ disk: 1.01 }).take('a', GIBIBYTE, true), undefined);
    assert.equal((await roomOf({ disk: 0.9 }).take('a', GIBIBYTE, true))?.code, 'INSUFFICIENT_DISK');
  });
});

const HALF = { resources: { cpus: 1, memory: `${(HOST_MEMORY_BYTES / GIBIBYTE) * 0.6}Gi`, disk: '1Gi' } };

test('a sandbox that does not fit says why, and starts by itself when another has ended', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  await world.create('first', HALF);
  await world.untilPhase('first', 'Running');
  await world.create('second', HALF);
  await world.settle();
  assert.equal(await world.condition('second', 'Scheduled'), 'False/InsufficientMemory');
  assert.equal(await world.condition('second', 'Ready'), 'False/InsufficientMemory');
  assert.equal(await world.condition('second', 'Stalled'), undefined);
  assert.equal((await world.status('second')).phase, 'Pending');
  assert.equal(world.events.filter(({ reason }) => reason === 'FailedScheduling').length, 1);
  // Another daemon finds the VM of the first before it gives anything away.
  daemon.process.kill();
  await world.daemon();
  assert.equal(world.host.running.length, 1);
  assert.equal(await world.condition('second', 'Scheduled'), 'False/InsufficientMemory');
  await world.patch('first', { spec: { operatingMode: 'Suspended' } });
  await world.untilPhase('second', 'Running');
  assert.equal(await world.condition('second', 'Scheduled'), 'True/Scheduled');
  await world.patch('first', { spec: { operatingMode: 'Running' } });
  await world.settle();
  assert.equal(await world.condition('first', 'Scheduled'), 'False/InsufficientMemory');
  await world.delete('second');
  await world.untilPhase('first', 'Running');
});

test('a restart keeps its place, whoever waits', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('first', { ...HALF, restartPolicy: 'Always' });
  await world.untilPhase('first', 'Running');
  await world.create('second', HALF);
  world.host.crash(await world.dirOf('first'));
  await world.until('another start', async () => world.host.starts.get(await world.dirOf('first')) === 2);
  await world.untilPhase('first', 'Running');
  await world.patch('first', { metadata: { annotations: { [RESTARTED_AT_ANNOTATION]: 'now' } } });
  await world.until('a third start', async () => world.host.starts.get(await world.dirOf('first')) === 3);
  assert.equal(await world.condition('second', 'Scheduled'), 'False/InsufficientMemory');
});

test('a restart with more memory takes more, waits where it does not fit, and the VM says what it keeps until then', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const memory = (share: number) => ({
    resources: { cpus: 1, memory: `${(HOST_MEMORY_BYTES / GIBIBYTE) * 1024 * share}Mi`, disk: '1Gi' },
  });
  await world.create('grows', memory(0.25));
  await world.create('beside', memory(0.5));
  await world.untilPhase('grows', 'Running');
  await world.untilPhase('beside', 'Running');
  await world.patch('grows', { spec: memory(0.75) });
  await world.settle();
  const told = (await world.status('grows')).conditions?.find(({ type }) => type === 'RestartRequired');
  assert.match(told?.message ?? '', /keeps its resources\.memory \(\d+Mi, to be \d+Mi\): restart/);
  // The VM that runs has what it had, whatever the spec says, with another daemon too.
  daemon.process.kill();
  await world.daemon();
  await world.create('quarter', memory(0.25));
  await world.untilPhase('quarter', 'Running');
  await world.delete('quarter');
  await world.patch('grows', { metadata: { annotations: { [RESTARTED_AT_ANNOTATION]: 'now' } } });
  await world.until(
    'a restart that waits',
    async () => (await world.condition('grows', 'Scheduled')) === 'False/InsufficientMemory',
  );
  await world.delete('beside');
  await world.untilPhase('grows', 'Running');
  assert.equal(await world.condition('grows', 'RestartRequired'), undefined);
  await world.create('half', memory(0.5));
  await world.settle();
  assert.equal(await world.condition('half', 'Scheduled'), 'False/InsufficientMemory');
});

test('below the mark of the disk nothing starts; it starts by itself when there is room', async () => {
  await using world = new World();
  world.freeDiskBytes = GIBIBYTE / 2;
  await world.daemon();
  await world.create('app');
  await world.settle();
  assert.equal(await world.condition('app', 'Scheduled'), 'False/InsufficientDisk');
  assert.equal(existsSync(join(await world.dirOf('app'), 'run.json')), false);
  world.freeDiskBytes = 10 * GIBIBYTE;
  await world.untilPhase('app', 'Running');
});
