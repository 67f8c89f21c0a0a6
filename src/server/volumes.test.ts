import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import { FakeVolumeAccess } from './testing/fake-volumes.ts';
import { startHarness } from './testing/harness.ts';

test('disks are listed, and what is done with one reaches it with its names and paths', async () => {
  const volumes = new FakeVolumeAccess();
  await using h = await startHarness({ dependencies: { volumes } });
  assert.deepEqual(
    (await h.client.volumes.list()).map(({ name, state }) => [name, state]),
    [['data', 'Available']],
  );
  await h.client.volumes.export('team a', 'data', '/srv/backup.img');
  await h.client.volumes.import('default', 'data', { path: '/srv/backup.img', overwrite: true });
  const made = await h.client.volumes.clone('default', 'data', { name: 'twin', accessMode: 'ReadOnlyMany' });
  assert.equal(made.metadata.name, 'twin');
  assert.deepEqual(volumes.asked, [
    ['export', 'team a', 'data', '/srv/backup.img'],
    ['import', 'default', 'data', '/srv/backup.img', true],
    ['clone', 'default', 'data', { name: 'twin', accessMode: 'ReadOnlyMany' }],
  ]);
});

test('requests that make no sense are refused before anything is done', async () => {
  const volumes = new FakeVolumeAccess();
  await using h = await startHarness({ dependencies: { volumes } });
  const refused = (error: unknown) => error instanceof BulkheadError && error.code === 'BAD_REQUEST';
  await assert.rejects(h.client.volumes.export('default', 'data', 'relative.img'), refused);
  await assert.rejects(h.client.volumes.export('default', 'data', '/a\0b'), refused);
  await assert.rejects(h.client.volumes.import('default', 'data', { path: '' }), refused);
  await assert.rejects(h.client.volumes.clone('default', 'data', { name: '' }), refused);
  await assert.rejects(
    h.client.volumes.clone('default', 'data', { name: 'x', accessMode: 'Any' as 'ReadOnlyMany' }),
    refused,
  );
  assert.deepEqual(volumes.asked, []);
});

test('a volume in use answers with its own reason', async () => {
  await using h = await startHarness();
  await assert.rejects(
    h.client.volumes.export('default', 'busy', '/srv/x.img'),
    (error: unknown) => error instanceof BulkheadError && error.code === 'VOLUME_IN_USE',
  );
});
