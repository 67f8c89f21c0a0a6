// Policies of a cluster, counted from what nodes say of their sandboxes.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedNetworkPolicy, NetworkPolicyStatus } from '../../api/networkpolicy.ts';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { closedPolicy, compilePolicies, revisionOf, revisionsDigest } from '../../network/policy/compile.ts';
import { policy as policySource } from '../../network/testing/policies.ts';
import { EmbeddedStore } from '../../store/embedded/embedded-store.ts';
import { temporaryDirectory } from '../../store/embedded/testing.ts';
import { sandboxKey, sandboxManifest } from '../testing/world.ts';
import { PolicySummaryReconciler } from './summary.ts';

let dir: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: EmbeddedStore;
const clock = new FakeClock();

beforeEach(async () => {
  dir = await temporaryDirectory();
  store = EmbeddedStore.open({ path: `${dir.path}/store.db` });
});

afterEach(async () => {
  await store.close();
  await dir[Symbol.asyncDispose]();
});

async function policy(name: string): Promise<DefaultedNetworkPolicy> {
  const spec = { ...policySource({}).spec, sandboxSelector: { matchLabels: { team: 'a' } } };
  const metadata = { name, namespace: 'default' };
  const made = await store.create({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'NetworkPolicy',
    metadata,
    spec,
  });
  return made as DefaultedNetworkPolicy;
}

/** What a node says of a sandbox in whose gateway these policies are in force. */
async function runs(
  name: string,
  nodeName: string,
  inForce: readonly DefaultedNetworkPolicy[],
): Promise<void> {
  const sources = inForce.map(({ metadata, spec }) => ({
    ...{ namespace: 'default', name: metadata.name, spec, revision: revisionOf(metadata) },
  }));
  const effective = compilePolicies(sources, { namespace: 'default', labels: { team: 'a' } });
  const network = { address: '192.0.2.2', policiesDigest: revisionsDigest(effective.policies) };
  await store.updateStatus(sandboxKey(name), { nodeName, network });
}

async function counted(name: string): Promise<NetworkPolicyStatus> {
  const objects = await Promise.all(
    ['Sandbox', 'NetworkPolicy'].map(async (kind) => (await store.list(kind)).items),
  );
  const cache = (items: readonly StoredObject[] = []) => ({
    get: (_namespace: string, wanted: string) => items.find(({ metadata }) => metadata.name === wanted),
    list: () => [...items],
  });
  const caches = { sandboxes: cache(objects[0]), policies: cache(objects[1]) };
  const key = { kind: 'NetworkPolicy', namespace: 'default', name };
  await new PolicySummaryReconciler(store, clock, caches).reconcile(key);
  return (await store.get(key))?.status as NetworkPolicyStatus;
}

function told({ selected, programmed, conditions = [] }: NetworkPolicyStatus): unknown[] {
  const state = conditions.find(({ type }) => type === 'Programmed')?.status;
  return [selected, programmed, state];
}

test('a policy counts the sandboxes of all nodes in which its present state is in force', async () => {
  const former = await policy('egress');
  for (const name of ['one', 'two', 'three', 'unselected'])
    await store.create(sandboxManifest(name, {}, name === 'unselected' ? {} : { labels: { team: 'a' } }));
  assert.deepEqual(told(await counted('egress')), [3, 0, 'True'], 'nothing has a network yet');
  await runs('one', 'node1', [former]);
  await runs('two', 'node2', [former]);
  assert.deepEqual(told(await counted('egress')), [3, 2, 'True']);

  const spec = { ...former.spec, limits: { maxConnections: 7 } };
  const changed = (await store.update({
    ...former,
    metadata: { name: 'egress', namespace: 'default' },
    spec,
  })) as DefaultedNetworkPolicy;
  assert.deepEqual(told(await counted('egress')), [3, 0, 'False']);
  await runs('two', 'node2', [changed]);
  const status = await counted('egress');
  assert.deepEqual(told(status), [3, 1, 'False']);
  assert.match(JSON.stringify(status.conditions), /In force in 1 of 2 sandboxes/);
  await runs('one', 'node1', [changed]);
  assert.deepEqual(told(await counted('egress')), [3, 2, 'True']);
});

test('a sandbox counts only where all policies that select it are in force', async () => {
  const first = await policy('a');
  await store.create(sandboxManifest('one', {}, { labels: { team: 'a' } }));
  await runs('one', 'node1', [first]);
  const second = await policy('b');
  assert.deepEqual(
    [told(await counted('a')), told(await counted('b'))],
    [
      [1, 0, 'False'],
      [1, 0, 'False'],
    ],
  );
  await runs('one', 'node1', [second, first]);
  assert.deepEqual(
    [told(await counted('a')), told(await counted('b'))],
    [
      [1, 1, 'True'],
      [1, 1, 'True'],
    ],
  );
});

test('a sandbox that is closed, as its node cannot read what a policy refers to, does not count', async () => {
  await policy('egress');
  await store.create(sandboxManifest('one', {}, { labels: { team: 'a' } }));
  const { policies } = closedPolicy('default/egress');
  const network = { address: '192.0.2.2', policiesDigest: revisionsDigest(policies) };
  await store.updateStatus(sandboxKey('one'), { nodeName: 'node1', network });
  assert.deepEqual(told(await counted('egress')), [1, 0, 'False']);
});
