import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CONDITION_MESSAGE_MAX,
  findCondition,
  formatTime,
  isConditionTrue,
  NETWORK_POLICY_CONDITIONS,
  REASONS,
  removeCondition,
  SANDBOX_CONDITIONS,
  setCondition,
  VOLUME_CONDITIONS,
} from './conditions.ts';
import { ERRORS } from './errors.ts';
import type { Condition } from './meta.ts';

const first = { observedGeneration: 1, now: new Date('2026-01-01T00:00:00.900Z') };
const later = { observedGeneration: 2, now: new Date('2026-01-01T00:01:00Z') };
const ready = { type: 'Ready', status: 'True', reason: 'Ready', message: 'All is well.' } as const;

test('a new condition carries time and generation', () => {
  assert.deepEqual(setCondition([], ready, first), [
    { ...ready, lastTransitionTime: '2026-01-01T00:00:00Z', observedGeneration: 1 },
  ]);
});

test('the transition time stays while the status stays', () => {
  const before = setCondition([], ready, first);
  const [after] = setCondition(before, { ...ready, reason: 'Other', message: 'Still.' }, later);
  assert.equal(after?.lastTransitionTime, '2026-01-01T00:00:00Z');
  assert.equal(after?.observedGeneration, 2);
  assert.equal(after?.reason, 'Other');
});

test('the transition time moves when the status flips', () => {
  const before = setCondition([], ready, first);
  const [after] = setCondition(before, { ...ready, status: 'False' }, later);
  assert.equal(after?.lastTransitionTime, '2026-01-01T00:01:00Z');
});

test('setting what is set gives back the same array, so that nothing is written', () => {
  const before = setCondition([], ready, first);
  assert.equal(setCondition(before, ready, { ...first, now: later.now }), before);
});

test('the argument is never changed', () => {
  const before: readonly Condition[] = Object.freeze([...setCondition([], ready, first)]);
  const copy = structuredClone(before);
  setCondition(before, { ...ready, status: 'False' }, later);
  removeCondition(before, 'Ready');
  assert.deepEqual(before, copy);
});

test('an abnormal-true condition that is set to False goes away', () => {
  const stalled = { type: 'Stalled', status: 'True', reason: 'NotSupported', message: '' } as const;
  const before = setCondition([], stalled, first);
  assert.deepEqual(setCondition(before, { ...stalled, status: 'False' }, later), []);
});

test('a persistent condition that is set to False stays', () => {
  const suspended = { type: 'Suspended', status: 'False', reason: 'NotSuspended', message: '' } as const;
  assert.equal(setCondition([], suspended, first).length, 1);
});

test('Reconciling and Stalled are there only while they apply, for every kind', () => {
  for (const table of [SANDBOX_CONDITIONS, VOLUME_CONDITIONS, NETWORK_POLICY_CONDITIONS]) {
    assert.equal(table.Ready, 'persistent');
    assert.equal(table.Reconciling, 'applicable');
    assert.equal(table.Stalled, 'applicable');
  }
});

test('messages are cut at the bound of the schema', () => {
  const [condition] = setCondition([], { ...ready, message: 'x'.repeat(CONDITION_MESSAGE_MAX + 1) }, first);
  assert.equal(condition?.message.length, CONDITION_MESSAGE_MAX);
});

test('conditions are found by type', () => {
  const conditions = setCondition([], ready, first);
  assert.equal(findCondition(conditions, 'Ready')?.status, 'True');
  assert.equal(isConditionTrue(conditions, 'Ready'), true);
  assert.equal(isConditionTrue(conditions, 'Booted'), false);
  assert.equal(isConditionTrue(undefined, 'Ready'), false);
});

test('reasons are CamelCase words, as the schema of conditions and Kubernetes ask', () => {
  const reasons = [...Object.values(REASONS), ...Object.values(ERRORS).map(({ reason }) => reason)];
  for (const reason of reasons) assert.match(reason, /^[A-Z][A-Za-z]{1,127}$/);
});

test('times are RFC 3339 in UTC with whole seconds', () => {
  assert.equal(formatTime(new Date('2026-12-01T01:00:00.123+01:00')), '2026-12-01T00:00:00Z');
});
