import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import {
  execSessionId,
  isExecId,
  RESUME_SECONDS_MAX,
  resumableOf,
  resumableSessionId,
} from './exec-sessions.ts';

test('a resumable command’s name tells its id and how long it waits, and is one that guests take', () => {
  const id = randomUUID();
  const name = resumableSessionId(id, RESUME_SECONDS_MAX);
  assert.match(name, /^[a-z0-9-]{1,63}$/);
  assert.deepEqual(resumableOf(name), { id, seconds: RESUME_SECONDS_MAX });
});

test('a name that a hostile guest makes up is no resumable command, or waits no longer than any', () => {
  const id = randomUUID();
  assert.deepEqual(resumableOf(`exec-r9999-${id}`), { id, seconds: RESUME_SECONDS_MAX });
  for (const name of [
    execSessionId(id),
    'main',
    `exec-r-${id}`,
    `exec-r99999-${id}`,
    `exec-r5-${'-'.repeat(36)}`,
  ])
    assert.equal(resumableOf(name), undefined, name);
  assert.equal(isExecId('../etc'), false);
});
