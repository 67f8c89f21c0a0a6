import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TopHistory } from './top-history.ts';

const reading = (cpus: number, memoryBytes: number) => ({ cpus, memoryBytes, memoryLimitBytes: 100 });

test('bars show the last half minute, newest at the right, and go with the sandbox', () => {
  const history = new TopHistory();
  history.add(new Map([['a', reading(0, 0)]]));
  history.add(
    new Map([
      ['a', reading(2, 50)],
      ['b', reading(0.01, 100)],
    ]),
  );
  assert.equal(history.cpu('a').trimStart(), '▁█');
  assert.equal(history.memory('a').trimStart(), '▁▅');
  assert.equal(history.cpu('b').trimStart(), '▂', 'what idles shows no peak');
  assert.equal(history.memory('b').trimStart(), '█');
  assert.equal(history.cpu('a').length, history.cpu('b').length, 'columns stay where they are');
  for (let more = 0; more < 40; more += 1) history.add(new Map([['a', reading(1, 1)]]));
  assert.equal(history.cpu('b').trim(), '');
  assert.equal(history.cpu('a'), '█'.repeat(15));
});
