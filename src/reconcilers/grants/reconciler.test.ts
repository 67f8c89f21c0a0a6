// Which objects a node is given to read for a sandbox.
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import type { StoredObject } from '../../api/meta.ts';
import { storedObject } from '../../controller/testing/fake-store.ts';
import { sandboxManifest } from '../testing/world.ts';
import { GrantReconciler } from './reconciler.ts';

const KEY = { kind: 'Sandbox', namespace: 'default', name: 'agent' };
const SPEC = {
  env: [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'settings', key: 'a' } } }],
  imagePullSecrets: [{ name: 'registry' }],
  volumes: [
    { name: 'files', secret: { secretName: 'files', name: 'files' } },
    { name: 'disk', volume: { name: 'disk' } },
  ],
};

let sandboxes: StoredObject[];
let policies: StoredObject[];
let calls: string[];
let reconciler: GrantReconciler;

beforeEach(() => {
  sandboxes = [];
  policies = [];
  calls = [];
  const cache = (objects: () => StoredObject[]) => ({
    get: (_namespace: string, name: string) => objects().find(({ metadata }) => metadata.name === name),
    list: () => objects(),
  });
  reconciler = new GrantReconciler(
    {
      grant: async (_sandbox, nodeName, keys) => {
        calls.push(`grant ${nodeName}: ${keys.map(({ kind, name }) => `${kind} ${name}`).join(', ')}`);
      },
      revoke: async () => void calls.push('revoke'),
      forget: () => void calls.push('forget'),
    },
    { sandboxes: cache(() => sandboxes), policies: cache(() => policies) },
  );
});

function sandbox(spec: Record<string, unknown>, nodeName?: string): StoredObject {
  const manifest = sandboxManifest('agent', spec, { labels: { app: 'web' } });
  return {
    ...storedObject('agent', 1),
    ...manifest,
    status: { nodeName },
  } as StoredObject;
}

function policy(selector: Record<string, string>): StoredObject {
  const upstreamCAs = [{ secretKeyRef: { name: 'authority', key: 'ca.crt' } }];
  const spec = { sandboxSelector: { matchLabels: selector }, tls: { upstreamCAs } };
  return { ...storedObject('p', 1), spec };
}

async function reconcile(): Promise<string[]> {
  calls = [];
  assert.deepEqual(await reconciler.reconcile(KEY), { type: 'done' });
  return calls;
}

test('a node may read what its sandbox names, and what policies that select it name', async () => {
  sandboxes = [sandbox(SPEC, 'node1')];
  policies = [policy({ app: 'web' }), policy({ app: 'other' })];
  assert.deepEqual(await reconcile(), [
    'grant node1: ConfigMap settings, Secret registry, Secret files, Secret authority',
  ]);
});

test('nobody may read anything for a sandbox without a node, or that names nothing', async () => {
  sandboxes = [sandbox(SPEC)];
  assert.deepEqual(await reconcile(), ['revoke']);
  sandboxes = [sandbox({}, 'node1')];
  assert.deepEqual(await reconcile(), ['revoke']);
  sandboxes = [];
  assert.deepEqual(await reconcile(), ['forget']);
});
