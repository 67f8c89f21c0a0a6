import assert from 'node:assert/strict';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CopyEntry, decodeBundle, encodeBundle } from '../../api/copies/bundle.ts';
import { BulkheadError } from '../../api/errors.ts';
import type { DefaultedSandboxSpec } from '../../api/sandbox.ts';
import { World } from '../testing/world.ts';
import { RESTARTED_AT_ANNOTATION } from './limits.ts';
import { hasRoot } from './root-disk.ts';

type Patches = NonNullable<DefaultedSandboxSpec['patches']>;

const DIGEST = `sha256:${'0'.repeat(64)}`;
const TREE: CopyEntry[] = [
  { path: '', kind: 'directory', mode: 0o755 },
  { path: 'bin', kind: 'directory', mode: 0o750 },
  { path: 'bin/run', kind: 'file', mode: 0o755, size: 3 },
  { path: 'bin/again', kind: 'symlink', mode: 0o777, target: 'run' },
];
const bundleOf = (entries: CopyEntry[], ...contents: string[]) =>
  decodeBundle(encodeBundle(entries, contents.map(Buffer.from)));

/** Ends Failed, with this message. */
async function failureOf(world: World, name: string, patches: Patches): Promise<string> {
  await world.create(name, { restartPolicy: 'Never', patches });
  await world.untilPhase(name, 'Failed');
  return (await world.status(name)).lastTermination?.message ?? '';
}

test('patches are made in order, before the main process, and once for all runs', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', {
    main: {},
    patches: [
      { mkdir: { path: '/app', mode: '0700' } },
      { text: { path: '/app/config', content: 'one', mode: '0600' } },
      { append: { path: '/app/config', content: ' two' } },
      { symlink: { path: '/usr/bin/py', target: '/usr/bin/python3' } },
      { append: { path: '/etc/hosts', content: '192.0.2.7 build.example cache.example # ours\n' } },
      { remove: { path: '/etc/missing' } },
    ],
  });
  await world.untilPhase('app', 'Running');
  const dir = await world.dirOf('app');
  const root = world.host.guest(dir)?.root;
  assert.deepEqual(root?.get('/app'), { kind: 'directory', content: '', mode: 0o700 });
  assert.deepEqual(root?.get('/app/config'), { kind: 'file', content: 'one two', mode: 0o600 });
  assert.equal(root?.get('/usr/bin/py')?.content, '/usr/bin/python3');
  const hosts = [{ address: '192.0.2.7', names: ['build.example', 'cache.example'] }];
  assert.deepEqual(world.host.guest(dir)?.personality?.extraHosts, hosts);

  await world.patch('app', { metadata: { annotations: { [RESTARTED_AT_ANNOTATION]: 'now' } } });
  await world.until('a second start', () => world.host.starts.get(dir) === 2);
  await world.untilPhase('app', 'Running');
  assert.equal(world.host.guest(dir)?.root.size, 0);
  assert.deepEqual(world.host.guest(dir)?.personality?.extraHosts, hosts);
});

test('a patch that cannot be made ends the sandbox, and is named', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', {
    restartPolicy: 'Never',
    patches: [{ mkdir: { path: '/app' } }, { text: { path: '/app', content: 'x' } }],
  });
  await world.untilPhase('app', 'Failed');
  const { lastTermination } = await world.status('app');
  assert.equal(lastTermination?.reason, 'BootFailed');
  assert.match(
    lastTermination?.message ?? '',
    /spec\.patches\[1\] \(text \/app\): \/app: Is a directory, which no patch replaces/,
  );
});

test('lines for /etc/hosts that are none are named', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', {
    restartPolicy: 'Never',
    patches: [{ append: { path: '/etc/hosts', content: 'not-an-address name\n' } }],
  });
  await world.untilPhase('app', 'Failed');
  const { lastTermination } = await world.status('app');
  assert.match(
    lastTermination?.message ?? '',
    /spec\.patches\[0\] \(append \/etc\/hosts\): "not-an-address name"/,
  );
});

test('a folder is copied with modes and links, once for all runs', async () => {
  await using world = new World();
  world.copies.set(DIGEST, bundleOf(TREE, 'one'));
  await world.daemon();
  await world.create('app', {
    main: {},
    patches: [
      { copy: { from: 'scripts', path: '/opt/scripts', digest: DIGEST } },
      { text: { path: '/opt/scripts/bin/run', content: 'mended' } },
    ],
  });
  await world.untilPhase('app', 'Running');
  const root = world.host.guest(await world.dirOf('app'))?.root;
  assert.deepEqual(root?.get('/opt'), { kind: 'directory', content: '', mode: 0o755 });
  assert.deepEqual(root?.get('/opt/scripts/bin'), { kind: 'directory', content: '', mode: 0o750 });
  assert.equal(root?.get('/opt/scripts/bin/again')?.content, 'run');
  assert.equal(root?.get('/opt/scripts/bin/run')?.content, 'mended', 'an earlier patch is no image');
});

test('content that is not here is told, and which patch wants it', async () => {
  await using world = new World();
  await world.daemon();
  const message = await failureOf(world, 'app', [{ copy: { from: 'x', path: '/x', digest: DIGEST } }]);
  assert.match(
    message,
    /spec\.patches\[0\] \(copy \/x\): its content \(sha256:0+\) is no longer on this host/,
  );
});

test('what the image has is not replaced unless the patch says so', async () => {
  await using world = new World();
  world.copies.set(DIGEST, bundleOf(TREE, 'one'));
  world.host.image = new Map([
    ['/etc/motd', { kind: 'file', content: 'welcome', mode: 0o644 }],
    ['/opt', { kind: 'directory', content: '', mode: 0o755 }],
    ['/opt/bin', { kind: 'directory', content: '', mode: 0o755 }],
    ['/opt/bin/run', { kind: 'file', content: 'old', mode: 0o644 }],
  ]);
  // So that each guest is seen before it ends.
  world.faults.delay('personalize', 1_000);
  await world.daemon();
  const refused: [string, Patches[number]][] = [
    ['text', { text: { path: '/etc/motd', content: 'x' } }],
    ['symlink', { symlink: { path: '/etc/motd', target: '/x' } }],
    ['copy', { copy: { from: 'x', path: '/opt', digest: DIGEST } }],
  ];
  for (const [kind, patch] of refused) {
    const ending = failureOf(world, kind, [{ mkdir: { path: '/app' } }, patch]);
    await world.until('a guest', async () => world.host.guest(await world.dirOf(kind)) !== undefined);
    const root = world.host.guest(await world.dirOf(kind))?.root;
    const message = await ending;
    assert.match(message, new RegExp(`spec\\.patches\\[1\\] \\(${kind} .*replace: true`), kind);
    assert.equal(root?.get('/opt/bin/run')?.content, 'old');
    assert.equal(root?.has('/opt/bin/again'), false, 'nothing of it is made');
  }
  assert.match(
    await failureOf(world, 'below', [
      { copy: { from: 'x', path: '/etc/motd', digest: DIGEST, replace: true } },
    ]),
    /\/etc\/motd is a file, and a directory is to be copied there/,
  );
  await world.create('told', {
    patches: [
      { text: { path: '/etc/motd', content: 'x', replace: true } },
      { copy: { from: 'x', path: '/opt', digest: DIGEST, replace: true } },
    ],
  });
  await world.untilPhase('told', 'Running');
  const root = world.host.guest(await world.dirOf('told'))?.root;
  assert.equal(root?.get('/etc/motd')?.content, 'x');
  assert.equal(root?.get('/opt/bin/run')?.content, 'one');
});

test('mkdir gives its mode to the last folder alone', async () => {
  await using world = new World();
  await world.daemon();
  await world.create('app', { patches: [{ mkdir: { path: '/srv/app', mode: '0700' } }] });
  await world.untilPhase('app', 'Running');
  const root = world.host.guest(await world.dirOf('app'))?.root;
  assert.equal(root?.get('/srv')?.mode, 0o755);
  assert.equal(root?.get('/srv/app')?.mode, 0o700);
});

test('a start that is killed anywhere in its patches makes them all the same, and refuses nothing of its own', async () => {
  const patches: Patches = [
    { text: { path: '/a', content: '1' } },
    { append: { path: '/a', content: '2' } },
    { copy: { from: 'x', path: '/opt', digest: DIGEST } },
    { symlink: { path: '/l', target: '/a' } },
  ];
  for (let killAt = 1; ; killAt++) {
    await using world = new World();
    world.copies.set(DIGEST, bundleOf(TREE, 'one'));
    const first = await world.daemon(killAt);
    await world.create('app', { main: {}, restartPolicy: 'Always', patches });
    await world.settle();
    const { dead } = first.process;
    if (dead) await world.daemon();
    await world.untilPhase('app', 'Running');
    const root = world.host.guest(await world.dirOf('app'))?.root;
    assert.equal(root?.get('/a')?.content, '12', `killed at call ${killAt}`);
    assert.equal(root?.get('/opt/bin/run')?.content, 'one', `killed at call ${killAt}`);
    assert.equal(root?.get('/l')?.content, '/a', `killed at call ${killAt}`);
    if (!dead) break;
  }
});

for (const state of ['damaged', 'missing'] as const)
  test(`a ${state} record of a run whose patches are half made costs the root that nothing has used, and no other`, async () => {
    await using world = new World();
    const first = await world.daemon();
    const spec = {
      main: {},
      restartPolicy: 'Always',
      patches: [{ text: { path: '/a', content: '1' } }],
    } as const;
    await world.create('whole', { ...spec, patches: [...spec.patches] });
    await world.untilPhase('whole', 'Running');
    world.faults.failAlways('files.sync', new BulkheadError('AGENT_UNREACHABLE', 'the guest is silent'));
    await world.create('half', { ...spec, patches: [...spec.patches] });
    await world.settle();
    first.process.kill();
    for (const name of ['half', 'whole']) {
      const dir = await world.dirOf(name);
      writeFileSync(join(dir, 'upper.ext4'), '');
      assert.equal(existsSync(join(dir, 'patched')), name === 'whole', name);
      if (state === 'damaged') writeFileSync(join(dir, 'run.json'), '{"half": ');
      else rmSync(join(dir, 'run.json'));
    }
    world.faults.mend('files.sync');
    await world.daemon();
    assert.equal(await hasRoot(await world.dirOf('half')), false);
    assert.equal(await hasRoot(await world.dirOf('whole')), true);
    await world.untilPhase('half', 'Running');
    assert.equal(world.host.guest(await world.dirOf('half'))?.root.get('/a')?.content, '1');
    await world.untilPhase('whole', 'Running');
    assert.equal(
      world.host.guest(await world.dirOf('whole'))?.root.size,
      0,
      'its patches are not made again',
    );
  });
