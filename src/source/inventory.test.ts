import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import { type Inventory, inventoryFile } from './inventory.ts';
import { TestFolder } from './testing/folder.ts';

const INVENTORY: Inventory = {
  device: '42',
  rows: [
    {
      key: { kind: 'Sandbox', namespace: 'default', name: 'a' },
      file: 'a.yaml',
      document: 1,
      digest: 'd',
      uid: 'u',
      manifest: { apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox', metadata: { name: 'a' }, spec: {} },
    },
  ],
};

test('what was saved is read back, by its owner alone', async () => {
  await using folder = await TestFolder.create();
  const path = join(folder.base, 'inventory');
  const file = inventoryFile(path, () => 'now');
  assert.deepEqual(await file.load(), { type: 'absent' });
  await file.save(INVENTORY);
  assert.deepEqual(await file.load(), { type: 'read', inventory: INVENTORY });
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.deepEqual(
    (await readdir(folder.base)).sort(),
    ['inventory', 'manifests'],
    'no temporary file is left',
  );
});

test('a damaged inventory is moved aside and said to be lost, whatever the damage', async (t) => {
  const damages: Record<string, (path: string) => Promise<void>> = {
    empty: (path) => truncate(path, 0),
    truncated: (path) => truncate(path, 90),
    'one byte flipped': async (path) => {
      const bytes = await readFile(path);
      bytes[bytes.length - 5] = (bytes[bytes.length - 5] ?? 0) ^ 1;
      await writeFile(path, bytes);
    },
    'another format': async (path) => writeFile(path, (await readFile(path, 'utf8')).replace('1 ', '9 ')),
    'no JSON': (path) => writeFile(path, 'hello\nworld'),
  };
  for (const [name, damage] of Object.entries(damages)) {
    await t.test(name, async () => {
      await using folder = await TestFolder.create();
      const path = join(folder.base, 'inventory');
      const file = inventoryFile(path, () => 'then');
      await file.save(INVENTORY);
      await damage(path);
      const loaded = await file.load();
      assert.equal(loaded.type, 'lost');
      assert.deepEqual((await readdir(folder.base)).sort(), ['inventory.corrupt-then', 'manifests']);
      assert.deepEqual(await file.load(), { type: 'absent' });
    });
  }
});

test('a temporary file left by a crash does no harm', async () => {
  await using folder = await TestFolder.create();
  const path = join(folder.base, 'inventory');
  const file = inventoryFile(path, () => '');
  await file.save(INVENTORY);
  await writeFile(`${path}.tmp`, '1 half');
  assert.equal((await file.load()).type, 'read');
  await file.save({ rows: [] });
  assert.deepEqual(await file.load(), { type: 'read', inventory: { rows: [] } });
});

test('an inventory that cannot be written says so and leaves the former one', async () => {
  await using folder = await TestFolder.create();
  const path = join(folder.base, 'inventory');
  const file = inventoryFile(path, () => '');
  await file.save(INVENTORY);
  await mkdir(`${path}.tmp`);
  await assert.rejects(
    file.save({ rows: [] }),
    (error) => error instanceof BulkheadError && error.code === 'INTERNAL',
  );
  assert.equal((await file.load()).type, 'read');
});
