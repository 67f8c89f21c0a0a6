// Clones by way of the API: a disk and an object, and no disk where there is no object.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { Store } from '../store/store.ts';
import { openVolumes } from '../volumes/open-volumes.ts';
import { volumeAccess } from './volume-access.ts';

const CAPACITY = 64 * 1024 ** 2;

test('a clone whose object cannot be made leaves no disk for whoever takes the name next', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-clones-'));
  const volumes = await openVolumes({
    dir,
    sparseCopy: async (source, target) => {
      execFileSync('cp', ['--sparse=always', source, target]);
    },
  });
  try {
    const uid = crypto.randomUUID();
    const metadata = { uid, namespace: 'default', name: 'data' };
    await volumes.create(metadata, CAPACITY, 'ReadWriteOnce');
    const source = {
      ...{ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Volume', metadata },
      spec: { capacity: '64Mi', accessMode: 'ReadWriteOnce', reclaimPolicy: 'Retain' },
    } as StoredObject;
    // Somebody else makes an object of the name while the disk is copied.
    const store = {
      get: async ({ name }: { name: string }) => (name === 'data' ? source : undefined),
      create: async () => {
        throw new BulkheadError('ALREADY_EXISTS', 'volumes "copy" already exists');
      },
    } as unknown as Store;
    const access = volumeAccess(store, volumes, { admit: (document) => document });
    await assert.rejects(access.clone('default', 'data', { name: 'copy' }), { code: 'ALREADY_EXISTS' });
    assert.equal(volumes.findRetained('default', 'copy'), undefined);
    assert.deepEqual(
      (await volumes.list()).map(({ name }) => name),
      ['data'],
    );
  } finally {
    await volumes.close();
    rmSync(dir, { recursive: true });
  }
});
