// kill -9 of the daemon at every moment of a sandbox's life, before and after each call to the outside: the next daemon
// converges, nothing is started twice, nothing is lost, nothing is left behind.
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { FakeGuest } from '../testing/fake-guest.ts';
import { World } from '../testing/world.ts';
import { RESTARTED_AT_ANNOTATION } from './limits.ts';

/** A world in which a killed daemon is followed by a new one. */
class SupervisedWorld extends World {
  override async until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
    await super.until(what, async () => {
      await this.supervise();
      return holds();
    });
  }

  async supervise(): Promise<void> {
    await this.settle();
    if (this.daemons.every(({ process }) => process.dead)) await this.daemon();
  }

  async logOf(name: string, previous: boolean): Promise<string> {
    const logs = this.daemons.at(-1)?.reconciler.logs;
    const { uid } = (await this.get(name))?.metadata ?? { uid: '' };
    let text = '';
    const { signal } = new AbortController();
    for await (const entry of logs?.read(uid, { previous, signal }) ?? []) {
      text += new TextDecoder().decode(entry.data);
      if (entry.lostBytes > 0) text += `[${entry.lostBytes} lost]`;
    }
    return text;
  }

  /** The guest of a boot, once its main process runs. */
  async guestOf(dir: string, boot: number): Promise<FakeGuest> {
    let found: FakeGuest | undefined;
    await this.until(`main of boot ${boot}`, () => {
      const guest = this.host.guest(dir);
      if (this.host.starts.get(dir) === boot && guest?.main !== undefined) found = guest;
      return found !== undefined;
    });
    assert.ok(found !== undefined);
    return found;
  }

  assertNothingLeft(): void {
    assert.deepEqual(this.host.running, []);
    assert.deepEqual(this.directories, []);
    assert.equal(this.images.leases.size, 0);
    assert.equal(this.host.residue.size, 0);
  }
}

interface Scenario {
  name: string;
  run(world: SupervisedWorld): Promise<void>;
}

const scenarios: Scenario[] = [
  {
    name: 'a job that fails once, succeeds, and is deleted',
    async run(world) {
      await world.create('job', { main: {}, restartPolicy: 'OnFailure' });
      const dir = await world.dirOf('job');
      const first = await world.guestOf(dir, 1);
      first.main?.write('stdout', 'one ');
      await world.supervise();
      first.main?.write('stderr', 'two ');
      first.main?.end({ exitCode: 1 });
      const second = await world.guestOf(dir, 2);
      second.main?.write('stdout', 'three');
      second.main?.end({ exitCode: 0 });
      await world.untilPhase('job', 'Succeeded');
      const status = await world.status('job');
      assert.equal(status.restarts, 1);
      assert.equal(status.lastTermination?.exitCode, 0);
      assert.equal(first.mainStarts + second.mainStarts, 2);
      assert.equal(world.host.starts.get(dir), 2);
      assert.equal(await world.logOf('job', true), 'one two ');
      assert.equal(await world.logOf('job', false), 'three');
      await world.delete('job');
      await world.untilGone('job');
    },
  },
  {
    name: 'a sandbox that is suspended, resumed, restarted, and deleted while it runs',
    async run(world) {
      await world.create('idle', { main: {}, terminationGracePeriodSeconds: 5 });
      const dir = await world.dirOf('idle');
      await world.guestOf(dir, 1);
      await world.untilPhase('idle', 'Running');
      await world.patch('idle', { spec: { operatingMode: 'Suspended' } });
      await world.untilPhase('idle', 'Suspended');
      assert.equal(world.host.starts.get(dir), 1);
      await world.patch('idle', { spec: { operatingMode: 'Running' } });
      await world.guestOf(dir, 2);
      await world.untilPhase('idle', 'Running');
      await world.patch('idle', { metadata: { annotations: { [RESTARTED_AT_ANNOTATION]: 'now' } } });
      const third = await world.guestOf(dir, 3);
      await world.untilPhase('idle', 'Running');
      await world.advance(30_000);
      await world.supervise();
      assert.equal(world.host.starts.get(dir), 3);
      assert.equal(third.mainStarts, 1);
      await world.delete('idle');
      await world.untilGone('idle');
    },
  },
  {
    name: 'a sandbox whose root file system is patched',
    async run(world) {
      await world.create('patched', {
        main: {},
        patches: [
          { text: { path: '/etc/a', content: 'a' } },
          { append: { path: '/etc/a', content: 'b' } },
          { append: { path: '/etc/a', content: 'c' } },
          { remove: { path: '/etc/b' } },
        ],
      });
      const dir = await world.dirOf('patched');
      const guest = await world.guestOf(dir, 1);
      await world.untilPhase('patched', 'Running');
      assert.equal(guest.root.get('/etc/a')?.content, 'abc');
      guest.root.set('/etc/a', { kind: 'file', content: 'changed by its work', mode: 0o644 });
      await world.supervise();
      assert.equal(guest.root.get('/etc/a')?.content, 'changed by its work');
      await world.delete('patched');
      await world.untilGone('patched');
    },
  },
  {
    name: 'a sandbox whose patches replace each other',
    async run(world) {
      await world.create('replaced', {
        main: {},
        patches: [
          { text: { path: '/a', content: 'a' } },
          { remove: { path: '/a' } },
          { mkdir: { path: '/a' } },
          { append: { path: '/b', content: 'b' } },
          { symlink: { path: '/b', target: '/c' } },
        ],
      });
      const dir = await world.dirOf('replaced');
      const guest = await world.guestOf(dir, 1);
      await world.untilPhase('replaced', 'Running');
      assert.equal(guest.root.get('/a')?.kind, 'directory');
      assert.equal(guest.root.get('/b')?.content, '/c');
      await world.delete('replaced');
      await world.untilGone('replaced');
    },
  },
  {
    name: 'a sandbox that gets another root file system',
    async run(world) {
      const patches = [{ text: { path: '/etc/a', content: 'a' } }];
      await world.create('anew', { patches, updateStrategy: 'Recreate' });
      const dir = await world.dirOf('anew');
      const upper = join(dir, 'upper.ext4');
      await world.untilPhase('anew', 'Running');
      writeFileSync(upper, 'of the first');
      await world.patch('anew', { spec: { image: 'registry.example/app:2' } });
      await world.until('another root', async () => {
        const status = await world.status('anew');
        return status.phase === 'Running' && status.image?.reference === 'registry.example/app:2';
      });
      await world.until('its guest', () => world.host.guest(dir)?.root.get('/etc/a')?.content === 'a');
      assert.ok(!existsSync(upper));
      assert.equal(world.host.starts.get(dir), 2);
      await world.delete('anew');
      await world.untilGone('anew');
    },
  },
  {
    name: 'a sandbox with hooks and probes, whose liveness probe fails once',
    async run(world) {
      let alive = true;
      world.host.onBoot = (guest) => {
        guest.onExec = (session) =>
          session.end({ exitCode: session.request.argv[0] !== 'alive' || alive ? 0 : 1 });
      };
      const exec = (name: string) => ({ exec: { command: [name] } });
      await world.create('probed', {
        restartPolicy: 'Always',
        lifecycle: { postStart: exec('hello'), preStop: exec('bye') },
        startupProbe: exec('started'),
        readinessProbe: exec('ready'),
        livenessProbe: { ...exec('alive'), periodSeconds: 1, failureThreshold: 2 },
      });
      const dir = await world.dirOf('probed');
      const isReady = async () => (await world.condition('probed', 'Ready')) === 'True/Ready';
      await world.until('ready', isReady);
      alive = false;
      await world.until('the end', () => world.host.running.length === 0);
      alive = true;
      await world.until('a second start', () => world.host.starts.get(dir) === 2);
      await world.until('ready again', isReady);
      const status = await world.status('probed');
      assert.equal(status.lastTermination?.reason, 'LivenessProbeFailed');
      assert.equal(status.restarts, 1);
      await world.delete('probed');
      await world.untilGone('probed');
    },
  },
  {
    name: 'a VM that crashes and restarts',
    async run(world) {
      await world.create('crash', { restartPolicy: 'Always' });
      const dir = await world.dirOf('crash');
      await world.untilPhase('crash', 'Running');
      world.host.crash(dir);
      await world.until('a second start', () => world.host.starts.get(dir) === 2);
      await world.untilPhase('crash', 'Running');
      const status = await world.status('crash');
      assert.equal(status.restarts, 1);
      assert.equal(status.lastTermination?.reason, 'VmCrashed');
      await world.delete('crash');
      await world.untilGone('crash');
    },
  },
];

/** The life without a kill tells how many moments there are. */
async function momentsOf(scenario: Scenario): Promise<number> {
  await using world = new SupervisedWorld();
  const daemon = await world.daemon();
  await scenario.run(world);
  world.assertNothingLeft();
  return daemon.process.moments.length;
}

for (const scenario of scenarios) {
  test(`${scenario.name}: whenever the daemon is killed, the end is the same`, async () => {
    const moments = await momentsOf(scenario);
    assert.ok(moments > 20, `${moments} moments`);
    for (let moment = 1; moment <= moments; moment += 1) {
      await using world = new SupervisedWorld();
      const { process } = await world.daemon(moment);
      try {
        await scenario.run(world);
        world.assertNothingLeft();
        assert.ok(process.dead, 'the daemon was killed');
      } catch (error) {
        throw new Error(`killed at moment ${moment} of ${moments}, ${process.moments.at(-1)}`, {
          cause: error,
        });
      }
    }
  });
}
