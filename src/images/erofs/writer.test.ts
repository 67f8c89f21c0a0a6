import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import {
  extension,
  file,
  folder,
  paxRecord,
  symlink,
  tar,
  treeOf,
} from '../../../test/fixtures/images-compose.ts';
import { crc32c } from './crc32c.ts';

const run = promisify(execFile);
/** Passes only if fsck.erofs of erofs-utils finds nothing wrong with the disk. */
const fsck = async (diskPath: string): Promise<void> => void (await run('fsck.erofs', [diskPath]));

describe('EROFS disks', () => {
  it('CRC-32C is the one of RFC 3720, without its final inversion', () => {
    assert.equal(~crc32c(Buffer.alloc(32)) >>> 0, 0x8a9136aa);
    assert.equal(~crc32c(Buffer.from('123456789')) >>> 0, 0xe3069283);
  });

  it('the same layers give the same bytes', async () => {
    const layers = [tar(file('b', 'x'.repeat(9000)), folder('d'), file('d/a'), symlink('s', 'd'))];
    const sums: string[] = [];
    const check = async (path: string): Promise<void> => {
      sums.push(
        createHash('sha256')
          .update(await readFile(path))
          .digest('hex'),
      );
    };
    await treeOf(layers, { check });
    await treeOf(layers, { check });
    assert.equal(sums[0], sums[1]);
  });

  it('a folder of 20,000 names is found whole and in order', async () => {
    const names = Array.from({ length: 20_000 }, (_, i) => `name-${i}`);
    const tree = await treeOf([tar(...names.map((name) => file(`d/${name}`)))], { check: fsck });
    assert.deepEqual([...tree.keys()].slice(2), names.map((name) => `d/${name}`).sort());
  });

  it('names that sort before "." and names of 255 bytes', async () => {
    const names = ['!', '-', '+a', '#', 'n'.repeat(255), '\xff', '.a', '..b'];
    const layer = tar(
      ...names.map((name) => Buffer.concat([extension('x', paxRecord('path', name)), file('x')])),
    );
    const tree = await treeOf([layer], { check: fsck });
    assert.deepEqual([...tree.keys()].slice(1), names.sort());
  });

  it('symlinks of every length up to the longest', async () => {
    const lengths = [1, 59, 60, 255, 4000, 4031, 4032, 4033, 4095];
    const tree = await treeOf([tar(...lengths.map((length) => symlink(`s${length}`, 't'.repeat(length))))], {
      check: fsck,
    });
    for (const length of lengths) assert.equal(tree.get(`s${length}`)?.target.length, length);
  });

  it('files of every size around a block, and of zeros', async () => {
    const sizes = [0, 1, 511, 512, 4095, 4096, 4097, 8192, 1_048_576, 3_000_000];
    const entries = sizes.flatMap((size) => [
      file(`f${size}`, 'x'.repeat(size)),
      file(`z${size}`, '\0'.repeat(size)),
    ]);
    const tree = await treeOf([tar(...entries)], { check: fsck });
    for (const size of sizes) {
      assert.equal(tree.get(`f${size}`)?.content, 'x'.repeat(size));
      assert.equal(tree.get(`z${size}`)?.content, '\0'.repeat(size));
    }
  });

  it('zeros take no room on the host', async () => {
    await treeOf([tar(file('z', '\0'.repeat(32 << 20)))], {
      check: async (path) => assert.ok((await stat(path)).blocks * 512 < 1 << 20),
    });
  });

  it('xattrs larger than a block, on files, folders and symlinks', async () => {
    const big = extension(
      'x',
      paxRecord('SCHILY.xattr.user.big', 'v'.repeat(60_000)) + paxRecord('SCHILY.xattr.user.a', '1'),
    );
    const tree = await treeOf(
      [tar(big, file('f', 'x'), big, folder('d'), file('d/e'), big, symlink('s', 't'))],
      { check: fsck },
    );
    for (const path of ['f', 'd', 's']) assert.equal(tree.get(path)?.xattrs?.get('user.big')?.length, 60_000);
    assert.equal(tree.get('s')?.target, 't');
    assert.ok(tree.has('d/e'));
  });

  it('link counts of folders count their subfolders', async () => {
    const tree = await treeOf([tar(folder('d/a'), folder('d/b'), file('d/c'))]);
    assert.equal(tree.get('d')?.inode.links, 4);
    assert.equal(tree.get('')?.inode.links, 3);
  });
});
