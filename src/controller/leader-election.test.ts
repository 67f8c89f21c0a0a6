import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { EmbeddedStore } from '../store/embedded/embedded-store.ts';
import { temporaryDirectory } from '../store/embedded/testing.ts';
import type { Store } from '../store/store.ts';
import { LeaderElection, LeadershipLost } from './leader-election.ts';
import { silentLog } from './log.ts';
import { FakeClock } from './testing/fake-clock.ts';

const LEASE = { kind: 'Lease', namespace: 'system', name: 'leader' };

let dir: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: EmbeddedStore;
let clock: FakeClock;
let stop: AbortController;

beforeEach(async () => {
  dir = await temporaryDirectory();
  store = EmbeddedStore.open({ path: `${dir.path}/store.db` });
  clock = new FakeClock();
  stop = new AbortController();
});

afterEach(async () => {
  stop.abort();
  await store.close();
  await dir[Symbol.asyncDispose]();
});

function candidate(identity: string): LeaderElection {
  return new LeaderElection({ store, clock, log: silentLog, namespace: 'system', name: 'leader', identity });
}

async function holder(): Promise<string | undefined> {
  const lease = await store.get(LEASE);
  return (lease?.spec as { holderIdentity?: string } | undefined)?.holderIdentity;
}

/** Has `leads` resolved after `ms`? */
async function after(ms: number, leads: Promise<void>): Promise<boolean> {
  let led = false;
  void leads.then(() => {
    led = true;
  });
  await clock.advance(ms);
  return led;
}

test('the first one leads; the second waits as long as the first renews', async () => {
  const first = candidate('a');
  await first.acquire(stop.signal);
  const holding = first.hold(stop.signal);
  const second = candidate('b').acquire(stop.signal);
  assert.equal(await after(60_000, second), false);
  assert.equal(await holder(), 'a');
  stop.abort();
  await Promise.all([holding, second]);
});

test('one that lets go is followed at once', async () => {
  const first = candidate('a');
  const firstStop = new AbortController();
  await first.acquire(stop.signal);
  const holding = first.hold(firstStop.signal);
  firstStop.abort();
  await holding;
  assert.equal(await holder(), '');
  await candidate('b').acquire(stop.signal);
  assert.equal(await holder(), 'b');
});

test('one that is silent is followed when its time is over, and not before', async () => {
  await candidate('a').acquire(stop.signal);
  const second = candidate('b').acquire(stop.signal);
  assert.equal(await after(14_000, second), false);
  assert.equal(await after(4_000, second), true);
  assert.equal(await holder(), 'b');
});

test('clocks of machines need not agree', async () => {
  await candidate('a').acquire(stop.signal);
  clock.step(3_600_000);
  const second = candidate('b').acquire(stop.signal);
  assert.equal(await after(10_000, second), false);
});

test('a leader that cannot renew gives up before anyone may follow', async () => {
  const first = candidate('a');
  await first.acquire(stop.signal);
  const holding = assert.rejects(first.hold(stop.signal), LeadershipLost);
  await store.close();
  await clock.advance(13_000);
  await holding;
});

test('a leader that finds another one in its place gives up at once', async () => {
  const first = candidate('a');
  await first.acquire(stop.signal);
  const holding = assert.rejects(first.hold(stop.signal), LeadershipLost);
  await store.patch(LEASE, { spec: { holderIdentity: 'b' } });
  await clock.advance(2_500);
  await holding;
});

test('one whose store does not answer stops leading before another may begin', async () => {
  const stuck = Promise.withResolvers<never>();
  let isStuck = false;
  const hanging = new Proxy<Store>(store, {
    get: (target, name: keyof Store) =>
      name === 'get' && isStuck ? () => stuck.promise : target[name].bind(target),
  });
  const options = { clock, log: silentLog, namespace: 'system', name: 'leader', leaseDurationMs: 3_000 };
  const first = new LeaderElection({ ...options, store: hanging, identity: 'a' });
  await first.acquire(stop.signal);
  const lost = assert.rejects(first.hold(stop.signal), LeadershipLost);
  isStuck = true;
  const second = new LeaderElection({ ...options, store, identity: 'b' }).acquire(stop.signal);
  assert.equal(await after(2_500, second), false);
  await lost;
  assert.equal(await after(1_000, second), true);
});
