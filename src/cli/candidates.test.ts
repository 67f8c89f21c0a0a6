import assert from 'node:assert/strict';
import { test } from 'node:test';
import { candidates } from './candidates.ts';

const NAMES: Record<string, string[]> = { sandboxes: ['agent', 'build'], volumes: ['data'] };
const asked: unknown[] = [];

function complete(...words: string[]): Promise<string[]> {
  asked.length = 0;
  return candidates(words, async (kind, where) => {
    asked.push([kind, where]);
    return NAMES[kind] ?? [];
  });
}

test('commands, kinds and subcommands are completed from what they begin with, without a daemon', async () => {
  assert.deepEqual(await complete('att'), ['attach']);
  assert.ok((await complete('')).includes('run'));
  assert.deepEqual(await complete('get', 'vol'), ['volumes']);
  assert.deepEqual(await complete('volume', 's'), ['snapshot']);
  assert.deepEqual(await complete('completion', ''), ['bash', 'zsh', 'fish']);
  assert.deepEqual(asked, []);
});

test('names of sandboxes are completed where one is meant, and no further', async () => {
  for (const command of ['exec', 'attach', 'logs', 'stop', 'top'])
    assert.deepEqual(await complete(command, ''), ['agent', 'build'], command);
  assert.deepEqual(await complete('exec', '-it', 'a'), ['agent']);
  assert.deepEqual(await complete('commit', 'a'), ['agent']);
  assert.deepEqual(await complete('commit', 'agent', ''), [], 'the name of a new image');
  assert.deepEqual(await complete('exec', 'agent', ''), [], 'a command of the guest');
  assert.deepEqual(await complete('exec', 'agent', '--', ''), []);
  assert.deepEqual(await complete('stop', 'agent', ''), ['build'], 'each once');
  assert.deepEqual(await complete('policy', 'test', ''), ['agent', 'build']);
  assert.deepEqual(await complete('get', 'volumes', ''), ['data']);
  assert.deepEqual(await complete('volume', 'du', ''), ['data']);
});

test('paths in sandboxes begin with a name; files of the host are the shell’s', async () => {
  assert.deepEqual(await complete('cp', 'b'), ['build:']);
  assert.deepEqual(await complete('cp', './b'), []);
  assert.deepEqual(await complete('cp', 'build:/etc', ''), ['agent:', 'build:']);
});

test('the namespace and the socket of the line are those that are asked', async () => {
  await complete('-n', 'other', 'exec', '--socket', '/s', '');
  assert.deepEqual(asked, [['sandboxes', { namespace: 'other', socket: '/s' }]]);
  assert.deepEqual(await complete('exec', '-n', ''), [], 'the value of an option');
});
