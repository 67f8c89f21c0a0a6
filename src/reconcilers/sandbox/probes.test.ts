// Probes: what a sandbox's conditions and runs make of them.
import assert from 'node:assert/strict';
import type { Duplex } from 'node:stream';
import { test } from 'node:test';

import type { SandboxProbe } from '../../api/sandbox-probes.ts';
import type { FakeGuest, FakeSession } from '../testing/fake-guest.ts';
import { World } from '../testing/world.ts';

const DEFAULTS = {
  initialDelaySeconds: 0,
  periodSeconds: 10,
  timeoutSeconds: 1,
  successThreshold: 1,
  failureThreshold: 3,
};

function probe(name: string, part: Partial<SandboxProbe> = {}): SandboxProbe {
  return { ...DEFAULTS, exec: { command: [name] }, ...part };
}

/** What the probes of a guest say now: an exit code, or nothing at all. */
type Health = Record<string, number | 'hangs'>;

/** Every guest of the world answers its probes by `health`, and counts them in `tries`. */
function answering(world: World, health: Health, tries: Record<string, number> = {}): void {
  world.host.onBoot = (guest) => {
    guest.onExec = (session: FakeSession) => {
      const name = session.request.argv[0] ?? '';
      tries[name] = (tries[name] ?? 0) + 1;
      const code = health[name] ?? 0;
      if (code === 'hangs') return;
      if (code !== 0) session.write('stderr', `${name} is bad\n`);
      session.end({ exitCode: code });
    };
  };
}

async function guestOf(world: World, name: string): Promise<FakeGuest> {
  const guest = world.host.guest(await world.dirOf(name));
  assert.ok(guest !== undefined);
  return guest;
}

test('a sandbox is Ready when its readiness probe has succeeded, and only as long as it does', async () => {
  await using world = new World();
  const health: Health = { ready: 1 };
  answering(world, health);
  await world.daemon();
  await world.create('app', { main: {}, readinessProbe: probe('ready', { successThreshold: 2 }) });
  await world.untilPhase('app', 'Running');
  assert.equal(await world.condition('app', 'Ready'), 'False/ReadinessProbePending');
  await world.advance(35_000);
  assert.equal(await world.condition('app', 'Ready'), 'False/ReadinessProbeFailed');
  assert.equal(await world.condition('app', 'Reconciling'), 'True/ReadinessProbeFailed');
  const ready = (await world.status('app')).conditions?.find(({ type }) => type === 'Ready');
  assert.equal(ready?.message, 'The readiness probe failed 3 times in a row: exit code 1: ready is bad.');
  health.ready = 0;
  await world.advance(10_000);
  assert.equal(await world.condition('app', 'Ready'), 'False/ReadinessProbeFailed');
  await world.advance(10_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  health.ready = 'hangs';
  await world.advance(20_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  await world.advance(15_000);
  assert.equal(await world.condition('app', 'Ready'), 'False/ReadinessProbeFailed');
  assert.equal((await world.status('app')).phase, 'Running');
});

test('probes cost no status write, no event and no reconcile while nothing changes', async () => {
  await using world = new World();
  const tries: Record<string, number> = {};
  answering(world, {}, tries);
  const daemon = await world.daemon();
  await world.create('app', {
    main: {},
    readinessProbe: probe('ready', { periodSeconds: 1 }),
    livenessProbe: probe('alive', { periodSeconds: 1 }),
  });
  await world.until('ready', async () => (await world.condition('app', 'Ready')) === 'True/Ready');
  await world.advance(5_000);
  const [writes, events] = [world.statusWrites.get('app')?.length, world.events.length];
  const reconciles = daemon.outcomes.length;
  await world.advance(600_000);
  assert.ok((tries.ready ?? 0) > 500 && (tries.alive ?? 0) > 500, JSON.stringify(tries));
  assert.equal(world.statusWrites.get('app')?.length, writes);
  assert.equal(world.events.length, events);
  assert.equal(daemon.outcomes.length, reconciles);
});

test('a failing probe says the same for as long as it fails, whatever the guest says', async () => {
  await using world = new World();
  let turn = 0;
  world.host.onBoot = (guest) => {
    guest.onExec = (session) => {
      turn += 1;
      session.write('stdout', `trouble ${turn} ${'x'.repeat(5_000)}`);
      session.end({ exitCode: 1 });
    };
  };
  await world.daemon();
  await world.create('app', { readinessProbe: probe('ready', { periodSeconds: 1 }) });
  await world.advance(10_000);
  const writes = world.statusWrites.get('app')?.length;
  await world.advance(60_000);
  assert.ok(turn > 60);
  assert.equal(world.statusWrites.get('app')?.length, writes);
  const unhealthy = world.events.filter(({ reason }) => reason === 'Unhealthy');
  assert.equal(unhealthy.length, 1);
  assert.ok((unhealthy[0]?.message.length ?? 0) < 400);
});

test('a failing liveness probe restarts by restartPolicy, with back-off, and says why', async () => {
  await using world = new World();
  const health: Health = {};
  answering(world, health);
  await world.daemon();
  await world.create('app', { main: {}, restartPolicy: 'OnFailure', livenessProbe: probe('alive') });
  await world.untilPhase('app', 'Running');
  await world.advance(25_000);
  const dir = await world.dirOf('app');
  health.alive = 3;
  await world.until('the stop', async () => (await world.status('app')).lastTermination !== undefined);
  const { lastTermination } = await world.status('app');
  assert.equal(lastTermination?.reason, 'LivenessProbeFailed');
  assert.equal(
    lastTermination?.message,
    'The liveness probe failed 3 times in a row: exit code 3: alive is bad.',
  );
  assert.ok(world.events.some(({ reason }) => reason === 'Unhealthy'));
  assert.equal(world.host.starts.get(dir), 1);
  health.alive = 0;
  await world.until('the next run', () => world.host.starts.get(dir) === 2);
  await world.untilPhase('app', 'Running');
  await world.advance(60_000);
  assert.equal(world.host.starts.get(dir), 2);
  assert.equal((await world.status('app')).restarts, 1);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
});

test('a liveness probe that fails ends a sandbox that is never restarted as Failed, within its own grace period', async () => {
  await using world = new World();
  const graces: number[] = [];
  world.host.onBoot = (guest) => {
    guest.onExec = (session) => session.end({ exitCode: 1 });
    const { onShutdown } = guest;
    guest.onShutdown = (options) => {
      graces.push(options.graceMs);
      onShutdown(options);
    };
  };
  await world.daemon();
  await world.create('app', {
    terminationGracePeriodSeconds: 600,
    livenessProbe: probe('alive', { failureThreshold: 1, terminationGracePeriodSeconds: 7 }),
  });
  await world.untilPhase('app', 'Failed');
  assert.equal((await world.status('app')).lastTermination?.reason, 'LivenessProbeFailed');
  assert.deepEqual(graces, [7_000]);
});

test('the startup probe holds the others back until it has succeeded once', async () => {
  await using world = new World();
  const health: Health = { started: 1 };
  const tries: Record<string, number> = {};
  answering(world, health, tries);
  const first = await world.daemon();
  await world.create('app', {
    startupProbe: probe('started', { periodSeconds: 1, failureThreshold: 60 }),
    readinessProbe: probe('ready', { periodSeconds: 5 }),
    livenessProbe: probe('alive', { periodSeconds: 5, failureThreshold: 1 }),
  });
  await world.untilPhase('app', 'Running');
  await world.advance(30_000);
  assert.equal(await world.condition('app', 'Ready'), 'False/StartupProbePending');
  assert.deepEqual(Object.keys(tries), ['started']);
  health.started = 0;
  await world.advance(7_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  const { started } = tries;
  // It is over for this run, also for the next daemon.
  health.started = 1;
  first.process.kill();
  await world.daemon();
  await world.advance(60_000);
  assert.equal(tries.started, started);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
});

test('a startup probe that never succeeds ends the run', async () => {
  await using world = new World();
  answering(world, { started: 1 });
  await world.daemon();
  await world.create('app', { main: {}, startupProbe: probe('started', { periodSeconds: 1 }) });
  await world.untilPhase('app', 'Failed');
  assert.equal((await world.status('app')).lastTermination?.reason, 'StartupProbeFailed');
});

test('probes go on after a restart of the daemon, without a flicker and at different moments', async () => {
  await using world = new World();
  const health: Health = {};
  const tries: Record<string, number> = {};
  answering(world, health, tries);
  const first = await world.daemon();
  await world.create('app', {
    readinessProbe: probe('ready', { periodSeconds: 60 }),
    livenessProbe: probe('alive', { periodSeconds: 5 }),
    restartPolicy: 'Always',
  });
  await world.until('ready', async () => (await world.condition('app', 'Ready')) === 'True/Ready');
  const writes = world.statusWrites.get('app')?.length ?? 0;
  first.process.kill();
  tries.ready = 0;
  await world.daemon();
  await world.advance(20_000);
  assert.equal(tries.ready, 0, 'not at once');
  await world.advance(20_000);
  assert.equal(tries.ready, 1);
  assert.ok(
    world.statusWrites
      .get('app')
      ?.slice(writes)
      .every(({ conditions }) =>
        conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'),
      ),
  );
  health.alive = 1;
  await world.until('a restart', async () => (await world.status('app')).restarts === 1);
});

test('a guest that a new daemon has not reached yet is not probed', async () => {
  await using world = new World();
  answering(world, {});
  const first = await world.daemon();
  const often = { periodSeconds: 1, failureThreshold: 1 };
  await world.create('app', { livenessProbe: probe('alive', often), readinessProbe: probe('ready', often) });
  await world.until('ready', async () => (await world.condition('app', 'Ready')) === 'True/Ready');
  first.process.kill();
  world.faults.delay('connect', 8_000);
  await world.daemon();
  await world.advance(60_000);
  assert.equal((await world.status('app')).phase, 'Running');
  const changes = world.statusWrites
    .get('app')
    ?.filter(({ conditions }) =>
      conditions?.some(({ type, reason }) => type === 'Ready' && reason.startsWith('ReadinessProbe')),
    );
  assert.equal(changes?.length, 0);
});

test('what a killed daemon left of its tries is taken away', async () => {
  await using world = new World();
  answering(world, { ready: 'hangs' });
  const first = await world.daemon();
  await world.create('app', { readinessProbe: probe('ready', { timeoutSeconds: 30 }) });
  await world.untilPhase('app', 'Running');
  const guest = await guestOf(world, 'app');
  const [left] = [...guest.sessions.keys()];
  assert.match(left ?? '', /^probe-/);
  first.process.kill();
  await world.daemon();
  assert.ok(!guest.sessions.has(left ?? ''));
});

test('probes are no use of a sandbox: its idle time goes on', async () => {
  await using world = new World();
  answering(world, {});
  await world.daemon();
  await world.create('idle', {
    idleTimeoutSeconds: 120,
    readinessProbe: probe('ready', { periodSeconds: 1 }),
    livenessProbe: probe('alive', { periodSeconds: 1 }),
  });
  await world.untilPhase('idle', 'Running');
  await world.advance(125_000);
  assert.equal(await world.condition('idle', 'Finished'), 'True/IdleTimeout');
});

test('a guest that does not answer at all fails its liveness probe', async () => {
  await using world = new World();
  answering(world, {});
  await world.daemon();
  await world.create('app', { restartPolicy: 'Always', livenessProbe: probe('alive') });
  await world.untilPhase('app', 'Running');
  await world.advance(15_000);
  (await guestOf(world, 'app')).setConnected(false);
  await world.until('a restart', async () => (await world.status('app')).restarts === 1);
  assert.equal((await world.status('app')).lastTermination?.reason, 'LivenessProbeFailed');
});

test('a VM that the host holds is not to blame for its silence', async () => {
  await using world = new World();
  const health: Health = {};
  answering(world, health);
  await world.daemon();
  await world.create('app', { livenessProbe: probe('alive') });
  await world.untilPhase('app', 'Running');
  await world.advance(15_000);
  health.alive = 'hangs';
  const dir = await world.dirOf('app');
  world.host.stall(dir, { code: 'DISK_FULL', message: 'no room' });
  await world.advance(300_000);
  assert.equal((await world.status('app')).phase, 'Running');
  health.alive = 0;
  world.host.stall(dir, undefined);
  await world.advance(300_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
});

test('a guest that the host has stand still is not to blame either', async () => {
  await using world = new World();
  const health: Health = {};
  answering(world, health);
  const { reconciler } = await world.daemon();
  const uid = (await world.create('app', { livenessProbe: probe('alive') })).metadata.uid;
  await world.untilPhase('app', 'Running');
  await world.advance(15_000);
  const runtime = reconciler.live.runtime(uid);
  assert.ok(runtime);
  runtime.frozen = true;
  health.alive = 'hangs';
  await world.advance(60_000);
  health.alive = 0;
  runtime.frozen = false;
  await world.advance(60_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
});

test('a changed probe applies at once, and one that is taken away counts no more', async () => {
  await using world = new World();
  answering(world, { bad: 1 });
  await world.daemon();
  await world.create('app', { readinessProbe: probe('good') });
  await world.until('ready', async () => (await world.condition('app', 'Ready')) === 'True/Ready');
  await world.patch('app', { spec: { readinessProbe: probe('bad', { periodSeconds: 1 }) } });
  await world.advance(5_000);
  assert.equal(await world.condition('app', 'Ready'), 'False/ReadinessProbeFailed');
  assert.equal(await world.condition('app', 'RestartRequired'), undefined);
  await world.patch('app', { spec: { readinessProbe: null } });
  await world.settle();
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
});

test('the first try waits for initialDelaySeconds', async () => {
  await using world = new World();
  const tries: Record<string, number> = {};
  answering(world, {}, tries);
  await world.daemon();
  await world.create('app', { readinessProbe: probe('ready', { initialDelaySeconds: 40 }) });
  await world.untilPhase('app', 'Running');
  await world.advance(35_000);
  assert.equal(tries.ready, undefined);
  await world.advance(10_000);
  assert.equal(tries.ready, 1);
});

test('probes of HTTP and TCP go from the guest to its own address', async () => {
  await using world = new World();
  const asked: string[] = [];
  let answer = 'HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n';
  const serve = (connection: Duplex): void => {
    connection.on('data', (data: Buffer) => {
      asked.push(data.toString());
      connection.write(answer);
    });
  };
  world.host.onBoot = (guest) => {
    guest.servers.set(8080, serve);
  };
  await world.daemon();
  const httpGet = {
    port: 8080,
    path: '/healthz?deep=1',
    httpHeaders: [
      { name: 'X-Probe', value: 'a' },
      { name: 'X-Probe', value: 'b' },
      { name: 'Host', value: 'app.example' },
    ],
  };
  await world.create('app', {
    readinessProbe: { ...DEFAULTS, httpGet },
    livenessProbe: { ...DEFAULTS, tcpSocket: { port: 8080 } },
  });
  await world.untilPhase('app', 'Running');
  await world.advance(35_000);
  const ready = (await world.status('app')).conditions?.find(({ type }) => type === 'Ready');
  assert.equal(ready?.message, 'The readiness probe failed 3 times in a row: HTTP 503.');
  assert.match(asked[0] ?? '', /^GET \/healthz\?deep=1 HTTP\/1\.1\r\n/);
  assert.match(asked[0] ?? '', /\r\nX-Probe: a\r\nX-Probe: b\r\n/i);
  assert.match(asked[0] ?? '', /\r\nHost: app\.example\r\n/i);
  assert.equal(asked[0]?.match(/\r\nHost:/gi)?.length, 1);
  answer = 'HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n';
  await world.advance(10_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready');
  answer = 'what do you want?\r\n\r\n';
  await world.advance(35_000);
  assert.equal(await world.condition('app', 'Ready'), 'False/ReadinessProbeFailed');
  answer = `HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n${'x'.repeat(200_000)}`;
  await world.advance(10_000);
  assert.equal(await world.condition('app', 'Ready'), 'True/Ready', 'a body that is too long is not read');
  (await guestOf(world, 'app')).servers.clear();
  await world.untilPhase('app', 'Failed');
  const { lastTermination } = await world.status('app');
  assert.equal(lastTermination?.reason, 'LivenessProbeFailed');
  assert.match(lastTermination?.message ?? '', /port 8080: Connection refused/);
});
