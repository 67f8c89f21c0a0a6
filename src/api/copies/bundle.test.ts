import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CopyEntry, decodeBundle, encodeBundle } from './bundle.ts';

const ROOT: CopyEntry = { path: '', kind: 'directory', mode: 0o755 };
const file = (path: string, size = 0): CopyEntry => ({ path, kind: 'file', mode: 0o644, size });

test('content comes back by path', () => {
  const bytes = encodeBundle([ROOT, file('a', 2), file('b', 3)], [Buffer.from('AA'), Buffer.from('BBB')]);
  const { contentOf } = decodeBundle(bytes);
  assert.equal(Buffer.from(contentOf('b')).toString(), 'BBB');
});

test('a list that a client made up is refused', () => {
  const lists: [string, unknown[]][] = [
    ['nothing', []],
    ['no first', [file('a')]],
    ['a link first', [{ path: '', kind: 'symlink', mode: 0o777, target: '/etc' }]],
    ['two first', [ROOT, ROOT]],
    ['twice', [ROOT, file('a'), file('a')]],
    ['up', [ROOT, file('../a')]],
    ['dot', [ROOT, file('./a')]],
    ['absolute', [ROOT, file('/a')]],
    ['NUL', [ROOT, file('a\0b')]],
    ['below a file', [ROOT, file('a'), file('a/b')]],
    ['below a link', [ROOT, { path: 'a', kind: 'symlink', mode: 0o777, target: '/' }, file('a/b')]],
    ['below nothing', [ROOT, file('a/b')]],
    ['set-uid', [ROOT, { ...file('a'), mode: 0o4755 }]],
    ['negative', [ROOT, file('a', -1)]],
    ['longer than the content', [ROOT, file('a', 1)]],
    ['device', [ROOT, { path: 'a', kind: 'device', mode: 0 }]],
    ['long name', [ROOT, file('x'.repeat(256))]],
    ['null', [null]],
  ];
  for (const [what, list] of lists)
    assert.throws(() => decodeBundle(encodeBundle(list as CopyEntry[], [])), { code: 'INVALID' }, what);
});

test('bytes that are no bundle are refused', () => {
  const bundle = encodeBundle([ROOT, file('a', 4)], [Buffer.from('data')]);
  for (let end = 0; end < bundle.length; end++)
    assert.throws(() => decodeBundle(bundle.subarray(0, end)), { code: 'INVALID' }, `cut at ${end}`);
  for (const text of ['bulkhead-copy/1 99999999\n[]', 'bulkhead-copy/1 2\nxx', 'bulkhead-copy/2 2\n[]'])
    assert.throws(() => decodeBundle(Buffer.from(text)), { code: 'INVALID' }, text);
});
