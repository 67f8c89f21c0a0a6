import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import { isLabelKey, isLabelValue, parseFieldSelector, parseLabelSelector } from './selectors.ts';

const LABELS = { team: 'research', tier: 'dev', empty: '', size: '10', 'example.com/role': 'db' };

const SELECTED = [
  '',
  'team',
  'team=research',
  'team==research',
  ' team = research , tier = dev ',
  'team!=ops',
  'absent!=ops',
  '!absent',
  'team in (research,ops)',
  'team in ( ops , research )',
  'team notin (ops)',
  'absent notin (a,b)',
  'empty=',
  'empty in ()',
  'empty in (,x)',
  'size>9',
  'size<11',
  'example.com/role=db',
  'team,tier in (dev),!absent,size>1',
  'in notin (x)',
];

const NOT_SELECTED = [
  'absent',
  '!team',
  'team=ops',
  'team!=research',
  'absent=',
  'absent in ()',
  'team in (ops,dev)',
  'team notin (research)',
  'size>10',
  'size<10',
  'team>1',
  'absent<1',
  'team,tier=prod',
  'constructor',
  'toString in (x)',
];

const REFUSED = [
  ',',
  'a,',
  ',a',
  'a b',
  'a=b=c',
  'a in',
  'a in (',
  'a in (b',
  'a in b',
  'a notin (b))',
  'a>b',
  'a>',
  '=b',
  '!',
  '!a=b',
  '-a=b',
  'a=-b',
  'a/b/c=d',
  '/a=b',
  'UPPER.com/a',
  `a=${'x'.repeat(64)}`,
  `${'x'.repeat(64)}=a`,
  'x,'.repeat(5000),
  'a=b\u0000',
];

for (const selector of SELECTED) {
  test(`label selector "${selector}" selects`, () => {
    assert.equal(parseLabelSelector(selector)(LABELS), true);
  });
}

for (const selector of NOT_SELECTED) {
  test(`label selector "${selector}" does not select`, () => {
    assert.equal(parseLabelSelector(selector)(LABELS), false);
  });
}

for (const selector of REFUSED) {
  test(`label selector ${JSON.stringify(selector.slice(0, 20))} is refused`, () => {
    assert.throws(
      () => parseLabelSelector(selector),
      (error) => error instanceof BulkheadError && error.code === 'BAD_REQUEST',
    );
  });
}

test('an object without labels matches what asks for absence only', () => {
  assert.equal(parseLabelSelector('!a')(undefined), true);
  assert.equal(parseLabelSelector('a!=b')(undefined), true);
  assert.equal(parseLabelSelector('a')(undefined), false);
});

test('field selectors match name and namespace', () => {
  const metadata = { name: 'a', namespace: 'default' };
  assert.equal(parseFieldSelector('')(metadata), true);
  assert.equal(parseFieldSelector('metadata.name=a')(metadata), true);
  assert.equal(parseFieldSelector('metadata.name==a,metadata.namespace=default')(metadata), true);
  assert.equal(parseFieldSelector('metadata.name!=a')(metadata), false);
  assert.equal(parseFieldSelector('metadata.namespace=other')(metadata), false);
});

for (const selector of ['spec.image=x', 'metadata.name', 'metadata.name=a=b', 'status.phase!=Running']) {
  test(`field selector "${selector}" is refused`, () => {
    assert.throws(
      () => parseFieldSelector(selector),
      (error) => error instanceof BulkheadError && error.code === 'BAD_REQUEST',
    );
  });
}

test('label keys and values follow Kubernetes', () => {
  for (const key of ['a', 'a.b_c-d', 'example.com/a', `${'a'.repeat(63)}`]) assert.ok(isLabelKey(key), key);
  for (const key of ['', 'a/', '/a', 'a//b', 'exa_mple.com/a', '.a', 'a'.repeat(64), 'é']) {
    assert.ok(!isLabelKey(key), key);
  }
  for (const value of ['', 'a', 'A.b_c-9', 'a'.repeat(63)]) assert.ok(isLabelValue(value), value);
  for (const value of ['-', 'a b', 'a/b', 'a'.repeat(64), 'a\n']) assert.ok(!isLabelValue(value), value);
});
