import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND, SECRET_KIND } from '../api/kinds.ts';
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import { DaemonEndpoint } from '../client/endpoint.ts';
import { Transport } from '../client/transport.ts';
import { sandboxDocument, startHarness } from './testing/harness.ts';

const COLLECTION = '/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes';

function failsWith(code: string, pattern?: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof BulkheadError, String(error));
    assert.equal(error.code, code);
    if (pattern) assert.match(error.message, pattern);
    return true;
  };
}

test('an applied sandbox is created with its defaults, and configured the second time', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  const first = await client.apply(SANDBOX_KIND, 'default', sandboxDocument('a') as ObjectManifest);
  assert.equal(first.created, true);
  assert.equal((first.object.spec as { restartPolicy?: string }).restartPolicy, 'Never');
  assert.equal(first.object.metadata.generation, 1);
  const again = await client.apply(SANDBOX_KIND, 'default', sandboxDocument('a') as ObjectManifest);
  assert.equal(again.created, false);
  assert.equal(again.object.metadata.resourceVersion, first.object.metadata.resourceVersion);
  const changed = await client.apply(
    SANDBOX_KIND,
    'default',
    sandboxDocument('a', { hostname: 'other' }) as ObjectManifest,
  );
  assert.equal(changed.object.metadata.generation, 2);
});

test('apply keeps finalizers that a controller set', async () => {
  await using harness = await startHarness();
  const { client, store } = harness;
  await client.apply(SANDBOX_KIND, 'default', sandboxDocument('a') as ObjectManifest);
  await store.patch(
    { kind: 'Sandbox', namespace: 'default', name: 'a' },
    { metadata: { finalizers: ['bulkhead.dev/vm'] } },
  );
  const { object } = await client.apply(
    SANDBOX_KIND,
    'default',
    sandboxDocument('a', { hostname: 'x' }) as ObjectManifest,
  );
  assert.deepEqual(object.metadata.finalizers, ['bulkhead.dev/vm']);
});

test('an invalid object is refused with one cause per field', async () => {
  await using harness = await startHarness();
  const document = sandboxDocument('a', { resources: { cpus: 'two' }, hostnme: 'x' });
  await assert.rejects(harness.client.create(SANDBOX_KIND, 'default', document), (error) => {
    assert.ok(error instanceof BulkheadError);
    assert.equal(error.code, 'INVALID');
    assert.deepEqual(error.causes.map(({ field }) => field).sort(), ['spec.hostnme', 'spec.resources.cpus']);
    return true;
  });
});

test('a dry run validates and writes nothing', async () => {
  await using harness = await startHarness();
  const { client, store } = harness;
  const { object, created } = await client.apply(
    SANDBOX_KIND,
    'default',
    sandboxDocument('a') as ObjectManifest,
    { dryRun: true },
  );
  assert.equal(created, true);
  assert.equal((object.spec as { restartPolicy?: string }).restartPolicy, 'Never');
  assert.equal((await store.list('Sandbox')).items.length, 0);
});

test('a body that names another object than the URL is refused', async () => {
  await using harness = await startHarness();
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  const put = (body: unknown) => transport.request('PUT', `${COLLECTION}/a`, { body });
  await assert.rejects(put(sandboxDocument('b')), failsWith('BAD_REQUEST', /name/));
  await assert.rejects(put({ ...sandboxDocument('a'), kind: 'Volume' }), failsWith('BAD_REQUEST', /kind/));
  await assert.rejects(
    put({ ...sandboxDocument('a'), metadata: { name: 'a', namespace: 'other' } }),
    failsWith('BAD_REQUEST', /namespace/),
  );
  transport.close();
});

test('a replacement must name the version that it replaces, and loses against a newer one', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  const created = await client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const manifest = sandboxDocument('a', { hostname: 'x' }) as ObjectManifest;
  await assert.rejects(client.replace(SANDBOX_KIND, 'default', manifest), failsWith('INVALID'));
  const { resourceVersion } = created.metadata;
  const versioned = { ...manifest, metadata: { ...manifest.metadata, resourceVersion } };
  const replaced = await client.replace(SANDBOX_KIND, 'default', versioned);
  assert.equal((replaced.spec as { hostname: string }).hostname, 'x');
  await assert.rejects(client.replace(SANDBOX_KIND, 'default', versioned), failsWith('CONFLICT'));
});

test('a merge patch changes what it names, and is validated as a whole', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('a', {}, { team: 'x' }));
  const patched = await client.patch(SANDBOX_KIND, 'default', 'a', {
    metadata: { labels: { team: null, tier: 'dev' } },
    spec: { operatingMode: 'Suspended' },
  });
  assert.deepEqual(patched.metadata.labels, { tier: 'dev' });
  assert.equal((patched.spec as { operatingMode: string }).operatingMode, 'Suspended');
  await assert.rejects(
    client.patch(SANDBOX_KIND, 'default', 'a', { spec: { operatingMode: 'Sleeping' } }),
    failsWith('INVALID', /operatingMode/),
  );
  await assert.rejects(
    client.patch(SANDBOX_KIND, 'default', 'a', { spec: { image: 'other:1' } }),
    failsWith('INVALID', /image/),
  );
});

test('merge patches that race all take effect', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const keys = ['a', 'b', 'c', 'd', 'e'];
  await Promise.all(
    keys.map((key) =>
      client.patch(SANDBOX_KIND, 'default', 'a', { metadata: { annotations: { [key]: 'set' } } }),
    ),
  );
  const { metadata } = await client.get(SANDBOX_KIND, 'default', 'a');
  assert.deepEqual(Object.keys(metadata.annotations ?? {}).sort(), keys);
});

test('a patch of another content type is 415, another method 405, an unknown path 404', async () => {
  await using harness = await startHarness();
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  await assert.rejects(
    transport.request('PATCH', `${COLLECTION}/a`, { body: [], contentType: 'application/json-patch+json' }),
    failsWith('UNSUPPORTED_MEDIA_TYPE'),
  );
  await assert.rejects(
    transport.request('PATCH', `${COLLECTION}/a`, { body: {} }),
    failsWith('UNSUPPORTED_MEDIA_TYPE'),
  );
  await assert.rejects(
    transport.request('POST', `${COLLECTION}/a`, { body: {} }),
    failsWith('METHOD_NOT_ALLOWED'),
  );
  await assert.rejects(transport.request('GET', '/apis/nobody/v1/things'), failsWith('NOT_FOUND'));
  await assert.rejects(transport.request('GET', `${COLLECTION}/b`), failsWith('NOT_FOUND', /"b" not found/));
  transport.close();
});

test('a body that is too large or no document is refused', async () => {
  await using harness = await startHarness();
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  const body = { ...sandboxDocument('a'), metadata: { name: 'a', annotations: { x: 'y'.repeat(4 << 20) } } };
  await assert.rejects(transport.request('POST', COLLECTION, { body }), failsWith('TOO_LARGE'));
  await assert.rejects(transport.request('POST', COLLECTION, { body: 'text' }), failsWith('BAD_REQUEST'));
  await assert.rejects(transport.request('POST', COLLECTION), failsWith('BAD_REQUEST'));
  transport.close();
});

test('deleting an object with finalizers marks it, without them removes it', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  const document = sandboxDocument('held');
  await client.create(SANDBOX_KIND, 'default', {
    ...document,
    metadata: { ...document.metadata, finalizers: ['bulkhead.dev/vm'] },
  });
  const held = (await client.delete(SANDBOX_KIND, 'default', 'held', {
    gracePeriodSeconds: 3,
  })) as StoredObject;
  assert.ok(held.metadata.deletionTimestamp);
  assert.equal((held.spec as { terminationGracePeriodSeconds: number }).terminationGracePeriodSeconds, 3);
  const free = await client.create(SANDBOX_KIND, 'default', sandboxDocument('free'));
  await assert.rejects(
    client.delete(SANDBOX_KIND, 'default', 'free', { preconditions: { uid: 'another' } }),
    failsWith('CONFLICT'),
  );
  const status = await client.delete(SANDBOX_KIND, 'default', 'free', {
    preconditions: { uid: free.metadata.uid },
  });
  assert.equal(status.kind, 'Status');
  await assert.rejects(client.get(SANDBOX_KIND, 'default', 'free'), failsWith('NOT_FOUND'));
});

test('a collection is deleted by label', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('a', {}, { team: 'x' }));
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('b'));
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  await transport.request('DELETE', COLLECTION, { query: { labelSelector: 'team=x' } });
  transport.close();
  const { items } = await client.list(SANDBOX_KIND);
  assert.deepEqual(
    items.map(({ metadata }) => metadata.name),
    ['b'],
  );
});

test('lists select by namespace, label and field, and refuse a limit that is none', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('a', {}, { team: 'x' }));
  await client.create(SANDBOX_KIND, 'other', sandboxDocument('b', {}, { team: 'y' }));
  const names = async (query: object) =>
    (await client.list(SANDBOX_KIND, query)).items.map(({ metadata }) => metadata.name).sort();
  assert.deepEqual(await names({}), ['a', 'b']);
  assert.deepEqual(await names({ namespace: 'other' }), ['b']);
  assert.deepEqual(await names({ labelSelector: 'team!=y' }), ['a']);
  assert.deepEqual(await names({ fieldSelector: 'metadata.name=b' }), ['b']);
  await assert.rejects(names({ labelSelector: 'team=(' }), failsWith('BAD_REQUEST'));
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  await assert.rejects(
    transport.request('GET', COLLECTION, { query: { limit: '-1' } }),
    failsWith('BAD_REQUEST', /limit/),
  );
  transport.close();
});

test('status has a path of its own and never moves the generation', async () => {
  await using harness = await startHarness();
  const { client } = harness;
  await client.create(SANDBOX_KIND, 'default', { ...sandboxDocument('a'), status: { phase: 'Running' } });
  assert.equal((await client.get(SANDBOX_KIND, 'default', 'a')).status, undefined);
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  const { body } = await transport.request<StoredObject>('PATCH', `${COLLECTION}/a/status`, {
    body: { status: { phase: 'Running' } },
    contentType: 'application/merge-patch+json',
  });
  assert.deepEqual(body.status, { phase: 'Running' });
  assert.equal(body.metadata.generation, 1);
  transport.close();
});

test('Secrets are served from the core group with their values, as kubectl sees them', async () => {
  await using harness = await startHarness();
  await harness.client.create(SECRET_KIND, 'default', {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 's' },
    stringData: { token: 'hunter2' },
  });
  const secret = await harness.client.get(SECRET_KIND, 'default', 's');
  assert.equal(secret.apiVersion, 'v1');
  assert.deepEqual(secret.data, { token: Buffer.from('hunter2').toString('base64') });
});

test('a prefix becomes a generated name', async () => {
  await using harness = await startHarness();
  const document = { ...sandboxDocument('x'), metadata: { generateName: 'job-' } };
  const created = await harness.client.create(SANDBOX_KIND, 'default', document);
  assert.match(created.metadata.name, /^job-[a-z0-9]{5}$/);
});

test('a generic client discovers the kinds', async () => {
  await using harness = await startHarness();
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  const get = async (path: string) => (await transport.request<Record<string, unknown>>('GET', path)).body;
  const groups = (await get('/apis')).groups as { name: string }[];
  assert.deepEqual(
    groups.map(({ name }) => name),
    ['bulkhead.dev'],
  );
  const { resources } = (await get('/apis/bulkhead.dev/v1alpha1')) as { resources: { name: string }[] };
  const names = resources.map(({ name }) => name);
  for (const name of ['sandboxes', 'sandboxes/status', 'sandboxes/exec', 'volumes', 'networkpolicies']) {
    assert.ok(names.includes(name), name);
  }
  assert.equal((await get('/version')).gitVersion, 'v0.1.0');
  const openapi = (await get('/openapi/v3/apis/bulkhead.dev/v1alpha1')) as {
    components: { schemas: Record<string, { properties: Record<string, unknown> }> };
  };
  assert.ok(openapi.components.schemas['dev.bulkhead.v1alpha1.Sandbox']?.properties.spec);
  transport.close();
});

test('events are listed as core Events and selected by the object they regard', async () => {
  await using harness = await startHarness();
  const { store, client } = harness;
  for (const name of ['a', 'b']) {
    await store.recordEvent({
      regarding: { kind: 'Sandbox', namespace: 'default', name, uid: `uid-${name}` },
      type: name === 'a' ? 'Normal' : 'Warning',
      reason: 'Started',
      message: `${name} started`,
    });
  }
  const names = async (fieldSelector?: string) =>
    (await client.events(fieldSelector === undefined ? {} : { fieldSelector })).map(
      ({ involvedObject }) => involvedObject.name,
    );
  assert.deepEqual((await names()).sort(), ['a', 'b']);
  assert.deepEqual(await names('involvedObject.name=a'), ['a']);
  assert.deepEqual(await names('type=Warning'), ['b']);
  await assert.rejects(names('spec.x=1'), failsWith('BAD_REQUEST'));
});
