import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { MANY_FILES_BYTES_MAX, MANY_FILES_CONTENT_MAX, MANY_FILES_MAX } from '../api/wire.ts';
import { FILE_OPERATIONS_PER_SANDBOX } from './limits.ts';
import { type Harness, sandboxDocument, startHarness } from './testing/harness.ts';

const BOX = { namespace: 'default', name: 'box' };
let harness: Harness;

before(async () => {
  harness = await startHarness();
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('box'));
});
after(() => harness[Symbol.asyncDispose]());

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const files = () => harness.client.files;
const put = (path: string, text: string, options = {}) =>
  files().write(BOX, path, Readable.from([Buffer.from(text)]), options);
const get = async (path: string, options = {}) =>
  (await buffer(await files().read(BOX, path, options))).toString();

test('what is written is read back, whole or in part, with its mode and owner', async () => {
  await put('/a b?&', 'hello world', { mode: 0o600, user: 'app' });
  assert.equal(await get('/a b?&'), 'hello world');
  assert.equal(await get('/a b?&', { offset: 6, length: 3 }), 'wor');
  assert.equal(await get('/a b?&', { offset: 600 }), '');
  const { mode, sizeBytes, kind } = await files().stat(BOX, '/a b?&');
  assert.deepEqual({ mode, sizeBytes, kind }, { mode: 0o600, sizeBytes: 11, kind: 'file' });
  assert.equal(harness.sandboxes.agent.files.users.at(-1), 'app');
});

test('an empty file is a file', async () => {
  await put('/empty', '');
  assert.equal(await get('/empty'), '');
  assert.equal((await files().stat(BOX, '/empty')).sizeBytes, 0);
});

test('directories are made, listed, renamed, copied and removed', async () => {
  await files().change(BOX, 'mkdir', { path: '/dir', mode: 0o700 });
  await put('/dir/one', '1');
  await files().change(BOX, 'copy', { path: '/dir/one', to: '/dir/two' });
  await files().change(BOX, 'rename', { path: '/dir/two', to: '/dir/three' });
  const names = async () => (await collect(files().list(BOX, '/dir'))).map(({ name }) => name).toSorted();
  assert.deepEqual(await names(), ['one', 'three']);
  await files().change(BOX, 'remove', { path: '/dir/one' });
  assert.deepEqual(await names(), ['three']);
  await files().change(BOX, 'remove', { path: '/dir', what: 'tree' });
  await assert.rejects(files().stat(BOX, '/dir/three'), { code: 'NOT_FOUND' });
});

test('what is not there is NOT_FOUND for every verb, and so is a sandbox', async () => {
  await assert.rejects(files().read(BOX, '/nothing'), { code: 'NOT_FOUND' });
  await assert.rejects(collect(files().list(BOX, '/nothing')), { code: 'NOT_FOUND' });
  await assert.rejects(files().change(BOX, 'rename', { path: '/nothing', to: '/x' }), { code: 'NOT_FOUND' });
  await assert.rejects(files().stat({ ...BOX, name: 'nobody' }, '/'), { code: 'NOT_FOUND' });
});

test('a request without its parts is refused', async () => {
  await assert.rejects(files().read(BOX, ''), { code: 'BAD_REQUEST', message: /path is missing/ });
  await assert.rejects(files().change(BOX, 'copy', { path: '/a', to: '' }), { message: /to is missing/ });
  const bad = { path: '/a', what: 'all' } as never;
  await assert.rejects(files().change(BOX, 'remove', bad), { message: /what must be one of/ });
  await assert.rejects(files().change(BOX, 'mkdir', { path: '/a', mode: 99999 }), {
    message: /mode must be/,
  });
});

test('content that breaks off is an error at the reader, never a short file', async () => {
  await put('/breaks', 'half of it');
  harness.sandboxes.agent.files.broken.add('/breaks');
  await assert.rejects(get('/breaks'));
});

test('a list that breaks off is an error at the reader, with its reason', async () => {
  await files().change(BOX, 'mkdir', { path: '/half' });
  await put('/half/one', '1');
  harness.sandboxes.agent.files.broken.add('/half');
  await assert.rejects(collect(files().list(BOX, '/half')), { code: 'FILE_FAILED' });
});

test('many operations take turns at the guest, and all come through', async () => {
  const fake = harness.sandboxes.agent.files;
  const { promise, resolve } = Promise.withResolvers<void>();
  fake.gate = promise;
  fake.mostRunning = 0;
  const all = Array.from({ length: 100 }, (_, i) => put(`/many-${i}`, String(i)));
  while (fake.running < FILE_OPERATIONS_PER_SANDBOX) await new Promise(setImmediate);
  resolve();
  await Promise.all(all);
  fake.gate = undefined;
  assert.equal(fake.mostRunning, FILE_OPERATIONS_PER_SANDBOX);
  assert.equal(await get('/many-99'), '99');
  assert.equal(harness.sandboxes.inUse, 0);
});

test('a client that leaves in the middle gives its turn back', async () => {
  const leave = new AbortController();
  const endless = Readable.from(
    (async function* () {
      yield Buffer.from('first');
      leave.abort();
      await new Promise(() => {});
    })(),
  );
  await assert.rejects(files().write(BOX, '/cut', endless, {}, leave.signal));
  const all = Array.from({ length: 20 }, (_, i) => put(`/after-${i}`, 'x'));
  await Promise.all(all);
});

test('many files are made in one request, in order; what is wrong with one is said, and those before it stay', async () => {
  const fake = harness.sandboxes.agent.files;
  fake.together.length = 0;
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  await files().writeMany(BOX, {
    user: 'app',
    files: [
      { kind: 'directory', path: '/together' },
      { path: '/together/one', content: base64('1'), mode: 0o600 },
      { kind: 'symlink', path: '/together/link', target: 'one' },
      { path: '/together/empty', content: '' },
    ],
  });
  assert.deepEqual(fake.together, [4]);
  assert.deepEqual([await get('/together/one'), await get('/together/empty')], ['1', '']);
  assert.equal((await files().stat(BOX, '/together/one')).mode, 0o600);
  assert.equal((await files().stat(BOX, '/together/link')).target, 'one');
  assert.deepEqual(fake.users.slice(-2), ['app', 'app']);
  await assert.rejects(
    files().writeMany(BOX, {
      files: [
        { path: '/before', content: base64('kept') },
        { path: '/no/such', content: '' },
      ],
    }),
    { code: 'NOT_FOUND', message: /\/no\/such/ },
  );
  assert.equal(await get('/before'), 'kept');
  const wrong: [unknown, string, RegExp][] = [
    [undefined, 'BAD_REQUEST', /files must be a list/],
    [[{ path: '/a', content: 'no base64!' }], 'BAD_REQUEST', /files\[0\]\.content must be base64/],
    [[{ path: '/a', content: '', mode: -1 }], 'BAD_REQUEST', /mode must be/],
    [[{ kind: 'device', path: '/a' }], 'BAD_REQUEST', /files\[0\]\.kind/],
    [[{ content: '' }], 'BAD_REQUEST', /files\[0\]\.path is missing/],
    [
      Array.from({ length: MANY_FILES_MAX + 1 }, () => ({ path: '/a', content: '' })),
      'TOO_LARGE',
      /more than/,
    ],
    [[{ path: '/a', content: 'A'.repeat(2 * MANY_FILES_BYTES_MAX) }], 'TOO_LARGE', /bytes of content/],
  ];
  for (const [given, code, message] of wrong)
    await assert.rejects(files().writeMany(BOX, { files: given as never }), { code, message });
});

test('many files are read in one request; a large one comes without its content, a missing one fails the whole', async () => {
  await put('/read-1', 'one');
  await put('/read-2', 'x'.repeat(MANY_FILES_CONTENT_MAX + 1));
  const fake = harness.sandboxes.agent.files;
  fake.together.length = 0;
  const read = await collect(files().readMany(BOX, ['/read-1', '/read-2', '/read-1']));
  assert.deepEqual(
    read.map(({ file, content }) => [file.sizeBytes, content?.toString()]),
    [
      [3, 'one'],
      [MANY_FILES_CONTENT_MAX + 1, undefined],
      [3, 'one'],
    ],
  );
  assert.deepEqual(fake.together, [3]);
  assert.deepEqual(await collect(files().readMany(BOX, [])), []);
  await assert.rejects(collect(files().readMany(BOX, ['/read-1', '/nothing'])), { code: 'NOT_FOUND' });
  await assert.rejects(collect(files().readMany(BOX, ['/read-1', '/breaks'])), { code: 'FILE_FAILED' });
  await assert.rejects(collect(files().readMany(BOX, [5 as never])), { code: 'BAD_REQUEST' });
});
