// The life of a sandbox, from the outside: what is asked for, what runs, what the status says.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { IMAGE, World } from '../testing/world.ts';

test('a sandbox without a main process boots, is Ready, and idles', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('idle');
  await world.untilPhase('idle', 'Running');
  assert.equal(await world.condition('idle', 'Ready'), 'True/Ready');
  assert.equal(await world.condition('idle', 'Reconciling'), undefined);
  assert.equal(world.host.running.length, 1);
  const status = await world.status('idle');
  assert.equal(status.image?.reference, IMAGE);
  assert.equal(status.vm?.driver, 'software');
  assert.equal(status.observedGeneration, 1);
});

test('a quick launch costs two status writes', async () => {
  await using world = new World();
  world.images.add(IMAGE);
  await world.daemon();
  await world.create('quick', { main: {} });
  await world.untilPhase('quick', 'Running');
  await world.advance(60_000);
  assert.equal(world.statusWrites.get('quick')?.length, 2);
});

test('deletion stops the VM gracefully and leaves nothing behind', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('gone');
  await world.untilPhase('gone', 'Running');
  await world.delete('gone');
  await world.untilGone('gone');
  assert.deepEqual(world.host.running, []);
  assert.deepEqual(world.directories, []);
  assert.equal(world.images.leases.size, 0);
  assert.equal(world.host.residue.size, 0);
});
