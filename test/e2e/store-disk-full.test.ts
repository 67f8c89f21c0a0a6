import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const FIXTURE = join(import.meta.dirname, '..', 'fixtures', 'store-until-full.ts');

test('on a full disk the store refuses writes, loses none that it acknowledged, and goes on when there is room', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'bulkhead-full-'));
  try {
    // A file system of its own in a mount namespace of its own: both go with the process.
    const script = 'mount -t tmpfs -o size=6m none "$1" && exec "$2" "$3" "$1"';
    const { stdout } = await promisify(execFile)('unshare', [
      '--mount',
      'sh',
      '-c',
      script,
      'sh',
      directory,
      process.execPath,
      FIXTURE,
    ]);
    const { acknowledged, ...rest } = JSON.parse(stdout);
    assert.ok(acknowledged > 10, `${acknowledged} writes fitted`);
    assert.deepEqual(rest, {
      refusal: 'STORE_FULL',
      readable: acknowledged,
      afterRoom: 'ok',
      reopened: acknowledged + 1,
    });
  } finally {
    await rm(directory, { recursive: true });
  }
});
