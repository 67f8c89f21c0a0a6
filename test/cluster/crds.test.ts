// What users and programs get from our crds/ in a real API server: accepted as they are, explained, listed, selected.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { load } from 'js-yaml';
import { COLUMNS } from '../../src/api/columns.ts';
import { CRD_KINDS } from '../../src/api/crd/crd.ts';
import type { StoredObject } from '../../src/api/meta.ts';
import type { DefaultedSandboxSpec } from '../../src/api/sandbox.ts';
import { isRecord } from '../../src/api/validation/structural.ts';
import { ApiServer } from './api-server.ts';

const API = '/apis/bulkhead.dev/v1alpha1';
const SANDBOXES = `${API}/namespaces/default/sandboxes`;

const CRDS = join(import.meta.dirname, '..', '..', 'crds');

interface Crd {
  spec: {
    versions: {
      schema: {
        openAPIV3Schema: {
          properties: Record<string, { properties: Record<string, unknown>; default?: unknown }>;
        };
      };
    }[];
  };
}

let server: ApiServer;

before(async () => {
  server = await ApiServer.start();
  await server.applyCrds();
});
after(async () => {
  await server[Symbol.asyncDispose]();
});

async function get<T>(path: string): Promise<T> {
  const { status, body } = await server.request(path);
  assert.equal(status, 200, `${path}: ${JSON.stringify(body)}`);
  return body as T;
}

function sandbox(name: string, spec: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name },
    spec: { image: 'busybox', ...spec },
  };
}

async function create(name: string, spec?: Record<string, unknown>): Promise<void> {
  const { status, body } = await server.request(SANDBOXES, { method: 'POST', body: sandbox(name, spec) });
  assert.equal(status, 201, JSON.stringify(body));
}

async function setStatus(name: string, status: Record<string, unknown>): Promise<void> {
  const response = await server.request(`${SANDBOXES}/${name}/status`, {
    method: 'PATCH',
    contentType: 'application/merge-patch+json',
    body: { status },
  });
  assert.equal(response.status, 200, JSON.stringify(response.body));
}

test('the server finds the schemas structural and stores them as they are', async () => {
  for (const { kind } of CRD_KINDS) {
    const crd = await get<{ status: { conditions: { type: string; status: string; message: string }[] } }>(
      `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${kind.plural}.${kind.group}`,
    );
    const wrong = crd.status.conditions.filter(({ type, status }) =>
      type === 'NonStructuralSchema' ? status === 'True' : status !== 'True',
    );
    assert.deepEqual(wrong, []);
  }
});

test('discovery has names, short names, category, and status as the only subresource', async () => {
  const { resources } = await get<{
    resources: { name: string; kind: string; shortNames?: string[]; categories?: string[] }[];
  }>(API);
  for (const { kind } of CRD_KINDS) {
    const row = resources.find(({ name }) => name === kind.plural);
    assert.deepEqual(row?.shortNames, [...kind.shortNames]);
    assert.deepEqual(row?.categories, ['bulkhead']);
    const parts = resources.map(({ name }) => name).filter((name) => name.startsWith(`${kind.plural}/`));
    assert.deepEqual(parts, [`${kind.plural}/status`]);
  }
});

interface Explained {
  description?: string;
  properties?: Record<string, Explained>;
  items?: Explained;
}

function* undescribed(schema: Explained, path: string): Generator<string> {
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    if (path === '' && name === 'metadata') continue;
    if ((child.description ?? '') === '') yield `${path}.${name}`;
    yield* undescribed(child, `${path}.${name}`);
  }
  if (schema.items !== undefined) yield* undescribed(schema.items, `${path}[]`);
}

test('kubectl explain has a description for every field: the published OpenAPI does', async () => {
  const { components } = await get<{ components: { schemas: Record<string, Explained> } }>(
    '/openapi/v3/apis/bulkhead.dev/v1alpha1',
  );
  for (const { kind } of CRD_KINDS) {
    const schema = components.schemas[`dev.bulkhead.v1alpha1.${kind.kind}`];
    assert.ok(schema?.properties?.spec?.properties !== undefined, `${kind.kind} is not published`);
    assert.deepEqual([...undescribed(schema, '')], []);
  }
});

test('kubectl get shows the columns of our own command line, with their values', async () => {
  await create('columns', { resources: { cpus: 2 } });
  await setStatus('columns', {
    phase: 'Running',
    nodeName: 'node-a',
    restarts: 3,
    network: { address: '10.77.0.2' },
    vm: { driver: 'software', bootMilliseconds: 87 },
    conditions: [
      {
        type: 'Ready',
        status: 'True',
        reason: 'Running',
        message: '',
        lastTransitionTime: '2026-01-01T00:00:00Z',
        observedGeneration: 1,
      },
    ],
  });
  const response = await server.request(`${SANDBOXES}?fieldSelector=metadata.name%3Dcolumns`, {
    accept: 'application/json;as=Table;v=v1;g=meta.k8s.io',
  });
  const table = response.body as {
    columnDefinitions: { name: string; priority: number }[];
    rows: { cells: unknown[] }[];
  };
  assert.deepEqual(
    table.columnDefinitions.map(({ name, priority }) => [name, priority]),
    [['Name', 0], ...COLUMNS.Sandbox.map(({ name, wide }) => [name, wide === true ? 1 : 0])],
  );
  const cells = table.rows[0]?.cells ?? [];
  const byName = new Map(table.columnDefinitions.map(({ name }, index) => [name, cells[index]]));
  byName.delete('AGE');
  assert.deepEqual(Object.fromEntries(byName), {
    Name: 'columns',
    READY: 'True',
    STATUS: 'Running',
    IMAGE: 'busybox',
    NODE: 'node-a',
    CPUS: 2,
    MEMORY: '512Mi',
    IP: '10.77.0.2',
    'BOOT-MS': 87,
    RESTARTS: 3,
    DRIVER: 'software',
    REASON: 'Running',
  });
});

test('sandboxes are selected by node and phase, as a node agent asks for its own', async () => {
  await create('mine');
  await create('other');
  await create('nobodys');
  await setStatus('mine', { nodeName: 'node-mine', phase: 'Starting' });
  await setStatus('other', { nodeName: 'node-other', phase: 'Starting' });
  const named = async (selector: string) => {
    const list = await get<{ items: { metadata: { name: string } }[] }>(
      `${API}/sandboxes?fieldSelector=${encodeURIComponent(selector)}`,
    );
    return list.items.map(({ metadata }) => metadata.name).sort();
  };
  assert.deepEqual(await named('status.nodeName=node-mine'), ['mine']);
  assert.deepEqual(await named('status.phase=Starting,status.nodeName!=node-mine'), ['other']);
  assert.deepEqual(await named('status.nodeName=,metadata.name=nobodys'), ['nobodys']);
});

test('volumes are selected by node too', async () => {
  const volumes = `${API}/namespaces/default/volumes`;
  const body = {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Volume',
    metadata: { name: 'here' },
    spec: { capacity: '1Gi' },
  };
  assert.equal((await server.request(volumes, { method: 'POST', body })).status, 201);
  const { status } = await server.request(`${volumes}/here/status`, {
    method: 'PATCH',
    contentType: 'application/merge-patch+json',
    body: { status: { nodeName: 'node-here' } },
  });
  assert.equal(status, 200);
  const names = async (node: string) => {
    const list = await get<{ items: { metadata: { name: string } }[] }>(
      `${API}/volumes?fieldSelector=status.nodeName%3D${node}`,
    );
    return list.items.map(({ metadata }) => metadata.name);
  };
  assert.deepEqual(await names('node-here'), ['here']);
  assert.deepEqual(await names('node-there'), []);
});

test('spec and status have writers of their own, and generation moves with the spec alone', async () => {
  await create('apart');
  await setStatus('apart', { phase: 'Running' });
  interface Stored {
    metadata: { generation: number; resourceVersion: string };
    spec: Record<string, unknown>;
    status?: { phase?: string };
  }
  const before = await get<Stored>(`${SANDBOXES}/apart`);
  assert.equal(before.metadata.generation, 1);
  const put = (change: Partial<Stored>) =>
    server.request(`${SANDBOXES}/apart`, { method: 'PUT', body: { ...before, ...change } });
  const response = await put({ spec: { ...before.spec, hostname: 'b' }, status: { phase: 'Failed' } });
  assert.equal(response.status, 200);
  const after = await get<Stored>(`${SANDBOXES}/apart`);
  assert.equal(after.metadata.generation, 2);
  assert.equal(after.status?.phase, 'Running');
});

test('a status that the schema does not know is refused, and one that it does is not', async () => {
  await create('reported');
  const wrong = await server.request(`${SANDBOXES}/reported/status?fieldValidation=Strict`, {
    method: 'PATCH',
    contentType: 'application/merge-patch+json',
    body: { status: { phase: 'Dreaming' } },
  });
  assert.equal(wrong.status, 422);
});

test('two writers apply items of one list by their keys, and each keeps its own', async () => {
  const apply = (manager: string, env: unknown[]) =>
    server.request(`${SANDBOXES}/shared?fieldManager=${manager}`, {
      method: 'PATCH',
      contentType: 'application/apply-patch+yaml',
      body: sandbox('shared', { env }),
    });
  assert.equal((await apply('one', [{ name: 'A', value: '1' }])).status, 201);
  assert.equal((await apply('two', [{ name: 'B', value: '2' }])).status, 200);
  assert.equal((await apply('one', [{ name: 'C', value: '3' }])).status, 200);
  const { spec } = await get<{ spec: { env: { name: string }[] } }>(`${SANDBOXES}/shared`);
  assert.deepEqual(spec.env.map(({ name }) => name).sort(), ['B', 'C']);
  const conflict = await apply('two', [
    { name: 'B', value: '2' },
    { name: 'C', value: 'x' },
  ]);
  assert.equal(conflict.status, 409);
  assert.ok(isRecord(conflict.body));
});

test('CRDs of a former version are replaced, and what they stored stays valid', async () => {
  const former = await mkdtemp(join(tmpdir(), 'bulkhead-crds-'));
  try {
    const file = 'bulkhead.dev_sandboxes.yaml';
    const crd = load(await readFile(join(CRDS, file), 'utf8')) as Crd;
    const [version] = crd.spec.versions;
    const { spec, status } = version?.schema.openAPIV3Schema.properties ?? {};
    delete spec?.properties.scheduling;
    delete status?.default;
    await writeFile(join(former, file), JSON.stringify(crd));
    await server.applyCrds(former);
    await create('former');
    const before = await get<StoredObject>(`${SANDBOXES}/former`);
    assert.equal(before.status, undefined);

    await server.applyCrds();
    const kept = await get<StoredObject>(`${SANDBOXES}/former`);
    assert.deepEqual(kept, { ...before, status: { observedGeneration: -1 } });
    await create('later', { scheduling: { nodeSelector: { disk: 'fast' } } });
    const { spec: stored } = await get<StoredObject>(`${SANDBOXES}/later`);
    assert.deepEqual((stored as DefaultedSandboxSpec).scheduling, { nodeSelector: { disk: 'fast' } });
  } finally {
    await rm(former, { recursive: true, force: true });
  }
});
