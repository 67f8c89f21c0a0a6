import assert from 'node:assert/strict';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { bringCopies, Patch, patchesOf } from './patches.ts';

test('what is copied is brought first, and the object tells its digest and no path of this host', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-sdk-patches-'));
  t.after(() => rm(dir, { recursive: true }));
  await writeFile(join(dir, 'tool'), 'x');
  await symlink('tool', join(dir, 'link'));
  const patches = [Patch.mkdir('/a'), Patch.copyFile(join(dir, 'link'), '/a/tool', { replace: true })];
  const kept: string[] = [];
  const digests = await bringCopies(patches, async ({ digest }) => void kept.push(digest));
  assert.deepEqual(patchesOf(patches, digests).patches, [
    { mkdir: { path: '/a' } },
    { copy: { from: 'link', path: '/a/tool', digest: kept[0], replace: true } },
  ]);
  assert.equal(kept.length, 1);
  for (const [patch, why] of [
    [Patch.copyDir(join(dir, 'tool'), '/x'), /tool is no folder/],
    [Patch.copyFile(dir, '/x'), /is a folder/],
    [Patch.copyFile(join(dir, 'missing'), '/x'), /missing/],
  ] as const)
    await assert.rejects(
      bringCopies([patch], async () => {}),
      { code: 'INVALID', message: why },
    );
});
