// The store of a cluster against the suite that every store passes, on a real API server with its garbage collector.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ApiClient } from '../../src/store/cluster/api-client.ts';
import { ClusterStore } from '../../src/store/cluster/cluster-store.ts';
import { findApiServer } from '../../src/store/cluster/kube-config.ts';
import { testStoreContract } from '../../src/store/store.contract.ts';
import { TestCluster } from './cluster.ts';

const PORT = 21_443;

let cluster: TestCluster;
let client: ApiClient;

before(async () => {
  cluster = await TestCluster.start({ port: PORT });
  client = new ApiClient(await findApiServer({ kubeconfig: cluster.kubeconfig }));
  await cluster.ask('create', 'namespace', 'other');
  await cluster.apply([looseCrd('Sandbox', 'sandboxes'), looseCrd('Volume', 'volumes')].join('\n---\n'));
  await cluster.ask('wait', '--for=condition=Established', 'crd', '--all', '--timeout=30s');
});

after(() => cluster?.[Symbol.asyncDispose]());

/** The suite is of what a store does with objects; their schema is the matter of other tests. */
function looseCrd(kind: string, plural: string): string {
  const free = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  return JSON.stringify({
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.bulkhead.dev` },
    spec: {
      group: 'bulkhead.dev',
      scope: 'Namespaced',
      names: { kind, plural, singular: kind.toLowerCase() },
      versions: [
        {
          name: 'v1alpha1',
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: { openAPIV3Schema: { type: 'object', properties: { spec: free, status: free } } },
        },
      ],
    },
  });
}

function openStore(): ClusterStore {
  return new ClusterStore({
    client,
    fieldManager: 'bulkhead-test',
    events: { controller: 'bulkhead.dev/test', instance: 'test' },
  });
}

/** Leaves the cluster as a new store would be. */
async function empty(): Promise<void> {
  const store = openStore();
  for (const kind of ['Sandbox', 'Volume', 'Secret']) {
    for (const { metadata } of (await store.list(kind)).items) {
      const key = { kind, namespace: metadata.namespace, name: metadata.name };
      if (metadata.finalizers !== undefined) await store.patch(key, { metadata: { finalizers: [] } });
      await store.delete(key).catch(() => undefined);
    }
  }
  await cluster.ask('delete', 'events.events.k8s.io', '--all', '--all-namespaces');
  await store.close();
}

testStoreContract('cluster store', async () => {
  const store = openStore();
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store.close();
      await empty();
    },
  };
});

test('cluster store: a status holds what other writers put there', async () => {
  const store = openStore();
  const other = new ClusterStore({
    client,
    fieldManager: 'someone-else',
    events: { controller: 'bulkhead.dev/test', instance: 'test' },
  });
  await store.create({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name: 'apple' },
    spec: {},
  });
  const key = { kind: 'Sandbox', namespace: 'default', name: 'apple' };
  await other.updateStatus(key, { nodeName: 'node0' });
  await store.updateStatus(key, { phase: 'Running', restarts: 1 });
  const { status } = await store.updateStatus(key, { phase: 'Running' });
  assert.deepEqual(status, { nodeName: 'node0', phase: 'Running' });
  await empty();
});
