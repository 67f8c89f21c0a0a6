// Random damage to superblocks, which guests write and the host reads: figures that make sense, or none.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { damaged, fuzz } from '../../test/fixtures/chance.ts';
import { crc32c } from './crc32c.ts';
import { parseSuperblock, spaceOf } from './superblock.ts';

const ROUNDS = 5_000;
const LENGTH = 1024;
const CHECKSUM_AT = 0x3fc;

const dir = mkdtempSync(join(tmpdir(), 'bulkhead-fuzz-'));
after(() => rmSync(dir, { recursive: true }));

/** The superblock of an empty disk, as mkfs writes it. */
function seed(): Buffer {
  const path = join(dir, 'disk');
  writeFileSync(path, '');
  truncateSync(path, 64 * 1024 * 1024);
  execFileSync('mkfs.ext4', ['-q', '-F', path], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  const bytes = Buffer.alloc(LENGTH);
  const fd = openSync(path, 'r');
  readSync(fd, bytes, 0, LENGTH, LENGTH);
  closeSync(fd);
  return bytes;
}

const SEED = seed();

fuzz('superblocks are figures that make sense or none', ROUNDS, (pick) => {
  const bytes = Buffer.alloc(LENGTH);
  damaged(SEED, ['\xff\xff\xff\xff', '\0\0\0\0', '\x01\0\0\0', '\xff\xff'], pick).copy(bytes);
  // Most damage would end at the checksum.
  if (pick(8) !== 0) bytes.writeUInt32LE(crc32c(bytes.subarray(0, CHECKSUM_AT)), CHECKSUM_AT);
  const superblock = parseSuperblock(bytes);
  if (superblock === undefined) return false;
  const { clean: _clean, ...counts } = superblock;
  for (const [name, value] of Object.entries({ ...counts, ...spaceOf(superblock) }))
    assert.ok(Number.isSafeInteger(value) && value >= 0, `${name} is ${value}`);
  return true;
});
