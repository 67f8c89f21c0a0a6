import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, realpath, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { COPY_BYTES_MAX, COPY_ENTRIES_MAX, decodeBundle } from './bundle.ts';
import { packCopy } from './pack.ts';

const SECRET = 'not for guests';

/** `base/outside/secret`, and an empty `base/manifests`. */
async function world(t: TestContext): Promise<{ base: string; manifests: string }> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'bulkhead-pack-')));
  t.after(() => rm(base, { recursive: true }));
  await mkdir(join(base, 'outside'));
  await writeFile(join(base, 'outside', 'secret'), SECRET);
  const manifests = join(base, 'manifests');
  await mkdir(manifests);
  return { base, manifests };
}

test('a folder is packed with modes and links, the same each time', async (t) => {
  const { manifests } = await world(t);
  const scripts = join(manifests, 'scripts');
  await mkdir(join(scripts, 'lib'), { recursive: true });
  await writeFile(join(scripts, 'run.sh'), 'echo hi\n');
  await chmod(join(scripts, 'run.sh'), 0o4755);
  await writeFile(join(scripts, 'lib', 'empty'), '');
  await symlink('../../../outside/secret', join(scripts, 'lib', 'out'));
  const { digest, bytes } = await packCopy(manifests, './scripts/');
  const { entries, contentOf } = decodeBundle(bytes);
  assert.deepEqual(
    entries.map(({ path, kind, target }) => [path, kind, target]),
    [
      ['', 'directory', undefined],
      ['lib', 'directory', undefined],
      ['lib/empty', 'file', undefined],
      ['lib/out', 'symlink', '../../../outside/secret'],
      ['run.sh', 'file', undefined],
    ],
  );
  assert.equal(Buffer.from(contentOf('run.sh')).toString(), 'echo hi\n');
  assert.equal(entries.at(-1)?.mode, 0o755, 'without set-uid');
  assert.equal(bytes.includes(SECRET), false);
  assert.equal((await packCopy(manifests, 'scripts')).digest, digest);
  const single = decodeBundle((await packCopy(manifests, 'scripts/run.sh')).bytes);
  assert.deepEqual(single.entries, [{ path: '', kind: 'file', mode: 0o755, size: 8 }]);
});

test('no name and no link leads out of the folder', async (t) => {
  const { base, manifests } = await world(t);
  await symlink('../outside', join(manifests, 'folder-link'));
  await symlink('../outside/secret', join(manifests, 'file-link'));
  await symlink('/proc/self/fd', join(manifests, 'magic'));
  await symlink(join(base, 'outside'), join(base, 'base-link'));
  execFileSync('mkfifo', [join(manifests, 'pipe')]);
  for (const [from, why] of [
    ['../outside/secret', /leads out/],
    ['a/../../outside/secret', /leads out/],
    ['/etc/passwd', /leads out/],
    ['file-link', /link/],
    ['folder-link', /link/],
    ['folder-link/secret', /link/],
    ['magic/0', /link/],
    ['pipe', /neither a file nor a folder/],
    ['missing', /missing: there is no such file/],
  ] as const)
    await assert.rejects(packCopy(manifests, from), { code: 'INVALID', message: why }, from);
  await assert.rejects(packCopy(join(base, 'base-link'), 'secret', { within: manifests }), /leads out/);
  await assert.rejects(packCopy(join(base, 'manifests2'), 'x', { within: manifests }), { code: 'INVALID' });
});

test('a folder that becomes a link while it is read shows nothing of where the link leads', async (t) => {
  const { base, manifests } = await world(t);
  const [inside, aside] = [join(manifests, 'a'), join(base, 'aside')];
  await mkdir(join(inside, 'b'), { recursive: true });
  await writeFile(join(inside, 'b', 'secret'), 'ours');
  await mkdir(join(base, 'outside', 'b'));
  await writeFile(join(base, 'outside', 'b', 'secret'), SECRET);
  await symlink('../outside', join(base, 'link'));
  const done = new AbortController();
  const swapping = (async () => {
    while (!done.signal.aborted) {
      await rename(inside, aside);
      await rename(join(base, 'link'), inside);
      await rename(inside, join(base, 'link'));
      await rename(aside, inside);
    }
  })();
  let packed = 0;
  for (let round = 0; round < 500; round++) {
    const result = await packCopy(manifests, round % 2 === 0 ? 'a/b/secret' : 'a').catch(() => undefined);
    if (result === undefined) continue;
    packed += 1;
    assert.equal(result.bytes.includes(SECRET), false);
  }
  done.abort();
  await swapping;
  assert.ok(packed > 0, 'some were read between two swaps');
});

test('size and number are bounded', async (t) => {
  const { manifests } = await world(t);
  await mkdir(join(manifests, 'many'));
  for (let i = 0; i < COPY_ENTRIES_MAX; i++) await writeFile(join(manifests, 'many', String(i)), '');
  await assert.rejects(packCopy(manifests, 'many'), { code: 'TOO_LARGE' });
  await writeFile(join(manifests, 'large'), '');
  await truncate(join(manifests, 'large'), COPY_BYTES_MAX + 1);
  await assert.rejects(packCopy(manifests, 'large'), { code: 'TOO_LARGE' });
});
