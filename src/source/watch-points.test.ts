import assert from 'node:assert/strict';
import { mkdir, realpath, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { TestFolder } from './testing/folder.ts';
import { watchPoints } from './watch-points.ts';

test('a plain directory is watched as an entry of its parent, and itself', async () => {
  await using folder = await TestFolder.create();
  const root = await realpath(folder.root);
  assert.deepEqual(await watchPoints(root), { entries: [root], directory: root });
});

test('every link on the path is watched, also one above the root', async () => {
  await using folder = await TestFolder.create();
  const base = await realpath(folder.base);
  await mkdir(join(base, 'versions/v1/k8s'), { recursive: true });
  await symlink('versions/v1', join(base, 'current'));
  await symlink(join(base, 'current'), join(base, 'alias'));
  assert.deepEqual(await watchPoints(join(base, 'alias/k8s')), {
    entries: [join(base, 'alias'), join(base, 'current'), join(base, 'versions/v1/k8s')],
    directory: join(base, 'versions/v1/k8s'),
  });
});

test('a path that does not exist is awaited below its nearest ancestor', async () => {
  await using folder = await TestFolder.create();
  const base = await realpath(folder.base);
  assert.deepEqual(await watchPoints(join(base, 'absent/deeper')), { entries: [join(base, 'absent')] });
  await symlink('absent', join(base, 'dangling'));
  assert.deepEqual(await watchPoints(join(base, 'dangling')), {
    entries: [join(base, 'dangling'), join(base, 'absent')],
  });
});

test('links in a circle end the walk', async () => {
  await using folder = await TestFolder.create();
  await symlink('b', join(folder.base, 'a'));
  await symlink('a', join(folder.base, 'b'));
  assert.equal((await watchPoints(join(folder.base, 'a'))).directory, undefined);
});
