import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOfBundle, encodeBundle } from '../api/copies/bundle.ts';
import { openCopies } from './open-copies.ts';

const HOUR_MS = 3_600_000;

test('content is kept by its digest, mended when it is damaged, and unused an hour after nobody names it', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-copies-'));
  t.after(() => rm(dir, { recursive: true }));
  let now = Date.now();
  await writeFile(join(dir, '.arriving-x'), 'half');
  const copies = await openCopies(dir, () => now);
  assert.deepEqual(await readdir(dir), []);
  const bytes = encodeBundle([{ path: '', kind: 'file', mode: 0o600, size: 2 }], [Buffer.from('hi')]);
  const digest = digestOfBundle(bytes);
  assert.equal(await copies.has(digest), false);
  await assert.rejects(copies.put(digest, Buffer.from('other')), { code: 'INVALID' });
  const noBundle = Buffer.from('no bundle');
  await assert.rejects(copies.put(digestOfBundle(noBundle), noBundle), { code: 'INVALID' });
  await assert.rejects(copies.has('sha256:../../etc/passwd'), { code: 'INVALID' });
  await copies.put(digest, bytes);
  assert.equal(Buffer.from((await copies.read(digest))?.contentOf('') ?? '').toString(), 'hi');

  await writeFile(join(dir, digest.slice(7)), 'torn');
  assert.equal(await copies.read(digest), undefined);
  await copies.put(digest, bytes);
  assert.notEqual(await copies.read(digest), undefined);

  now += HOUR_MS / 2;
  assert.equal(await copies.has(digest), true, 'asked for: about to be named');
  now += HOUR_MS - 1_000;
  assert.deepEqual(await copies.unused(new Set()), []);
  now += 2_000;
  assert.deepEqual(await copies.unused(new Set([digest])), []);
  assert.deepEqual(await copies.unused(new Set()), [{ digest, sizeBytes: bytes.length }]);
  await copies.remove(digest);
  assert.deepEqual(await readdir(dir), []);
});
