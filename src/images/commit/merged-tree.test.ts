// A disk as a guest leaves it, made by the tools of the host, on top of an image.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { randomFrom } from '../../../test/fixtures/chance.ts';
import { buildDisk } from '../build/build-disk.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import { ByteReader } from '../tar/bytes.ts';
import { type TarEntry, TarReader } from '../tar/reader.ts';
import { encodeTarEntry, TAR_END, type TarWriteEntry } from '../tar/writer.ts';
import { mergedTar } from './merged-tree.ts';

let dir: string;
let image: string;
let upper: string;

const entry = (type: TarWriteEntry['type'], name: string, more: Partial<TarWriteEntry> = {}, data = '') =>
  encodeTarEntry({ type, name, mode: type === 'directory' ? 0o755 : 0o644, ...more }, Buffer.from(data));

/** Commands of debugfs on an empty disk of a sandbox. */
async function makeUpper(path: string, commands: string[]): Promise<void> {
  await writeFile(path, '');
  await truncate(path, 64 * 1024 * 1024);
  const features =
    'has_journal,extent,flex_bg,64bit,metadata_csum,huge_file,large_file,dir_index,extra_isize,filetype,ext_attr';
  const options = ['-q', '-F', '-t', 'ext4', '-b', '4096', '-I', '256', '-O', features];
  execFileSync('/sbin/mkfs.ext4', [...options, path], { stdio: 'ignore' });
  const script = `${path}.commands`;
  await writeFile(script, `${commands.join('\n')}\n`);
  execFileSync('/sbin/debugfs', ['-w', '-f', script, path], { stdio: 'ignore' });
}

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-commit-'));
  image = join(dir, 'image.erofs');
  const tar = Buffer.concat([
    entry('directory', './', { mode: 0o711 }),
    entry('directory', 'etc/'),
    entry('file', 'etc/kept', {}, 'kept'),
    entry('file', 'etc/gone', {}, 'gone'),
    entry('file', 'etc/changed', {}, 'old'),
    entry('directory', 'opaque/'),
    entry('file', 'opaque/hidden', {}, 'x'),
    entry('directory', 'moved/'),
    entry('file', 'moved/inside', {}, 'inside'),
    entry('file', 'linked', {}, 'same'),
    entry('link', 'linked2', { linkName: 'linked' }),
    TAR_END,
  ]);
  const layer = join(dir, 'layer.tar');
  await writeFile(layer, tar);
  const diffId = `sha256:${createHash('sha256').update(tar).digest('hex')}`;
  await buildDisk(
    { diskPath: image, diffIds: [diffId], limits: DEFAULT_LIMITS },
    async () => ({ range: { path: layer, offset: 0, length: tar.length }, diffId }),
    () => {},
  );
  const content = join(dir, 'content');
  const large = join(dir, 'large');
  await writeFile(content, 'new');
  await writeFile(large, Buffer.alloc(3_000_000, 'ab'));
  upper = join(dir, 'upper.ext4');
  const many = Array.from({ length: 400 }, (_, i) => `write ${content} file-with-a-long-name-${i}`);
  await makeUpper(upper, [
    ...['mkdir root', 'mkdir work', 'cd root', 'mkdir etc', 'cd etc'],
    ...['mknod gone c 0 0', `write ${content} changed`, 'sif changed mode 0104755', 'sif changed uid 70000'],
    ...['mknod console c 5 1', 'mknod wide b 259 300', 'mknod pipe p'],
    ...['symlink short changed', `symlink long ${'x'.repeat(200)}`],
    ...['ea_set changed user.note hello', 'ea_set changed security.capability cap'],
    ...['cd ..', 'mkdir opaque', `cd opaque`, `write ${content} own`, 'cd ..'],
    'ea_set opaque trusted.overlay.opaque y',
    ...['mkdir renamed', 'ea_set renamed trusted.overlay.redirect /moved', 'mknod moved c 0 0'],
    ...['cd renamed', `write ${content} added`, 'cd ..'],
    ...['mkdir many', 'cd many', ...many, 'cd ..', `write ${large} large`],
    ...['ln large twin', 'sif large links_count 2'],
  ]);
});

after(() => rm(dir, { recursive: true }));

async function treeOf(upperPath: string): Promise<Map<string, TarEntry>> {
  await using lower = await open(image, 'r');
  await using file = await open(upperPath, 'r');
  const tar = new TarReader(new ByteReader(mergedTar(lower, file, DEFAULT_LIMITS)));
  const found = new Map<string, TarEntry>();
  for (let next = await tar.next(); next !== undefined; next = await tar.next()) found.set(next.name, next);
  return found;
}

test('what a guest saw is what the image holds: whiteouts, opaque and renamed folders, attributes, devices, links', async () => {
  const raw: Buffer[] = [];
  {
    await using lower = await open(image, 'r');
    await using file = await open(upper, 'r');
    for await (const chunk of mergedTar(lower, file, DEFAULT_LIMITS)) raw.push(chunk);
  }
  const path = join(dir, 'merged.tar');
  await writeFile(path, Buffer.concat(raw));
  const list = execFileSync('tar', ['-tf', path], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line !== '');
  assert.deepEqual(
    list.filter((name) => !name.startsWith('many/file')),
    [
      './',
      'etc/',
      'etc/changed',
      'etc/console',
      'etc/kept',
      'etc/long',
      'etc/pipe',
      'etc/short',
      'etc/wide',
      'large',
      'linked',
      'linked2',
      'many/',
      'opaque/',
      'opaque/own',
      'renamed/',
      'renamed/added',
      'renamed/inside',
      'twin',
    ],
  );
  assert.equal(list.filter((name) => name.startsWith('many/file')).length, 400);
  const read = (name: string) => execFileSync('tar', ['-xOf', path, name], { maxBuffer: 8_000_000 });
  assert.equal(read('etc/changed').toString(), 'new');
  assert.equal(read('renamed/inside').toString(), 'inside');
  assert.deepEqual(read('large'), await readFile(join(dir, 'large')));
  const long = execFileSync('tar', ['-tvf', path, '--xattrs', '--xattrs-include=*', '--numeric-owner'], {
    encoding: 'utf8',
  });
  assert.match(long, /^-rwsr-xr-x\*? +70000\/0 +3 .*etc\/changed$/m);
  assert.match(long, /^c.* 5,1 .*etc\/console$/m);
  assert.match(long, /^b.* 259,300 .*etc\/wide$/m);
  assert.match(long, /etc\/short -> changed$/m);
  assert.match(long, /etc\/long -> x{200}$/m);
  assert.match(long, /linked2 link to linked$/m);
  assert.match(long, /twin link to large$/m);
  assert.match(long, /^d.*0\/0 .* \.\/$/m);
  const xattrs = execFileSync('tar', ['-tvvf', path, '--xattrs', '--xattrs-include=*'], { encoding: 'utf8' });
  assert.match(xattrs, /user\.note/);
  assert.match(xattrs, /security\.capability/);
  assert.doesNotMatch(xattrs, /trusted\.overlay/);
  assert.equal((await treeOf(upper)).get('etc/changed')?.xattrs?.get('user.note')?.toString(), 'hello');
});

test('damage anywhere is refused or read as something else, and never more than that', async () => {
  const good = await readFile(upper);
  const broken = join(dir, 'broken.ext4');
  const next = randomFrom(7);
  let refused = 0;
  for (let round = 0; round < 60; round++) {
    const bytes = Buffer.from(good);
    // Metadata lies in the first few MiB, and most of it is where something is.
    for (let hit = 0; hit < 40; ) {
      const at = Math.floor(next() * 4_000_000);
      if (bytes[at] === 0) continue;
      bytes[at] = Math.floor(next() * 256);
      hit += 1;
    }
    await writeFile(broken, bytes);
    try {
      await using lower = await open(image, 'r');
      await using file = await open(broken, 'r');
      let size = 0;
      for await (const chunk of mergedTar(lower, file, DEFAULT_LIMITS)) size += chunk.length;
      assert.ok(size < 200_000_000);
    } catch (error) {
      refused += 1;
      assert.match((error as { code?: string }).code ?? String(error), /DISK_DAMAGED|IMAGE_INVALID/);
    }
  }
  assert.ok(refused > 0);
});

test('a disk that was not left in order is refused', async () => {
  const dirty = join(dir, 'dirty.ext4');
  await writeFile(dirty, await readFile(upper));
  execFileSync('/sbin/debugfs', ['-w', '-R', 'feature needs_recovery', dirty], { stdio: 'ignore' });
  await assert.rejects(treeOf(dirty), { code: 'DISK_DAMAGED' });
});
