import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { crc32c } from './crc32c.ts';
import { DiskFactory } from './disk.ts';
import { parseSuperblock, readSuperblock, spaceOf } from './superblock.ts';

const MIB = 1024 * 1024;
const dir = mkdtempSync(join(tmpdir(), 'superblock-'));
after(() => rmSync(dir, { recursive: true }));
const disk = join(dir, 'disk.img');
await new DiskFactory(join(dir, 'templates'), async (from, to) => copyFileSync(from, to)).create(
  disk,
  100 * MIB,
);

const superblockOf = (path: string): Buffer => readFileSync(path).subarray(1024, 2048);
/** The bytes with something changed, and a checksum that fits again. */
function changed(bytes: Buffer, change: (view: DataView) => void): Buffer {
  const copy = Buffer.from(bytes);
  const view = new DataView(copy.buffer, copy.byteOffset, copy.length);
  change(view);
  view.setUint32(0x3fc, crc32c(copy.subarray(0, 0x3fc)), true);
  return copy;
}

test('the checksum is that of the published check value', () => {
  assert.equal(~crc32c(Buffer.from('123456789')) >>> 0, 0xe3069283);
});

test('size, free space and overhead are what e2fsprogs says of the same disk', async () => {
  const superblock = await readSuperblock(disk);
  const said = execFileSync('/sbin/dumpe2fs', ['-h', disk], {
    stdio: ['ignore', 'pipe', 'ignore'],
  }).toString();
  const figure = (name: string) => Number(new RegExp(`^${name}: +(\\d+)$`, 'm').exec(said)?.[1]);
  assert.deepEqual(superblock, {
    blockBytes: figure('Block size'),
    blocks: figure('Block count'),
    freeBlocks: figure('Free blocks'),
    inodes: figure('Inode count'),
    freeInodes: figure('Free inodes'),
    overheadBlocks: figure('Overhead clusters'),
    clean: true,
    growableToBlocks: superblock?.growableToBlocks,
  });
});

test('the overhead is still right after a growth, which makes e2fsprogs forget it', async () => {
  const grown = join(dir, 'grown.img');
  copyFileSync(disk, grown);
  const before = await readSuperblock(grown);
  truncateSync(grown, 3000 * MIB);
  execFileSync('/sbin/resize2fs', [grown], { stdio: 'ignore' });
  const after = await readSuperblock(grown);
  assert.ok(before !== undefined && after !== undefined);
  assert.equal(spaceOf(after).usedBytes, spaceOf(before).usedBytes, 'files use what they used');
  assert.equal(after.blocks, (3000 * MIB) / 4096);
  rmSync(grown);
});

test('space is what ext4 lets a guest have: what it keeps for itself is not available', () => {
  const superblock = {
    blockBytes: 4096,
    blocks: 262_144,
    freeBlocks: 4096,
    inodes: 10,
    freeInodes: 5,
    overheadBlocks: 17_045,
    clean: true,
    growableToBlocks: 0,
  };
  assert.deepEqual(spaceOf(superblock), { usedBytes: (262_144 - 4096 - 17_045) * 4096, availableBytes: 0 });
});

test('a file system that is mounted, in error or not valid is not clean', () => {
  const bytes = superblockOf(disk);
  assert.equal(parseSuperblock(changed(bytes, () => {}))?.clean, true);
  const recover = (view: DataView) => view.setUint32(0x60, view.getUint32(0x60, true) | 0x4, true);
  assert.equal(parseSuperblock(changed(bytes, recover))?.clean, false);
  for (const state of [0, 2, 3])
    assert.equal(parseSuperblock(changed(bytes, (view) => view.setUint16(0x3a, state, true)))?.clean, false);
});

test('a superblock whose checksum is wrong is none, nor are other files', async () => {
  const bytes = Buffer.from(superblockOf(disk));
  bytes[0x0c] = (bytes[0x0c] ?? 0) ^ 1;
  assert.equal(parseSuperblock(bytes), undefined);
  assert.equal(parseSuperblock(Buffer.alloc(1024)), undefined);
  assert.equal(parseSuperblock(Buffer.alloc(10)), undefined);
  const short = join(dir, 'short');
  writeFileSync(short, 'too short');
  assert.equal(await readSuperblock(short), undefined);
});

test('whatever a guest writes there, the figures stay within their bounds', () => {
  const bytes = superblockOf(disk);
  let seed = 12_345;
  const random = () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return seed;
  };
  let accepted = 0;
  for (let round = 0; round < 20_000; round += 1) {
    const hostile = changed(bytes, (view) => {
      for (let count = 1 + (random() % 4); count > 0; count -= 1) {
        const at = (random() >>> 8) % 0x200;
        // The magic number stays: without it nothing else is looked at.
        if (at !== 0x38 && at !== 0x39) view.setUint8(at, random() >>> 16);
      }
    });
    const parsed = parseSuperblock(hostile);
    if (parsed === undefined) continue;
    accepted += 1;
    const { usedBytes, availableBytes } = spaceOf(parsed);
    for (const figure of [usedBytes, availableBytes, parsed.growableToBlocks, parsed.overheadBlocks])
      assert.ok(Number.isSafeInteger(figure) && figure >= 0, hostile.toString('hex'));
    assert.ok(usedBytes + availableBytes <= parsed.blocks * parsed.blockBytes);
  }
  assert.ok(accepted > 1000, 'most changes leave something to measure');
});

test('a pipe in the place of a disk is refused, not waited for', async () => {
  const pipe = join(dir, 'pipe');
  execFileSync('mkfifo', [pipe]);
  await assert.rejects(readSuperblock(pipe), { code: 'ESPIPE' });
});
