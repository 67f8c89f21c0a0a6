// What a lost store, a killed daemon or a careless hand left on the host: told by a dry run, removed, and nothing else.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { GarbageItem } from '../../src/api/wire.ts';
import { HostUsers } from '../../src/vmm/host-users.ts';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';

const ORPHAN = '00000000-0000-4000-8000-000000000001';
const LOST = '00000000-0000-4000-8000-000000000002';

test('what has no owner is found, told and removed; what runs and what is kept stays', async () => {
  await using daemon = await TestDaemon.start();
  const state = daemon.stateDir;
  assert.equal((await daemon.cliWithInput(sandboxYaml('box'), 'apply', '-f', '-')).code, 0);
  await daemon.waitReady('box');
  assert.match(await daemon.ok('gc'), /Everything on this host has an owner/);

  const { digest } = (
    JSON.parse(await daemon.ok('image', 'ls', '-o', 'json')) as { digest: string }[]
  )[0] ?? {
    digest: '',
  };
  const copy = join(state, 'copies', 'a'.repeat(64));
  const users = new HostUsers(join(state, 'vmm', 'host-users'));
  const paths = {
    orphan: join(state, 'sandboxes', ORPHAN),
    lease: join(state, 'images', 'leases', LOST),
    copy,
  };
  const { metadata } = await daemon.get('box');
  // One in each hierarchy, as VMs of this daemon have them.
  const groups = ['.', ...readdirSync('/sys/fs/cgroup')]
    .map((name) => join('/sys/fs/cgroup', name, 'bulkhead'))
    .filter((folder) => existsSync(join(folder, metadata.uid)))
    .map((folder) => join(folder, LOST));
  const leave = async (): Promise<void> => {
    await mkdir(paths.orphan, { recursive: true });
    await writeFile(join(paths.orphan, 'upper.ext4'), 'x');
    await users.claim(LOST, `/nowhere/${LOST}`);
    await writeFile(copy, 'x');
    await utimes(copy, 1, 1);
    for (const path of groups) await mkdir(path, { recursive: true });
  };
  const held = async (): Promise<string[]> => {
    const there = Object.entries(paths).flatMap(([what, path]) => (existsSync(path) ? [what] : []));
    return (await users.held()).some(({ id }) => id === LOST) ? [...there, 'user'] : there;
  };

  await leave();
  const listed = JSON.parse(await daemon.ok('gc', '--dry-run', '-o', 'json')) as GarbageItem[];
  assert.deepEqual(listed.map(({ kind }) => kind).sort(), ['CopyContent', 'SandboxDirectory', 'Vm']);
  assert.match(
    await daemon.ok('gc', '--dry-run'),
    /SandboxDirectory +00000000-\S+1 .*There is no Sandbox of this uid/,
  );
  assert.deepEqual(await held(), ['orphan', 'copy', 'user'], 'a dry run removes nothing');
  assert.match(await daemon.ok('gc'), /Vm +\S+2 +removed/);
  assert.deepEqual(await held(), []);
  assert.deepEqual(
    groups.filter((path) => existsSync(path)),
    [],
  );

  await daemon.crash();
  await leave();
  // The cache reads leases when it opens.
  await writeFile(paths.lease, digest);
  await daemon.launch();
  assert.match(await daemon.ok('gc'), /Everything on this host has an owner|removed/);
  assert.deepEqual(await held(), [], 'a start collects by itself');
  await daemon.waitReady('box');
  assert.equal(await daemon.ok('exec', 'box', '--', '/bin/echo', 'alive'), 'alive\n');
  assert.equal(readdirSync(join(state, 'vmm', 'host-users')).length, 1);
});
