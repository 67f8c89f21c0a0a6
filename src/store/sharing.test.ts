import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { StoredObject } from '../api/meta.ts';
import { freezeObject } from './sharing.ts';

const COUNT = 20_000;
/** V8 takes a byte for each character, and some for each string. */
const MESSAGE = 'm'.repeat(200);

function parsed(name: string, message: string): StoredObject {
  const condition = { type: 'Ready', status: 'True', message };
  const object = {
    apiVersion: 'v1',
    kind: 'Sandbox',
    metadata: { name },
    status: { conditions: [condition] },
  };
  return JSON.parse(JSON.stringify(object)) as StoredObject;
}

function statusOf(object: StoredObject): object {
  const { status } = object as { status?: object };
  assert.ok(status);
  return status;
}

test('texts that many objects say are held once', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  const before = process.memoryUsage().heapUsed;
  const messages = Array.from({ length: COUNT }, (_, index) => {
    const [condition] = (
      statusOf(freezeObject(parsed(`s${index}`, MESSAGE))) as { conditions: { message: string }[] }
    ).conditions;
    return condition?.message;
  });
  collect();
  const grown = process.memoryUsage().heapUsed - before;
  assert.equal(messages.length, COUNT);
  assert.ok(grown < (COUNT * MESSAGE.length) / 2, `${grown} bytes for ${COUNT} times the same text`);
});

test('parts that a change left alone are those of the object before, and what changed is not', () => {
  const former = freezeObject(parsed('a', 'before'));
  const same = freezeObject(parsed('a', 'before'), former);
  const changed = freezeObject(parsed('a', 'after'), former);
  assert.equal(statusOf(same), statusOf(former));
  assert.notEqual(statusOf(changed), statusOf(former));
  assert.equal(changed.metadata, former.metadata);
});

test('everything is frozen', () => {
  const object = freezeObject(parsed('a', 'x'));
  assert.ok(Object.isFrozen(object) && Object.isFrozen(object.metadata) && Object.isFrozen(statusOf(object)));
});
