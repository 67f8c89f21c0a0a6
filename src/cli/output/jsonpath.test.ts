import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandFailure } from '../failure.ts';
import { jsonPathTemplate, jsonPathValues } from './jsonpath.ts';

const LIST = {
  kind: 'List',
  items: [
    {
      metadata: { name: 'a', labels: { 'example.com/team': 'x' } },
      status: {
        conditions: [
          { type: 'Ready', status: 'True' },
          { type: 'Booted', status: 'False' },
        ],
        restarts: 2,
      },
    },
    { metadata: { name: 'b' }, status: { conditions: [], restarts: 0 } },
    { metadata: { name: 'c' } },
  ],
};

// Templates and results as kubectl prints them.
const CASES: [string, string][] = [
  ['{.kind}', 'List'],
  ['.kind', 'List'],
  ['{kind}', 'List'],
  ['{$.kind}', 'List'],
  ['{@.kind}', 'List'],
  ['{.items[*].metadata.name}', 'a b c'],
  ['{.items[0].metadata.name}', 'a'],
  ['{.items[-1].metadata.name}', 'c'],
  ['{.items[-1:].metadata.name}', 'c'],
  ['{.items[0:2].metadata.name}', 'a b'],
  ['{.items[::2].metadata.name}', 'a c'],
  ['{.items[0,2].metadata.name}', 'a c'],
  ["{.items[0]['metadata'].name}", 'a'],
  ["{.items[*]['kind','metadata'].name}", 'a b c'],
  ['{.items[0].metadata.labels.example\\.com/team}', 'x'],
  ['{.items[?(@.metadata.name=="b")].status.restarts}', '0'],
  ['{.items[?(@.status.restarts>1)].metadata.name}', 'a'],
  ['{.items[?(@.status)].metadata.name}', 'a b'],
  ['{.items[*].status.conditions[?(@.type=="Ready")].status}', 'True'],
  ['{..type}', 'Ready Booted'],
  ['{range .items[*]}{.metadata.name}{"\\n"}{end}', 'a\nb\nc\n'],
  ['{range .items[*]}[{.metadata.name}, {.status.restarts}] {end}', '[a, 2] [b, 0] [c, ] '],
  [
    '{range .items[0:1]}{range .status.conditions[*]}{.type}={.status};{end}{end}',
    'Ready=True;Booted=False;',
  ],
  ['names: {.items[*].metadata.name}!', 'names: a b c!'],
  ['{.items[1].metadata}', '{"name":"b"}'],
  ['{.nothing.there}', ''],
  ["{'quoted'} {.kind}", 'quoted List'],
];
for (const [template, expected] of CASES) {
  test(`jsonpath ${template}`, () => {
    assert.equal(jsonPathTemplate(template)(LIST), expected);
  });
}

for (const wrong of [
  '{.a',
  '{.a[}',
  '{.a[x]}',
  '{.a[?(@.b==)]}',
  '{range .a}',
  '{.a}{end}',
  '{"text}',
  '{.a!}',
  '{..}',
]) {
  test(`jsonpath ${wrong} is refused as wrong usage`, () => {
    assert.throws(() => jsonPathTemplate(wrong), CommandFailure);
  });
}

test('names of the language are not found in objects that do not have them', () => {
  assert.deepEqual(jsonPathValues('{.constructor}')({}), []);
  assert.deepEqual(jsonPathValues('{.__proto__}')({}), []);
});
