import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../../api/errors.ts';
import type { DefaultedVolume } from '../../api/volume.ts';
import type { VolumeDisk } from '../../volumes/volumes.ts';
import { FINALIZER } from './limits.ts';
import { COMMANDS, type Command, type State, step, volumeMachine } from './machine.ts';
import type { Observation } from './observation.ts';

const SIZE = 64 * 1024 ** 2;
const user = { sandbox: 'a', name: 'default/a', mode: 'ReadWrite' } as const;

function object(metadata: Partial<DefaultedVolume['metadata']> = {}): DefaultedVolume {
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Volume',
    metadata: {
      ...{ name: 'data', namespace: 'default', uid: 'uid', resourceVersion: '1', generation: 1 },
      ...{ creationTimestamp: '2026-01-01T00:00:00Z', finalizers: [FINALIZER] },
      ...metadata,
    },
    spec: { capacity: '64Mi', accessMode: 'ReadWriteOnce', reclaimPolicy: 'Retain' },
  };
}

function disk(more: Partial<VolumeDisk> = {}): VolumeDisk {
  return {
    ...{ uid: 'uid', namespace: 'default', name: 'data', sizeBytes: SIZE, accessMode: 'ReadWriteOnce' },
    ...{ claims: [], state: 'Clean', short: false, diskBytes: 4096 },
    ...more,
  };
}

const deleted = object({ deletionTimestamp: '2026-01-02T00:00:00Z' });
const base: Observation = {
  ...{ object: object(), held: false, wantedBytes: SIZE, now: 0, growsAttached: false },
};
const made: Observation = { ...base, disk: disk(), held: true };
const resting = { claims: [{ ...user, resting: true }] } as const;
const used = { claims: [user], state: 'Unknown' } as const;

const CASES: [string, Observation, State, Command[]][] = [
  ['a new object', { ...base, object: object({ finalizers: [] }) }, 'Protecting', ['addFinalizer']],
  ['no disk', base, 'Creating', ['createDisk']],
  ['a disk kept for its name', { ...base, retainedUid: 'old' }, 'TakingUp', ['takeUpDisk']],
  ['its own disk kept', { ...made, disk: disk({ retainedAt: 'then' }) }, 'TakingUp', ['takeUpDisk']],
  [
    'another access mode',
    { ...made, disk: disk({ accessMode: 'ReadOnlyMany' }) },
    'ChangingAccess',
    ['setAccessMode'],
  ],
  ['an unclean disk', { ...made, disk: disk({ state: 'Unclean' }) }, 'Checking', ['checkDisk']],
  [
    'a check under way',
    { ...made, disk: disk({ state: 'Unknown' }), task: 'check' },
    'Checking',
    ['checkDisk'],
  ],
  [
    'an unclean disk too large',
    { ...made, wantedBytes: 1, disk: disk({ state: 'Unclean' }) },
    'Checking',
    ['checkDisk'],
  ],
  ['less than there is', { ...made, wantedBytes: SIZE / 2 }, 'ShrinkRefused', []],
  ['more than there is', { ...made, wantedBytes: 2 * SIZE }, 'Resizing.Growing', ['growDisk']],
  [
    'a file system short of its file',
    { ...made, disk: disk({ short: true }) },
    'Resizing.Growing',
    ['growDisk'],
  ],
  [
    'growth under way',
    { ...made, disk: disk({ state: 'Unknown' }), task: 'grow' },
    'Resizing.Growing',
    ['growDisk'],
  ],
  [
    'growth of a used disk',
    { ...made, wantedBytes: 2 * SIZE, disk: disk(used) },
    'Resizing.WaitingForDetach',
    [],
  ],
  [
    'growth of a disk whose VM grows it',
    { ...made, wantedBytes: 2 * SIZE, growsAttached: true, disk: disk(used) },
    'Resizing.Growing',
    ['growDisk'],
  ],
  [
    'growth of a disk whose user comes back',
    { ...made, wantedBytes: 2 * SIZE, disk: disk(resting) },
    'Resizing.Growing',
    ['growDisk'],
  ],
  [
    'an unclean disk whose user comes back',
    { ...made, disk: disk({ ...resting, state: 'Unclean' }) },
    'Checking',
    ['checkDisk'],
  ],
  ['a disk whose user comes back', { ...made, disk: disk(resting) }, 'Bound.InUse', []],
  [
    'deletion of a volume whose user comes back',
    { ...made, object: deleted, disk: disk(resting) },
    'Deleting.WaitingForUsers',
    [],
  ],
  ['what was asked for', made, 'Bound.Available', []],
  ['a disk in use', { ...made, disk: disk(used) }, 'Bound.InUse', []],
  [
    'deletion of a used volume',
    { ...made, object: deleted, disk: disk(used) },
    'Deleting.WaitingForUsers',
    [],
  ],
  ['deletion', { ...made, object: deleted }, 'Deleting.Reclaiming', ['reclaimDisk']],
  [
    'deletion with a disk half removed',
    { ...base, object: deleted, held: true },
    'Deleting.Reclaiming',
    ['reclaimDisk'],
  ],
  [
    'deletion while the disk is made',
    { ...base, object: deleted, task: 'create' },
    'Deleting.Reclaiming',
    ['reclaimDisk'],
  ],
  [
    'deletion with the disk kept',
    { ...made, object: deleted, disk: disk({ retainedAt: 'then' }) },
    'Deleting.Finalizing',
    ['removeFinalizer'],
  ],
  ['deletion without a disk', { ...base, object: deleted }, 'Deleting.Finalizing', ['removeFinalizer']],
  [
    "deletion that waits for somebody else's finalizer",
    { ...base, object: object({ ...deleted.metadata, finalizers: ['x/y'] }) },
    'Gone',
    [],
  ],
  [
    'a disk that nothing is known of',
    { ...base, object: deleted, unavailable: new BulkheadError('VOLUME_UNAVAILABLE', '') },
    'Unavailable',
    [],
  ],
];

for (const [what, observation, state, commands] of CASES)
  test(`${what}: ${state}`, () => assert.deepEqual(step(observation), { state, commands }));

test('every state and every command is among these cases', () => {
  const leaves = (states: object, prefix = ''): string[] =>
    Object.entries(states as Record<string, { states?: object }>).flatMap(([name, node]) => {
      const inner =
        Object.keys(node.states ?? {}).length > 0 ? leaves(node.states ?? {}, `${prefix}${name}.`) : [];
      return inner.length > 0 ? inner : [`${prefix}${name}`];
    });
  const passing = /(^|\.)(Observed|Deciding)$/; // left at once
  const all = leaves(volumeMachine.root.states).filter((name) => !passing.test(name));
  assert.deepEqual([...new Set(CASES.map(([, , state]) => state))].sort(), all.sort());
  assert.deepEqual([...new Set(CASES.flatMap(([, , , commands]) => commands))].sort(), [...COMMANDS].sort());
});
