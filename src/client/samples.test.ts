import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSamples } from './samples.ts';

test('series are read with their labels, escapes and all', () => {
  const text = [
    '# HELP a_total {x="y"} 1',
    'a_total 3',
    'b{name="x",text="say \\"hi\\", \\\\ and } \\n"} 1.5e+3',
    'not a line of it',
    '',
  ].join('\n');
  assert.deepEqual(parseSamples(text), [
    { name: 'a_total', labels: {}, value: 3 },
    { name: 'b', labels: { name: 'x', text: 'say "hi", \\ and } \n' }, value: 1500 },
  ]);
});
