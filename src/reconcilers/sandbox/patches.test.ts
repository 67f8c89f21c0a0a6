import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World } from '../testing/world.ts';
import { RESTARTED_AT_ANNOTATION } from './limits.ts';

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
  assert.match(lastTermination?.message ?? '', /spec\.patches\[1\] \(text \/app\): \/app: Is a directory/);
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
