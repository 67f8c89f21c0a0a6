// What happens to the cluster's parts, and to what they run, when the API server and the network to it fail: real API server,
// scheduler, controllers and agents, on VMs that are fakes. The clocks of two of three nodes are off by minutes all the time.
// Of every VM that ever ran it is known where, from when and until when.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { findCondition, isConditionTrue } from '../../src/api/conditions.ts';
import type { StoredObject } from '../../src/api/meta.ts';
import type { DefaultedSandbox } from '../../src/api/sandbox.ts';
import { IMAGE } from '../../src/reconcilers/testing/world.ts';
import { rounds, SOAK } from '../fixtures/campaign.ts';
import { ControlPlane } from './control-plane.ts';
import { assertNoDoubles, Fleet } from './fleet.ts';
import type { Refusal } from './injecting-proxy.ts';

/** By node: how far its clock is off. */
const SKEWS = { node0: 7 * 60_000, node1: -11 * 60_000, node2: 0 };
/** Live through everything, each on the VM that it began with. */
const SURVIVORS = 9;
/** The longest back-off of a watch is 30 s, and a machine that builds beside takes its time. */
const CONVERGE_MS = 90_000;
/**
 * Requests of one part in any second, with some 20 sandboxes of which a few change at a time. A loop without a pause makes hundreds
 * on the slowest machine.
 */
const PEAK_MAX = 120;

let plane: ControlPlane;
let fleet: Fleet;
let made = 0;
const wanted = new Set<string>();
const lost = new Set<string>();
/** Of the test that runs. */
let began = 0;

before(async () => {
  plane = await ControlPlane.start({ nodes: Object.keys(SKEWS) });
  plane.sandboxes.addHandler(({ object }) => {
    const { reason } = findCondition(statusOf(object)?.conditions, 'Ready') ?? {};
    if (reason === 'NodeLost') lost.add(object.metadata.name);
  });
  fleet = new Fleet(plane);
  await Promise.all(Object.entries(SKEWS).map(([node, skewMs]) => fleet.startAgent(node, skewMs)));
  await Promise.all([fleet.startController(), fleet.startController()]);
  for (const node of Object.keys(SKEWS))
    await create(SURVIVORS / 3, 'survivor', {
      scheduling: { nodeSelector: { 'kubernetes.io/hostname': node } },
    });
  await converged();
});

after(async () => {
  await fleet?.[Symbol.asyncDispose]();
  await plane?.[Symbol.asyncDispose]();
});

afterEach(() => {
  for (const proxy of fleet.proxies) proxy.refuse = () => undefined;
});

const statusOf = (object: StoredObject | undefined) => (object as DefaultedSandbox | undefined)?.status;

async function create(count: number, prefix = 'churn', more: object = {}): Promise<string[]> {
  const names = Array.from({ length: count }, () => `${prefix}-${++made}`);
  for (const name of names) {
    await plane.store.create({
      ...{ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox' },
      metadata: { name, namespace: 'default' },
      spec: { image: IMAGE, resources: { memory: '128Mi' }, terminationGracePeriodSeconds: 1, ...more },
    });
    wanted.add(name);
  }
  return names;
}

const sandboxOf = (name: string) => statusOf(plane.sandboxes.get('default', name));
const nodeOf = (name: string) => sandboxOf(name)?.nodeName ?? '';

async function cordon(node: string, unschedulable: boolean): Promise<void> {
  const { status } = await plane.server.request(`/api/v1/nodes/${node}`, {
    ...{ method: 'PATCH', contentType: 'application/merge-patch+json', body: { spec: { unschedulable } } },
  });
  assert.equal(status, 200);
}

/** As `kubectl drain` does it. */
async function evict(name: string): Promise<void> {
  const pod = sandboxOf(name)?.reservation ?? '';
  const { status, body } = await plane.server.request(`/api/v1/namespaces/default/pods/${pod}/eviction`, {
    ...{ method: 'POST', body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: pod } } },
  });
  assert.equal(status, 201, JSON.stringify(body));
}

async function remove(names: readonly string[]): Promise<void> {
  for (const name of names) {
    wanted.delete(name);
    await plane.store.delete({ kind: 'Sandbox', namespace: 'default', name });
  }
}

/** What is not yet as it is to be: each sandbox that is wanted is Ready on one VM, and no other has any. */
function amiss(): string[] {
  const found = new Map(plane.sandboxes.list('default').map((object) => [object.metadata.name, object]));
  const wrong: string[] = [];
  for (const name of wanted) {
    const object = found.get(name);
    if (object === undefined) wrong.push(`${name} is gone`);
    else if (!isConditionTrue(statusOf(object)?.conditions, 'Ready'))
      wrong.push(`${name}: ${statusOf(object)?.phase} on ${statusOf(object)?.nodeName}`);
    else if (fleet.running(object.metadata.uid).length !== 1)
      wrong.push(`${name} has ${fleet.running(object.metadata.uid).length} VMs`);
  }
  for (const name of found.keys()) if (!wanted.has(name)) wrong.push(`${name} is still there`);
  const uids = new Set([...found.values()].map(({ metadata }) => metadata.uid));
  for (const uid of fleet.runs.keys())
    if (!uids.has(uid) && fleet.running(uid).length > 0) wrong.push(`a VM of ${uid}, which is no object`);
  return wrong;
}

async function converged(): Promise<number> {
  const from = performance.now();
  await plane.until(
    () => amiss().length === 0,
    CONVERGE_MS,
    () => amiss().join('; '),
  );
  return performance.now() - from;
}

/** Tells what was asked of the API server since `began`, and fails where a part asked without a pause. */
function told(t: TestContext, text: string): void {
  t.diagnostic(text);
  for (const part of [...fleet.agents, ...fleet.controllers]) {
    if (part.proxy === undefined) continue;
    const peak = part.proxy.peakPerSecond(began);
    const counts = [...part.proxy.counts(began)].sort(([, a], [, b]) => b - a).slice(0, 6);
    const sum = part.proxy.asked.filter(({ at }) => at >= began).length;
    const most = counts.map(([what, count]) => `${count} ${what}`).join(', ');
    t.diagnostic(`${part.name}: ${sum} requests, at most ${peak} in a second: ${most}`);
    assert.ok(peak <= PEAK_MAX, `${part.name} asked ${peak} times in a second`);
  }
  assertNoDoubles(fleet);
}

/** Makes and removes a few sandboxes again and again. */
async function churn(ms: number): Promise<number> {
  const until = performance.now() + ms;
  let count = 0;
  for (let former: string[] = []; performance.now() < until; ) {
    const names = await create(2);
    await remove(former);
    former = names;
    count += names.length;
    await delay(1_000);
  }
  return count;
}

describe('parts of a cluster whose API server fails', { concurrency: false }, () => {
  it('go on when every watch is cut each second', async (t) => {
    began = performance.now();
    let cut = 0;
    const cutting = setInterval(() => {
      for (const proxy of fleet.proxies) cut += proxy.cutWatches();
    }, 1_000);
    const count = await churn(rounds('BULKHEAD_CUT_SECONDS', { short: 10, soak: 60 }) * 1_000);
    clearInterval(cutting);
    assert.ok(cut > 20, `only ${cut} watches were cut`);
    const ms = await converged();
    told(
      t,
      `${cut} watches cut, ${count} sandboxes made meanwhile, all is well ${Math.round(ms)} ms after the last cut`,
    );
  });

  it('go on when the API server refuses a third of what they ask', async (t) => {
    began = performance.now();
    const refusals: (Refusal | undefined)[] = [{ status: 409 }, { status: 429 }, { status: 500 }];
    for (const proxy of fleet.proxies)
      proxy.refuse = (what) => {
        const refusal = Math.random() < 1 / 3 ? refusals[Math.floor(Math.random() * 3)] : undefined;
        // What only reads meets no conflict.
        return refusal?.status === 409 && !/^(POST|PUT|PATCH|DELETE)/.test(what) ? undefined : refusal;
      };
    const count = await churn(rounds('BULKHEAD_REFUSE_SECONDS', { short: 20, soak: 600 }) * 1_000);
    for (const proxy of fleet.proxies) proxy.refuse = () => undefined;
    const refused = fleet.proxies.reduce((sum, proxy) => sum + proxy.refused, 0);
    assert.ok(refused > 20, `only ${refused} requests were refused`);
    const ms = await converged();
    told(
      t,
      `${refused} requests refused, ${count} sandboxes made meanwhile, all is well ${Math.round(ms)} ms after`,
    );
  });

  it('take up a new API server', async (t) => {
    began = performance.now();
    const [gone = '', ...others] = await create(3);
    await converged();
    await plane.server.stopApi('SIGKILL');
    await delay(SOAK ? 60_000 : 3_000);
    await plane.server.startApi();
    await remove([gone]);
    await create(2);
    const ms = await converged();
    assert.ok(others.every((name) => wanted.has(name)));
    told(t, `all is well ${Math.round(ms)} ms after it was back`);
  });

  it('say why a sandbox has no place while the node of its volumes is drained, and move one that has none', async () => {
    const metadata = { name: 'notes', namespace: 'default' };
    const spec = { capacity: '64Mi' };
    await plane.store.create({ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Volume', metadata, spec });
    const [keeper = ''] = await create(1, 'keeper', {
      volumes: [{ name: 'notes', volume: { name: 'notes' } }],
      volumeMounts: [{ name: 'notes', mountPath: '/notes' }],
    });
    await converged();
    const node = nodeOf(keeper);
    const matchExpressions = [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }];
    const preferred = [{ weight: 100, preference: { matchExpressions } }];
    const affinity = { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: preferred } };
    const [mover = ''] = await create(1, 'mover', { scheduling: { affinity } });
    await converged();
    assert.equal(nodeOf(mover), node);
    await cordon(node, true);
    for (const name of [keeper, mover]) await evict(name);
    const scheduled = () => findCondition(sandboxOf(keeper)?.conditions, 'Scheduled');
    const isMoved = () => nodeOf(mover) !== '' && nodeOf(mover) !== node;
    const isTold = () => scheduled()?.reason === 'Unschedulable';
    await plane.until(
      () => isTold() && isMoved(),
      CONVERGE_MS,
      () => JSON.stringify(scheduled()),
    );
    assert.match(scheduled()?.message ?? '', new RegExp(`unschedulable.* Its volumes are on ${node}\\.`));
    const events = await plane.store.listEvents({ kind: 'Sandbox', namespace: 'default', name: keeper });
    assert.ok(events.some(({ reason }) => reason === 'EvictionByEvictionAPI'));
    await cordon(node, false);
    await converged();
    assert.equal(nodeOf(keeper), node);
    assertNoDoubles(fleet);
    await remove([keeper, mover]);
    await converged();
  });

  it('follow an etcd that was restored from an older snapshot', async (t) => {
    began = performance.now();
    const [back = ''] = await create(1);
    await converged();
    await plane.server.stopApi('SIGKILL');
    const snapshot = await plane.server.snapshot();
    await plane.server.startApi();
    await remove([back]);
    const [forgotten = ''] = await create(1);
    await converged();
    const uid = plane.sandboxes.get('default', forgotten)?.metadata.uid ?? '';
    // So much that the restored one does not get to the versions of before by what it writes itself.
    const path = '/api/v1/namespaces/default/configmaps';
    await plane.server.request(path, { method: 'POST', body: { metadata: { name: 'filler' } } });
    for (let write = 0; write < 1_500; write += 25)
      await Promise.all(
        Array.from({ length: 25 }, (_, index) =>
          plane.server.request(`${path}/filler`, {
            ...{ method: 'PATCH', contentType: 'application/merge-patch+json' },
            body: { data: { count: String(write + index) } },
          }),
        ),
      );
    const { resourceVersion: former } = (await plane.store.list('Sandbox')) as { resourceVersion: string };
    await plane.server.stopApi('SIGKILL');
    await plane.server.restore(snapshot);
    await plane.server.startApi();
    await plane.restartPrograms();
    const { resourceVersion: restored } = await plane.store.list('Sandbox');
    assert.ok(BigInt(restored) < BigInt(former), `${restored} is not before ${former}`);
    // What was made after the snapshot never was; what was removed after it is there.
    wanted.delete(forgotten);
    wanted.add(back);
    await create(2);
    const ms = await converged();
    assert.equal(fleet.running(uid).length, 0);
    told(
      t,
      `versions from ${former} back to ${restored}; all is well ${Math.round(ms)} ms after it was back`,
    );
  });

  it('are led by another controller when the leader is killed', async (t) => {
    began = performance.now();
    const kills = rounds('BULKHEAD_LEADER_KILLS', { short: 3, soak: 50 });
    const times: number[] = [];
    for (let kill = 0; kill < kills; kill += 1) {
      await plane.until(
        () => fleet.leader !== undefined,
        CONVERGE_MS,
        () => 'nobody leads',
      );
      const leader = fleet.leader;
      // In the midst of placing.
      const names = await create(3);
      await leader?.end('SIGKILL');
      const from = performance.now();
      await fleet.startController();
      await converged();
      times.push(performance.now() - from);
      await remove(names);
    }
    await converged();
    times.sort((a, b) => a - b);
    const [first = 0, last = 0] = [times[0], times.at(-1)];
    told(t, `${kills} leaders killed; until all was well ${Math.round(first)} to ${Math.round(last)} ms`);
  });

  it('never ran two VMs of a sandbox, began none of the survivors anew, and took no node for lost', async () => {
    assertNoDoubles(fleet);
    const survivors = plane.sandboxes
      .list('default')
      .filter(({ metadata }) => metadata.name.startsWith('survivor'));
    assert.equal(survivors.length, SURVIVORS);
    for (const { metadata } of survivors)
      assert.equal(fleet.runs.get(metadata.uid)?.length, 1, `${metadata.name} was started anew`);
    assert.deepEqual([...lost], []);
    const leases = await Promise.all(
      Object.keys(SKEWS).map((node) =>
        plane.store.get({ kind: 'Lease', namespace: 'bulkhead-system', name: `node-${node}` }),
      ),
    );
    const renewed = leases.map((lease) => {
      const { renewTime } = (lease?.spec ?? {}) as { renewTime?: string };
      return Date.parse(renewTime ?? '');
    });
    const apart = Math.max(...renewed) - Math.min(...renewed);
    assert.ok(apart > 17 * 60_000, `the clocks of the nodes are ${apart} ms apart`);
  });
});
