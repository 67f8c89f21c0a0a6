// Where connections of Services go that select sandboxes.
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import type { StoredObject } from '../../api/meta.ts';
import { storedObject } from '../../controller/testing/fake-store.ts';
import { sandboxManifest } from '../testing/world.ts';
import type { SandboxEndpoints } from './endpoints.ts';
import { ServiceReconciler } from './reconciler.ts';

const KEY = { kind: 'Service', namespace: 'default', name: 'web' };
const PORTS = [{ name: 'http', port: 8000, hostIP: '0.0.0.0' }];

let services: StoredObject[];
let sandboxes: StoredObject[];
let written: readonly SandboxEndpoints[];
let reconciler: ServiceReconciler;

beforeEach(() => {
  const node = {
    ...storedObject('node1', 1),
    status: { addresses: [{ type: 'InternalIP', address: '10.0.0.1' }] },
  };
  const cache = (objects: () => StoredObject[]) => ({
    get: (_namespace: string, name: string) => objects().find(({ metadata }) => metadata.name === name),
    list: () => objects(),
  });
  written = [];
  reconciler = new ServiceReconciler(
    {
      set: async (_service, endpoints) => {
        written = endpoints;
      },
      forget: () => undefined,
    },
    { services: cache(() => services), sandboxes: cache(() => sandboxes), nodes: cache(() => [node]) },
  );
});

function service(
  selector: string | undefined,
  spec: object = { ports: [{ port: 80, targetPort: 'http' }] },
): StoredObject {
  const annotations = selector === undefined ? {} : { 'bulkhead.dev/sandbox-selector': selector };
  return { ...storedObject('web', 1, { annotations }), kind: 'Service', spec };
}

function sandbox(
  name: string,
  hostPort: number | undefined,
  more: { ready?: string; hostIP?: string } = {},
): StoredObject {
  const { ready = 'True', hostIP = '0.0.0.0' } = more;
  const manifest = sandboxManifest(name, { ports: PORTS }, { labels: { app: 'web', tier: 'front' } });
  const status = {
    ...{ nodeName: 'node1', conditions: [{ type: 'Ready', status: ready }] },
    network: { ports: hostPort === undefined ? [] : [{ name: 'http', hostIP, hostPort }] },
  };
  const object = storedObject(name, 1);
  return {
    ...object,
    ...manifest,
    metadata: { ...object.metadata, ...manifest.metadata },
    status,
  } as StoredObject;
}

async function endpoints(): Promise<string[]> {
  assert.deepEqual(await reconciler.reconcile(KEY), { type: 'done' });
  return written.map(({ sandbox: { metadata }, address, ports, ready }) => {
    const reached = ports.map(({ port, protocol }) => `${protocol} ${address}:${port}`);
    return `${metadata.name} ${reached.join(' ')} ${ready ? 'ready' : 'not ready'}`;
  });
}

test('each sandbox that it selects is reached at the port that its node publishes, by name or number', async () => {
  sandboxes = [sandbox('one', 31_000), sandbox('two', 31_001, { ready: 'False' })];
  services = [service('app=web, tier=front')];
  const expected = ['one TCP 10.0.0.1:31000 ready', 'two TCP 10.0.0.1:31001 not ready'];
  assert.deepEqual(await endpoints(), expected);
  services = [service('app=web', { ports: [{ port: 8000 }] })];
  assert.deepEqual(await endpoints(), expected);
  assert.deepEqual(reconciler.servicesOf(sandbox('one', 1)), [KEY]);
});

test('what is published for its own node alone, not at all, or on another address is not reached there', async () => {
  services = [service('app=web')];
  sandboxes = [sandbox('local', 31_000, { hostIP: '127.0.0.1' }), sandbox('starting', undefined)];
  assert.deepEqual(await endpoints(), []);
  sandboxes = [sandbox('own', 31_000, { hostIP: '192.0.2.7' })];
  assert.deepEqual(await endpoints(), ['own TCP 192.0.2.7:31000 ready']);
});

test('a Service that says nothing, cannot be read, or selects Pods selects no sandbox', async () => {
  sandboxes = [sandbox('one', 31_000)];
  const ports = [{ port: 80, targetPort: 'http' }];
  for (const each of [
    service(undefined),
    service(''),
    service('app'),
    service('app=web,tier'),
    service('app=other'),
    service('app=web', { selector: { app: 'web' }, ports }),
  ]) {
    services = [each];
    assert.deepEqual(await endpoints(), []);
    assert.deepEqual(reconciler.servicesOf(sandbox('one', 1)), []);
  }
});
