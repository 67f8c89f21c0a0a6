import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { DiskFactory, MIN_DISK_BYTES } from './disk.ts';

const dir = mkdtempSync(join(tmpdir(), 'disk-'));
after(() => rmSync(dir, { recursive: true }));
/** Keeps holes, as the product's own copy does. */
const copy = async (source: string, target: string) => {
  execFileSync('cp', ['--sparse=always', source, target]);
};
const factory = new DiskFactory(join(dir, 'templates'), copy);
const MIB = 1024 * 1024;

for (const size of [MIN_DISK_BYTES, 100_000_000, 1000 * MIB + 1])
  test(`a disk of ${size} bytes is a clean ext4 of that size, in whole blocks, with a journal`, async () => {
    const path = join(dir, `disk-${size}`);
    await factory.create(path, size);
    assert.equal(statSync(path).size, Math.ceil(size / 4096) * 4096);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    execFileSync('/sbin/e2fsck', ['-fn', path], { stdio: 'pipe' });
    const info = execFileSync('/sbin/dumpe2fs', [path], { stdio: ['ignore', 'pipe', 'ignore'] }).toString();
    assert.match(info, /has_journal.* extent.* flex_bg.* metadata_csum/);
    assert.match(info, /ITABLE_ZEROED/);
    assert.match(info, /Reserved block count: +0/);
    rmSync(path);
  });

test('one template serves many disks of a size, also when all ask at once', async () => {
  const paths = Array.from({ length: 8 }, (_, index) => join(dir, `same-${index}`));
  await Promise.all(paths.map((path) => factory.create(path, 65 * MIB)));
  assert.equal(
    readdirSync(join(dir, 'templates')).filter((name) => name.includes(`-${65 * MIB}.`)).length,
    1,
  );
});

test('whoever asks for ever other sizes leaves no more than some templates, and each disk is made', async () => {
  const templates = join(dir, 'many');
  const many = new DiskFactory(templates, copy);
  const sizes = Array.from({ length: 40 }, (_, index) => MIN_DISK_BYTES + index * 4096);
  const path = join(dir, 'one-of-many');
  for (const size of sizes) {
    await many.create(path, size);
    assert.equal(statSync(path).size, size);
  }
  assert.equal(readdirSync(templates).length, 32);
  await Promise.all(
    [...sizes, ...sizes].map((size, index) => many.create(join(dir, `again-${index}`), size)),
  );
  assert.equal(statSync(join(dir, 'again-0')).size, MIN_DISK_BYTES);
  assert.equal(readdirSync(templates).length, 32);
  await new DiskFactory(templates, copy).removeLeftovers();
  assert.equal(readdirSync(templates).length, 32);
});

test('sizes that cannot be are refused by name', async () => {
  for (const size of [0, -1, MIN_DISK_BYTES - 1, 2 ** 60, Number.NaN, 1.5])
    await assert.rejects(factory.create(join(dir, 'never'), size), { code: 'INVALID' });
});

test('a failing copy is an error that leaves nothing in the place', async () => {
  const failing = new DiskFactory(join(dir, 'templates'), () =>
    Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' })),
  );
  await assert.rejects(failing.create(join(dir, 'never'), 64 * MIB), { code: 'DISK_FULL' });
  assert.equal(existsSync(join(dir, 'never')), false);
});
