import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import {
  extension,
  file,
  patched,
  paxRecord,
  symlink,
  tar,
  treeOf,
} from '../../../test/fixtures/images-compose.ts';

const pax = (...records: [string, string][]): Buffer =>
  extension('x', records.map(([key, value]) => paxRecord(key, value)).join(''));

describe('tar dialects', () => {
  it('pax fields take the place of the header fields', async () => {
    const fields = pax(['path', 'long/name'], ['uid', '4000000000'], ['gid', '4000000001'], ['mtime', '1.5']);
    const inode = (await treeOf([tar(fields, file('short', 'x'))])).get('long/name')?.inode;
    assert.equal(inode?.uid, 4_000_000_000);
    assert.equal(inode?.gid, 4_000_000_001);
    assert.deepEqual([inode?.seconds, inode?.nanoseconds], [1, 500_000_000]);
  });

  it('times before 1970 count their nanoseconds upwards', async () => {
    const inode = (await treeOf([tar(pax(['mtime', '-1.25']), file('a'))])).get('a')?.inode;
    assert.deepEqual([inode?.seconds, inode?.nanoseconds], [-2, 750_000_000]);
  });

  it('GNU long names and link targets', async () => {
    const name = `${'d/'.repeat(100)}n`;
    const layer = tar(extension('L', `${name}\0`), extension('K', `${'t'.repeat(300)}\0`), symlink('s', 't'));
    assert.equal((await treeOf([layer])).get(name)?.target, 't'.repeat(300));
  });

  it('ustar prefixes', async () => {
    const tree = await treeOf([tar(patched(file('name', 'x'), 345, 'some/prefix'))]);
    assert.equal(tree.get('some/prefix/name')?.content, 'x');
  });

  it('base-256 numbers', async () => {
    const uid = Buffer.from([0x80, 0, 0, 0, 0xee, 0x6b, 0x28, 0x00]);
    assert.equal((await treeOf([tar(patched(file('a'), 108, uid))])).get('a')?.inode.uid, 4_000_000_000);
  });

  it('archives of before ustar, where a slash makes a folder', async () => {
    const old = patched(patched(file('d/'), 156, '\0'), 257, '\0'.repeat(8));
    assert.equal((await treeOf([tar(old)])).get('d')?.inode.kind, 'directory');
  });

  it('names are bytes, not text', async () => {
    const tree = await treeOf([tar(file('\xff\xfe\x01', 'x'), file('new\nline'))]);
    assert.ok(tree.has('\xff\xfe\x01'));
    assert.ok(tree.has('new\nline'));
  });

  it('xattrs of every namespace that a disk holds; orders to overlayfs and foreign ones are left out', async () => {
    const names = [
      'user.x',
      'trusted.x',
      'security.capability',
      'system.posix_acl_access',
      'system.posix_acl_default',
      'trusted.overlay.opaque',
      'system.nfs4_acl',
      'com.apple.x',
      'user.',
    ];
    const records = names.map((name): [string, string] => [`SCHILY.xattr.${name}`, `v\0\xff${name}`]);
    const xattrs = (await treeOf([tar(pax(...records), file('a'))])).get('a')?.xattrs;
    assert.deepEqual([...(xattrs?.keys() ?? [])].sort(), names.slice(0, 5).sort());
    assert.equal(xattrs?.get('user.x')?.toString('latin1'), 'v\0\xffuser.x');
  });

  it('global headers, bytes after the end, and a missing end change nothing', async () => {
    const entry = file('a', 'x');
    const layer = Buffer.concat([
      extension('g', paxRecord('path', 'evil')),
      tar(entry),
      Buffer.alloc(10_240, 1),
    ]);
    assert.equal((await treeOf([layer])).get('a')?.content, 'x');
    assert.equal((await treeOf([entry])).get('a')?.content, 'x');
  });

  it('gzip in several members, zstd and plain tar give the same tree', async () => {
    const layer = tar(file('a', 'x'.repeat(100_000)), file('b', 'y'));
    const members = Buffer.concat([gzipSync(layer.subarray(0, 5000)), gzipSync(layer.subarray(5000))]);
    for (const stored of [members, zstdCompressSync(layer), layer]) {
      const tree = await treeOf([layer], { stored: [stored] });
      assert.equal(tree.get('a')?.content.length, 100_000);
      assert.equal(tree.get('b')?.content, 'y');
    }
  });
});

describe('sparse files as GNU tar writes them', () => {
  for (const format of [
    ['--format=gnu'],
    ...['0.0', '0.1', '1.0'].map((v) => ['--format=pax', `--sparse-version=${v}`]),
  ]) {
    it(format.join(' '), async () => {
      const work = mkdtempSync(join(tmpdir(), 'bulkhead-sparse-'));
      try {
        // Six pieces: more than the four that fit into the old header.
        const script =
          'for i in 0 1 2 3 4 5; do printf piece$i | dd of=s bs=64k seek=$i conv=notrunc status=none; done; truncate -s 1M s';
        execFileSync('sh', ['-c', script], { cwd: work });
        const layer = execFileSync('tar', ['-cS', ...format, 's'], { cwd: work, maxBuffer: 1 << 24 });
        assert.ok(layer.length < 1 << 19, 'GNU tar stored the file sparse');
        const tree = await treeOf([layer]);
        const content = tree.get('s')?.content ?? '';
        assert.equal(content.length, 1 << 20);
        for (let i = 0; i < 6; i++) assert.equal(content.slice(i << 16, (i << 16) + 6), `piece${i}`);
        assert.equal(content.replaceAll('\0', '').length, 36);
      } finally {
        rmSync(work, { recursive: true });
      }
    });
  }
});
