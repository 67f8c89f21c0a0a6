import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { formatManifestError } from './manifest-error.ts';
import { readManifestFile, readManifestStream } from './read-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'bulkhead-manifest-'));
after(() => rmSync(folder, { recursive: true }));

const GOOD = 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a}\nspec: {image: x}\n';

async function messages(path: string, options?: { maxBytes: number }): Promise<string[]> {
  const { objects, errors } = await readManifestFile(path, options);
  assert.deepEqual(objects, []);
  return errors.map(formatManifestError);
}

test('a file is read', async () => {
  const path = join(folder, 'good.yaml');
  writeFileSync(path, GOOD);
  const { objects, errors } = await readManifestFile(path);
  assert.deepEqual(errors, []);
  assert.equal(objects[0]?.manifest.metadata.name, 'a');
  assert.equal(objects[0]?.source, path);
});

test('a file of 100 MB is refused by its size, without reading it', async () => {
  const path = join(folder, 'huge.yaml');
  writeFileSync(path, GOOD);
  truncateSync(path, 100_000_000);
  const before = readBytes();
  assert.deepEqual(await messages(path), [
    `${path}: found 100000000 bytes, expected at most 4194304; split the file`,
  ]);
  assert.ok(readBytes() - before < 1_000_000, 'the file was read');
});

/** Bytes that this process has read so far, as the kernel counts them. */
function readBytes(): number {
  const io = execFileSync('cat', [`/proc/${process.pid}/io`], { encoding: 'utf8' });
  return Number(/^rchar: (\d+)$/m.exec(io)?.[1]);
}

test('the limit is the caller’s to set', async () => {
  const path = join(folder, 'small-limit.yaml');
  writeFileSync(path, GOOD);
  assert.deepEqual(await messages(path, { maxBytes: 10 }), [
    `${path}: found ${GOOD.length} bytes, expected at most 10; split the file`,
  ]);
});

test('a file whose size is not known beforehand is read to the limit only', async () => {
  // Files of /proc say 0 and hold more.
  const { errors } = await readManifestFile('/proc/self/maps', { maxBytes: 100 });
  assert.deepEqual(errors.map(formatManifestError), [
    '/proc/self/maps: found more than 100 bytes, expected at most 100; split the file',
  ]);
});

test('a file that is not there is an error, not a throw', async () => {
  const [error] = await messages(join(folder, 'missing.yaml'));
  assert.match(error ?? '', /missing\.yaml: cannot be read: ENOENT/);
});

test('a folder is no file', async () => {
  assert.deepEqual(await messages(folder), [
    `${folder}: found no regular file, expected a YAML or JSON file`,
  ]);
});

test('a named pipe without a writer does not hang the reader', async () => {
  const path = join(folder, 'pipe.yaml');
  execFileSync('mkfifo', [path]);
  assert.deepEqual(await messages(path), [`${path}: found no regular file, expected a YAML or JSON file`]);
});

test('an endless stream is left at the limit', async () => {
  let produced = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) {
      produced += 1000;
      yield Buffer.alloc(1000, 0x23);
    }
  }
  const { errors } = await readManifestStream(endless(), '-', { maxBytes: 10_000 });
  assert.deepEqual(errors.map(formatManifestError), [
    '-: found more than 10000 bytes, expected at most 10000; split the file',
  ]);
  assert.equal(produced, 11_000);
});

test('a stream in pieces that cut characters is read as one', async () => {
  const bytes = Buffer.from(`# ☃\n${GOOD}`);
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (const byte of bytes) yield Uint8Array.of(byte);
  }
  const { objects, errors } = await readManifestStream(pieces(), '-');
  assert.deepEqual(errors, []);
  assert.equal(objects.length, 1);
});
