import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World } from '../testing/world.ts';
import { guestVolumes, wantedShares } from './volumes/spec.ts';

const HOST = {
  volumes: [{ name: 'src', hostPath: { path: '/srv/src', type: 'Directory' as const } }],
  volumeMounts: [{ name: 'src', mountPath: '/src', readOnly: true }],
};

test('a directory of the host that is not allowed stalls the sandbox with the entry, the path and what to do', async () => {
  await using world = new World();
  await world.daemon();
  world.hostPaths.refused.set('/srv/src', 'HOST_PATH_NOT_ALLOWED');
  await world.create('app', HOST);
  await world.settle();
  assert.equal(await world.condition('app', 'Stalled'), 'True/HostPathNotAllowed');
  assert.equal(await world.condition('app', 'VolumesReady'), 'False/HostPathNotAllowed');
  const { conditions } = await world.status('app');
  assert.match(
    conditions?.find(({ type }) => type === 'VolumesReady')?.message ?? '',
    /Volume src: hostPath \/srv\/src: .*/,
  );
  assert.equal(world.host.running.length, 0);
});

test('one that is not there yet is looked for again', async () => {
  await using world = new World();
  await world.daemon();
  world.hostPaths.refused.set('/srv/src', 'HOST_PATH_NOT_FOUND');
  await world.create('app', HOST);
  await world.until('it says what is missing', async () => {
    return (await world.condition('app', 'VolumesReady')) === 'False/HostPathNotFound';
  });
  assert.equal(await world.condition('app', 'Stalled'), undefined);
  world.hostPaths.refused.clear();
  await world.untilPhase('app', 'Running');
  assert.equal(await world.condition('app', 'VolumesReady'), 'True/VolumesMounted');
});

test('volumes that change while the sandbox runs say which restart they need, and have it', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('app');
  await world.untilPhase('app', 'Running');
  await world.patch('app', { spec: HOST });
  await world.settle();
  assert.equal(await world.condition('app', 'RestartRequired'), 'True/RestartRequired');
  const { conditions } = await world.status('app');
  assert.match(
    conditions?.find(({ type }) => type === 'RestartRequired')?.message ?? '',
    /keeps its volumes and volumeMounts: .*bulkhead restart app/,
  );
  // A daemon that comes meanwhile takes the guest up as it is.
  first.process.kill();
  await world.daemon();
  await world.settle();
  assert.equal(await world.condition('app', 'RestartRequired'), 'True/RestartRequired');
  await world.patch('app', { spec: { operatingMode: 'Suspended' } });
  await world.untilPhase('app', 'Suspended');
  await world.patch('app', { spec: { operatingMode: 'Running' } });
  await world.untilPhase('app', 'Running');
  assert.equal(await world.condition('app', 'RestartRequired'), undefined);
});

test('a directory of the host is only read where every mount says so, and is found by its place', () => {
  const volumes = [
    { name: 'a', hostPath: { path: '/srv/a', type: 'Directory' as const } },
    { name: 'b', hostPath: { path: '/srv/b', type: 'File' as const } },
  ];
  const volumeMounts = [
    { name: 'a', mountPath: '/a', readOnly: true },
    { name: 'a', mountPath: '/w', subPath: 'x', readOnly: false },
    { name: 'b', mountPath: '/b', readOnly: true },
  ];
  const spec = { volumes, volumeMounts } as unknown as Parameters<typeof wantedShares>[0];
  const wanted = wantedShares(spec);
  assert.deepEqual(
    wanted.map(({ path, type, readOnly }) => ({ path, type, readOnly })),
    [
      { path: '/srv/a', type: 'Directory', readOnly: false },
      { path: '/srv/b', type: 'File', readOnly: true },
    ],
  );
  assert.deepEqual(guestVolumes(spec, [], wanted).volumes, [
    { name: 'v-a', source: { kind: 'share', entry: 0, readOnly: false } },
    { name: 'v-b', source: { kind: 'share', entry: 1, readOnly: true } },
  ]);
  // What came into the spec after the start is not in the VM.
  assert.deepEqual(guestVolumes(spec, [], wanted.slice(0, 1)).mounts.length, 2);
});
