// VMs outlive the daemon: the next one takes them up as if nothing had been.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';

import { resumableSessionId } from '../../api/exec-sessions.ts';

import { World } from '../testing/world.ts';

test('a new daemon takes up a running sandbox without a word in its status', async () => {
  await using world = new World();
  const first = await world.daemon();
  const object = await world.create('app', { main: {} });
  await world.untilPhase('app', 'Running');
  const before = await world.status('app');
  const writes = world.statusWrites.get('app')?.length;
  first.process.kill();
  await world.advance(3_600_000);
  const second = await world.daemon();
  await world.advance(60_000);
  assert.deepEqual(await world.status('app'), before);
  assert.equal(world.statusWrites.get('app')?.length, writes);
  const live = second.reconciler.live.get(object.metadata.uid);
  assert.equal(live?.agent?.connected, true);
  assert.deepEqual(live?.execDefaults?.env, ['PATH=/bin']);
  assert.equal(world.host.starts.get(await world.dirOf('app')), 1);
});

test('a guest that was frozen by a daemon that is dead is thawed by the next one, before anything is asked of it', async () => {
  await using world = new World();
  const first = await world.daemon();
  const { metadata } = await world.create('app', { main: {} });
  await world.untilPhase('app', 'Running');
  await first.reconciler.live.get(metadata.uid)?.agent?.freezeRoot(60_000);
  first.process.kill();
  const guest = world.host.guest(await world.dirOf('app'));
  assert.equal(guest?.frozen, true);
  const second = await world.daemon();
  await second.reconciler.live.takenUp(metadata.uid, 10_000);
  assert.equal(guest?.frozen, false);
  // While this daemon copies it, it stays as it is.
  const runtime = second.reconciler.live.runtime(metadata.uid);
  assert.ok(runtime?.agent !== undefined);
  runtime.frozen = true;
  await runtime.agent.freezeRoot(60_000);
  guest?.setConnected(false);
  await world.advance(120_000);
  guest?.setConnected(true);
  await world.settle();
  assert.equal(guest?.frozen, true);
});

test('what is asked of a sandbox waits until the new daemon has taken it up, and not for ever', async () => {
  await using world = new World();
  const first = await world.daemon();
  const { metadata } = await world.create('app', { main: {} });
  await world.untilPhase('app', 'Running');
  first.process.kill();
  world.faults.delay('attach', 5_000);
  const second = await world.daemon();
  const answers: string[] = [];
  const ask = async (ms: number) => {
    await second.reconciler.live.takenUp(metadata.uid, ms);
    answers.push(second.reconciler.live.get(metadata.uid)?.main === undefined ? 'too early' : 'there');
  };
  const asked = [ask(1_000), ask(30_000)];
  await world.advance(2_000);
  assert.deepEqual(answers, ['too early']);
  await world.advance(10_000);
  await Promise.all(asked);
  assert.deepEqual(answers, ['too early', 'there']);
});

test('a new daemon that is woken while it writes files to the guest takes it up all the same', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.store.create({
    ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'config', namespace: 'default' } },
    ...{ data: { a: 'one' }, spec: undefined },
  });
  const object = await world.create('app', {
    main: {},
    volumes: [{ name: 'config', configMap: { name: 'config', defaultMode: '0644', optional: false } }],
    volumeMounts: [{ name: 'config', mountPath: '/etc/app', readOnly: false }],
  });
  await world.untilPhase('app', 'Running');
  first.process.kill();
  await world.store.patch(
    { kind: 'ConfigMap', namespace: 'default', name: 'config' },
    { data: { a: 'two' } },
  );
  world.faults.delay('writeVolumeFiles', 1_000);
  const second = await world.daemon();
  for (let times = 0; times < 10; times += 1) {
    await world.advance(100);
    world.changed({ kind: 'Sandbox', namespace: 'default', name: 'app' });
  }
  await world.advance(10_000);
  assert.ok(second.reconciler.live.get(object.metadata.uid)?.execDefaults, 'its commands can be run');
  const guest = world.host.guest(await world.dirOf('app'));
  assert.deepEqual(
    [...(guest?.files.values() ?? [])].map((files) => files.get('a')),
    ['two'],
  );
});

test("the main process's output goes on where the log ends", async () => {
  await using world = new World();
  const first = await world.daemon();
  const object = await world.create('app', { main: {} });
  await world.untilPhase('app', 'Running');
  const main = world.host.guest(await world.dirOf('app'))?.main;
  main?.write('stdout', 'before ');
  await world.settle();
  first.process.kill();
  main?.write('stdout', 'meanwhile ');
  main?.write('stderr', 'error ');
  const second = await world.daemon();
  await world.settle();
  main?.write('stdout', 'after');
  main?.end({ exitCode: 7 });
  await world.untilPhase('app', 'Failed');
  let text = '';
  const { signal } = new AbortController();
  for await (const { data } of second.reconciler.logs.read(object.metadata.uid, { signal })) {
    text += Buffer.from(data).toString();
  }
  assert.equal(text, 'before meanwhile error after');
  assert.equal((await world.status('app')).lastTermination?.exitCode, 7);
});

test('a main process that ended while no daemon ran is judged by its own exit code', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('app', { main: {} });
  await world.untilPhase('app', 'Running');
  first.process.kill();
  world.host.guest(await world.dirOf('app'))?.main?.end({ exitCode: 5 });
  await world.daemon();
  await world.untilPhase('app', 'Failed');
  assert.equal((await world.status('app')).lastTermination?.exitCode, 5);
});

test('a VM that crashed while no daemon ran is judged by its record', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('app');
  await world.untilPhase('app', 'Running');
  first.process.kill();
  world.host.crash(await world.dirOf('app'));
  await world.daemon();
  await world.untilPhase('app', 'Failed');
  assert.match((await world.status('app')).lastTermination?.message ?? '', /Kernel panic/);
});

test('a daemon that closes leaves VMs and their work alone', async () => {
  await using world = new World();
  const first = await world.daemon();
  await world.create('app', { main: {} });
  await world.untilPhase('app', 'Running');
  await first.reconciler.close();
  first.process.kill();
  assert.equal(world.host.running.length, 1);
  await world.daemon();
  await world.advance(10_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
});

test('a hundred sandboxes under a storm of events: one VM each, no lost end', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const names = Array.from({ length: 100 }, (_, index) => `s${index}`);
  for (const name of names) await world.create(name, { main: {} });
  for (let round = 0; round < 20; round += 1) {
    for (const name of names) world.changed({ kind: 'Sandbox', namespace: 'default', name });
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const name of names) await world.untilPhase(name, 'Running');
  assert.equal(world.host.running.length, 100);
  assert.ok([...world.host.starts.values()].every((starts) => starts === 1));
  assert.ok(names.every((name) => (world.statusWrites.get(name)?.length ?? 0) <= 4));
  for (const name of names) await world.delete(name);
  for (const name of names) await world.untilGone(name);
  assert.deepEqual(world.directories, []);
  assert.deepEqual(daemon.reconciler.live.runtimes(), []);
});

test('figures of guests are sampled, and a guest that does not tell holds up nobody', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const first = await world.create('one');
  const second = await world.create('two');
  await world.untilPhase('one', 'Running');
  await world.untilPhase('two', 'Running');
  await world.advance(16_000);
  const sampled = (uid: string) => daemon.reconciler.live.get(uid)?.lastGuestStats?.at.getTime() ?? 0;
  assert.ok(sampled(first.metadata.uid) > 0 && sampled(second.metadata.uid) > 0);
  world.faults.delay('stats', 3_600_000);
  await world.advance(60_000);
  world.faults.delay('stats', 0);
  const before = sampled(first.metadata.uid);
  await world.advance(60_000);
  assert.ok(sampled(first.metadata.uid) > before);
});

test('what an earlier daemon began in a guest is ended: at once, or when its client had time to come back', async () => {
  await using world = new World();
  const first = await world.daemon();
  const object = await world.create('app', { main: {} });
  await world.untilPhase('app', 'Running');
  const { agent } = first.reconciler.live.get(object.metadata.uid) ?? {};
  const waits = resumableSessionId(randomUUID(), 15);
  for (const sessionId of ['exec-plain', waits])
    await agent?.exec({ sessionId, argv: ['x'], env: [], stdin: false, overflow: 'block' });
  first.process.kill();
  const second = await world.daemon();
  await world.advance(5_000);
  const dir = await world.dirOf('app');
  const sessions = () => [...(world.host.guest(dir)?.sessions.keys() ?? [])];
  assert.deepEqual(sessions(), ['main', waits]);
  await world.advance(15_000);
  assert.deepEqual(sessions(), ['main']);
  assert.equal(second.reconciler.live.get(object.metadata.uid)?.agent?.connected, true);
});
