import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from './log.ts';
import { Manager, type Runnable } from './manager.ts';
import { FakeClock, settle } from './testing/fake-clock.ts';

function setUp(): {
  clock: FakeClock;
  manager: Manager;
  log: string[];
  part(name: string, overrides?: Partial<Runnable>): Runnable;
} {
  const clock = new FakeClock();
  const log: string[] = [];
  return {
    clock,
    log,
    manager: new Manager({ clock, log: silentLog, stopTimeoutMs: 30_000 }),
    part: (name, overrides = {}) => ({
      name,
      start: async () => {
        log.push(`start ${name}`);
      },
      stop: async () => {
        log.push(`stop ${name}`);
      },
      ...overrides,
    }),
  };
}

test('parts start in order, each after the one before is ready, and stop in reverse', async () => {
  const { manager, log, part } = setUp();
  const slow = Promise.withResolvers<void>();
  manager.add(
    part('cache', {
      start: async () => {
        await slow.promise;
        log.push('start cache');
      },
    }),
  );
  manager.add(part('controller'));
  manager.add(part('source'));
  const stop = new AbortController();
  const running = manager.run(stop.signal, () => log.push('ready'));
  await settle();
  assert.deepEqual(log, []);
  slow.resolve();
  await settle();
  assert.deepEqual(log, ['start cache', 'start controller', 'start source', 'ready']);
  stop.abort();
  await running;
  assert.deepEqual(log.slice(4), ['stop source', 'stop controller', 'stop cache']);
});

test('when a part does not start, those before it are stopped and the failure is thrown', async () => {
  const { manager, log, part } = setUp();
  manager.add(part('cache'));
  manager.add(part('bad', { start: () => Promise.reject(new Error('no port')) }));
  manager.add(part('source'));
  const running = manager.run(new AbortController().signal, () => log.push('ready'));
  await assert.rejects(running, /no port/);
  assert.deepEqual(log, ['start cache', 'stop bad', 'stop cache']);
});

test('when a running part fails, all stop and the failure is thrown', async () => {
  const { manager, log, part } = setUp();
  const failing = Promise.withResolvers<(error: Error) => void>();
  manager.add(part('cache'));
  manager.add(
    part('server', {
      start: async (fail) => {
        failing.resolve(fail);
      },
    }),
  );
  const running = manager.run(new AbortController().signal);
  const fail = await failing.promise;
  await settle();
  fail(new Error('socket gone'));
  fail(new Error('and again'));
  await assert.rejects(running, /socket gone/);
  assert.deepEqual(log, ['start cache', 'stop server', 'stop cache']);
});

test('an abort during a slow start stops what was started', async () => {
  const { manager, log, part } = setUp();
  manager.add(part('cache', { start: () => new Promise(() => undefined) }));
  manager.add(part('controller'));
  const stop = new AbortController();
  const running = manager.run(stop.signal, () => log.push('ready'));
  await settle();
  stop.abort();
  await running;
  assert.deepEqual(log, ['stop cache']);
});

test('a part that does not stop in time, or fails to, does not keep the others from stopping', async () => {
  const { clock, manager, log, part } = setUp();
  manager.add(part('first'));
  manager.add(part('hangs', { stop: () => new Promise(() => undefined) }));
  manager.add(part('throws', { stop: () => Promise.reject(new Error('defect')) }));
  const stop = new AbortController();
  stop.abort();
  const early = manager.run(stop.signal);
  await early;
  assert.deepEqual(log, [], 'nothing was started');
  const second = new AbortController();
  const running = manager.run(second.signal);
  await settle();
  second.abort();
  await settle();
  assert.deepEqual(log, ['start first', 'start hangs', 'start throws']);
  await clock.advance(30_000);
  await running;
  assert.equal(log.at(-1), 'stop first');
  assert.deepEqual(clock.pending, []);
});
