import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  device,
  file,
  folder,
  hardLink,
  symlink,
  tar,
  treeOf,
} from '../../../test/fixtures/images-compose.ts';

const pathsOf = async (...layers: Buffer[]): Promise<string[]> => [...(await treeOf(layers)).keys()].slice(1);

describe('layers on top of each other', () => {
  it('a later layer replaces a file', async () => {
    const tree = await treeOf([tar(file('a', 'old')), tar(file('a', 'new'))]);
    assert.equal(tree.get('a')?.content, 'new');
  });

  it('a whiteout removes a file and a folder of lower layers', async () => {
    const paths = await pathsOf(tar(file('a'), file('d/e/f'), file('k')), tar(file('.wh.a'), file('.wh.d')));
    assert.deepEqual(paths, ['k']);
  });

  it('a whiteout leaves alone what its own layer has, before and after it', async () => {
    const lower = tar(file('d/old'));
    assert.deepEqual(await pathsOf(lower, tar(file('d/new'), file('.wh.d'))), ['d', 'd/new']);
    assert.deepEqual(await pathsOf(lower, tar(file('.wh.d'), file('d/new'))), ['d', 'd/new']);
  });

  it('an opaque whiteout empties a folder of lower layers only, wherever in the layer it stands', async () => {
    const lower = tar(file('d/old'), file('d/sub/old'));
    const opaque = file('d/.wh..wh..opq');
    assert.deepEqual(await pathsOf(lower, tar(opaque, file('d/sub/new'))), ['d', 'd/sub', 'd/sub/new']);
    assert.deepEqual(await pathsOf(lower, tar(file('d/sub/new'), opaque)), ['d', 'd/sub', 'd/sub/new']);
  });

  it('an opaque whiteout of the root starts afresh', async () => {
    assert.deepEqual(await pathsOf(tar(file('a'), file('d/b')), tar(file('.wh..wh..opq'), file('c'))), ['c']);
  });

  it('whiteouts of what is not there, and the bookkeeping of AUFS, change nothing', async () => {
    const upper = tar(file('.wh.no'), file('no/.wh.no'), file('.wh..wh.plnk/12.34'), file('.wh..wh.aufs'));
    assert.deepEqual(await pathsOf(tar(file('a')), upper), ['a']);
  });

  it('a whiteout in a folder named through a symlink works on the folder', async () => {
    const lower = tar(file('usr/lib/a'), file('usr/lib/b'), symlink('lib', 'usr/lib'));
    assert.deepEqual(await pathsOf(lower, tar(file('lib/.wh.a'))), ['lib', 'usr', 'usr/lib', 'usr/lib/b']);
  });

  it('a folder over a folder keeps its content and takes the new attributes', async () => {
    const tree = await treeOf([tar(folder('d'), file('d/a')), tar(folder('d', { mode: 0o700, uid: 7 }))]);
    assert.equal(tree.get('d')?.inode.mode, 0o700);
    assert.equal(tree.get('d')?.inode.uid, 7);
    assert.ok(tree.has('d/a'));
  });

  it('a file over a folder, and a folder over a file, replace it', async () => {
    const tree = await treeOf([tar(file('a/x'), file('b')), tar(file('a'), folder('b'), file('b/y'))]);
    assert.equal(tree.get('a')?.inode.kind, 'file');
    assert.ok(!tree.has('a/x'));
    assert.ok(tree.has('b/y'));
  });

  it('replacing one name of a hard link leaves the others', async () => {
    const tree = await treeOf([
      tar(file('a', 'one'), hardLink('b', 'a'), hardLink('c', 'a')),
      tar(file('b', 'two')),
    ]);
    assert.equal(tree.get('a')?.inode.links, 2);
    assert.equal(tree.get('a')?.nid, tree.get('c')?.nid);
    assert.equal(tree.get('b')?.inode.links, 1);
    assert.equal(tree.get('b')?.content, 'two');
  });

  it('a hard link reaches into a lower layer', async () => {
    const tree = await treeOf([tar(file('a', 'one')), tar(hardLink('b', 'a'))]);
    assert.equal(tree.get('b')?.content, 'one');
    assert.equal(tree.get('a')?.inode.links, 2);
  });

  it('the root takes the attributes of its own entry', async () => {
    const tree = await treeOf([tar(folder('./', { mode: 0o711, uid: 3 }))]);
    assert.equal(tree.get('')?.inode.mode, 0o711);
    assert.equal(tree.get('')?.inode.uid, 3);
  });

  it('devices keep their numbers', async () => {
    const tree = await treeOf([tar(device('d', 259, 70_000))]);
    assert.deepEqual([tree.get('d')?.major, tree.get('d')?.minor], [259, 70_000]);
  });

  it('an image without layers is an empty root', async () => {
    assert.deepEqual([...(await treeOf([])).keys()], ['']);
  });
});
