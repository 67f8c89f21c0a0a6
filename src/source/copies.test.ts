import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeBundle } from '../api/copies/bundle.ts';
import type { SandboxSpec } from '../api/sandbox.ts';
import type { CopyKeeper } from './copies.ts';
import { SourceHarness, sandboxYaml } from './testing/harness.ts';

class Kept implements CopyKeeper {
  readonly bundles = new Map<string, Buffer>();
  has(digest: string): Promise<boolean> {
    return Promise.resolve(this.bundles.has(digest));
  }
  put(digest: string, bytes: Buffer): Promise<void> {
    this.bundles.set(digest, bytes);
    return Promise.resolve();
  }
}

const copying = (from: string) => sandboxYaml('app', { patches: [{ copy: { from, path: '/app' } }] });

async function digestOf(h: SourceHarness): Promise<string | undefined> {
  const { items } = await h.store.list('Sandbox');
  return (items[0]?.spec as SandboxSpec | undefined)?.patches?.[0]?.copy?.digest;
}

test('what a manifest copies lies beside it, is kept, and named by its digest', async () => {
  await using h = await SourceHarness.create();
  const kept = new Kept();
  h.daemon({ copies: kept });
  await h.folder.write('team/.scripts/run.sh', 'echo\n');
  await h.folder.write('team/app.yaml', copying('./.scripts'));
  await h.settle();
  const digest = (await digestOf(h)) ?? '';
  const { contentOf } = decodeBundle(kept.bundles.get(digest) ?? Buffer.alloc(0));
  assert.equal(Buffer.from(contentOf('run.sh')).toString(), 'echo\n');

  await h.folder.write('team/.scripts/run.sh', 'changed\n');
  await h.settle();
  assert.equal(await digestOf(h), digest, 'patches cannot change');
  assert.match(h.sync.status().problems[0]?.message ?? '', /team\/app\.yaml:.*patches cannot change/);
});

test('what cannot be copied is a mistake of the manifest, and its last good version stays', async () => {
  await using h = await SourceHarness.create();
  h.daemon({ copies: new Kept() });
  await h.folder.write('app.yaml', copying('.data'));
  await h.settle();
  assert.equal(await digestOf(h), undefined);
  const [problem] = h.sync.status().problems;
  assert.equal(problem?.reason, 'SourceInvalid');
  assert.equal(problem?.path, 'spec.patches[0].copy.from');
  assert.match(problem?.message ?? '', /app\.yaml:1:1: document 1: .*\.data: there is no such file/);
  await h.folder.write('.data', 'x');
  await h.settle();
  assert.notEqual(await digestOf(h), undefined);
  await h.folder.remove('.data');
  await h.settle();
  assert.deepEqual(await h.names(), ['app'], 'it is not taken for deleted');
});

test('a link out of the watched folder is not followed, neither at the manifest nor at what it copies', async () => {
  await using h = await SourceHarness.create();
  const kept = new Kept();
  h.daemon({ copies: kept });
  await mkdir(join(h.folder.base, 'outside'));
  await writeFile(join(h.folder.base, 'outside', 'secret'), 'secret');
  await symlink(join(h.folder.base, 'outside'), join(h.folder.root, '.link'));
  for (const from of ['.link', '.link/secret']) {
    await h.folder.write('app.yaml', copying(from));
    await h.settle();
  }
  assert.deepEqual(await h.names(), []);
  assert.equal(kept.bundles.size, 0);
});
