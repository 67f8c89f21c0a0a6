import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { renameSync, symlinkSync } from 'node:fs';
import { lstat, mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { GuestFile } from '../guest/agent.ts';
import { type Harness, sandboxDocument, startHarness } from '../server/testing/harness.ts';
import { copyIn, copyOut } from './copy.ts';

const BOX = { namespace: 'default', name: 'box' };
const DEFAULTS = { mode: 0o755, uid: 0, gid: 0, modifiedMs: 0, sizeBytes: 4 };

let harness: Harness;
/** Of the host: what a copy goes to or comes from, and beside it what it has no business with. */
let dir: string;
let outside: string;

before(async () => {
  harness = await startHarness();
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('box'));
});
after(() => harness[Symbol.asyncDispose]());

let tests = 0;
beforeEach(async () => {
  dir = join(harness.dir, `copy-${tests++}`);
  outside = join(dir, 'outside');
  await mkdir(outside, { recursive: true });
  await writeFile(join(outside, 'secret'), 'secret');
});

const files = () => harness.client.files;
const guest = () => harness.sandboxes.agent.files;

/** A guest whose directory `/evil` lists these entries, and whose files all say `evil`. */
function evilGuest(entries: readonly Pick<GuestFile, 'name' | 'kind' | 'target'>[]): Disposable {
  const { list, stat, read, readMany } = guest();
  guest().entries.set('/content', { kind: 'file', data: Buffer.from('evil'), mode: 0o644 });
  guest().stat = async () => ({ ...DEFAULTS, name: 'evil', kind: 'directory' });
  guest().read = () => read.call(guest(), '/content');
  guest().readMany = (paths, options) =>
    readMany.call(
      guest(),
      paths.map(() => '/content'),
      options,
    );
  guest().list = async function* (path: string) {
    if (path === '/evil') for (const entry of entries) yield { ...DEFAULTS, ...entry };
  };
  return { [Symbol.dispose]: () => Object.assign(guest(), { list, stat, read, readMany }) };
}

async function assertUntouched(): Promise<void> {
  assert.deepEqual(await readdir(outside), ['secret']);
  assert.equal(await readFile(join(outside, 'secret'), 'utf8'), 'secret');
  assert.deepEqual(
    (await readdir(dir)).filter((name) => name.startsWith('.')),
    [],
    'nothing half is left',
  );
}

for (const name of ['..', '.', '../outside/secret', '/etc/passwd', '', 'a/b', 'a\0b'])
  test(`a guest that lists ${JSON.stringify(name)} writes nothing anywhere`, async () => {
    using _evil = evilGuest([
      { name: 'first', kind: 'file' },
      { name, kind: 'file' },
    ]);
    await assert.rejects(copyOut(files(), BOX, '/evil', join(dir, 'target')), { code: 'FILE_FAILED' });
    assert.deepEqual(await readdir(dir), ['outside']);
    await assertUntouched();
  });

for (const kind of ['file', 'directory'] as const)
  test(`a guest that lists a name as a link out and again as a ${kind} is not written through`, async () => {
    using _evil = evilGuest([
      { name: 'twice', kind: 'symlink', target: kind === 'file' ? join(outside, 'secret') : outside },
      { name: 'twice', kind },
    ]);
    await assert.rejects(copyOut(files(), BOX, '/evil', join(dir, 'target')), { code: 'EEXIST' });
    assert.deepEqual(await readdir(dir), ['outside']);
    await assertUntouched();
  });

test('names with newlines and control characters, links and devices come out as they are, or not at all', async () => {
  using _evil = evilGuest([
    { name: 'new\nline', kind: 'file' },
    { name: '\u001b[2J', kind: 'file' },
    { name: '-rf', kind: 'file' },
    { name: 'out', kind: 'symlink', target: '../outside' },
    { name: 'device', kind: 'other' },
  ]);
  const skipped: string[] = [];
  const target = await copyOut(files(), BOX, '/evil', join(dir, 'target'), {
    onSkipped: (path) => skipped.push(path),
  });
  assert.deepEqual((await readdir(target)).toSorted(), ['\u001b[2J', '-rf', 'new\nline', 'out']);
  assert.equal(await readlink(join(target, 'out')), '../outside');
  assert.deepEqual(skipped, ['/evil/device']);
  await assertUntouched();
});

test('a guest without end is given up', async () => {
  const { list, stat } = guest();
  guest().stat = async () => ({ ...DEFAULTS, name: 'evil', kind: 'directory' });
  guest().list = async function* () {
    yield { ...DEFAULTS, name: 'deeper', kind: 'directory' } as const;
  };
  try {
    await assert.rejects(copyOut(files(), BOX, '/evil', join(dir, 'target')), { code: 'TOO_LARGE' });
  } finally {
    Object.assign(guest(), { list, stat });
  }
  await assertUntouched();
});

test('a tree goes in with its links as links; pipes and sockets are left out and not waited for', async () => {
  const source = join(dir, 'source');
  await mkdir(join(source, 'sub'), { recursive: true });
  await writeFile(join(source, 'sub', 'tool'), '#!/bin/sh\n', { mode: 0o755 });
  await symlink('sub/tool', join(source, 'link'));
  await symlink(outside, join(source, 'out'));
  await writeFile(join(source, 'new\nline'), 'odd');
  execFileSync('mkfifo', [join(source, 'pipe')]);
  const skipped: string[] = [];
  await copyIn(files(), BOX, source, '/in', { onSkipped: (path) => skipped.push(path) });
  const of = (path: string) => {
    const entry = guest().entries.get(path);
    return entry === undefined ? undefined : [entry.kind, entry.data.toString()];
  };
  assert.deepEqual(of('/in/sub/tool'), ['file', '#!/bin/sh\n']);
  assert.deepEqual(of('/in/link'), ['symlink', 'sub/tool']);
  assert.deepEqual(of('/in/out'), ['symlink', outside]);
  assert.deepEqual(of('/in/new\nline'), ['file', 'odd']);
  assert.deepEqual(skipped, [join(source, 'pipe')]);
  assert.equal(
    [...guest().entries.values()].some(({ data }) => data.includes('secret')),
    false,
  );
});

test('a directory that becomes a link while it is copied leads nowhere else', async () => {
  const source = join(dir, 'source');
  await mkdir(join(source, 'sub'), { recursive: true });
  for (const name of ['secret', 'another']) {
    await writeFile(join(source, 'sub', name), 'harmless');
    await writeFile(join(outside, name), 'secret');
  }
  let swaps = 0;
  // With the first content: the copy has the directory open then, and the other file is yet to be read.
  const onProgress = () => {
    if (swaps++ > 0) return;
    renameSync(join(source, 'sub'), join(dir, 'moved'));
    symlinkSync(outside, join(source, 'sub'));
  };
  await copyIn(files(), BOX, source, '/swapped', { onProgress });
  assert.equal(swaps, 2);
  for (const name of ['secret', 'another'])
    assert.equal(guest().entries.get(`/swapped/sub/${name}`)?.data.toString(), 'harmless');
});

test('a tree of small files takes one request each way, a large file one of its own', async () => {
  const source = join(dir, 'tree');
  await mkdir(join(source, 'sub'), { recursive: true });
  for (let index = 0; index < 40; index++) await writeFile(join(source, 'sub', `${index}`), `file ${index}`);
  await writeFile(join(source, 'large'), Buffer.alloc(300 * 1024, 'x'), { mode: 0o750 });
  await symlink('sub/1', join(source, 'link'));
  const fake = guest();
  fake.together.length = 0;
  let bytes = 0;
  const onProgress = (count: number) => {
    bytes = count;
  };
  await copyIn(files(), BOX, source, '/tree', { onProgress });
  // Whatever stands before the large file, it, and the rest.
  assert.ok(fake.together.length <= 2, `${fake.together}`);
  assert.equal(
    fake.together.reduce((sum, each) => sum + each, 0),
    43,
    'two directories, forty files and a link',
  );
  const sent = bytes;
  fake.together.length = 0;
  await copyOut(files(), BOX, '/tree', join(dir, 'back'), { onProgress });
  assert.deepEqual(fake.together, [40]);
  assert.equal(bytes, sent);
  assert.equal(await readFile(join(dir, 'back', 'sub', '39'), 'utf8'), 'file 39');
  assert.equal((await lstat(join(dir, 'back', 'large'))).size, 300 * 1024);
  assert.equal(await readlink(join(dir, 'back', 'link')), 'sub/1');
});
