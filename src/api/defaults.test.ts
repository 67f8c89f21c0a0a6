import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyDefaults } from './defaults.ts';
import { NetworkPolicySpecSchema } from './networkpolicy.ts';
import { DEFAULTED_SPEC_FIELDS, SandboxSpecSchema } from './sandbox.ts';
import { asStructural } from './validation/structural.ts';
import { VolumeSpecSchema } from './volume.ts';

const sandbox = asStructural(SandboxSpecSchema);

test('the least Sandbox gets every stated default', () => {
  assert.deepEqual(applyDefaults(sandbox, { image: 'busybox' }), {
    image: 'busybox',
    imagePullPolicy: 'IfNotPresent',
    operatingMode: 'Running',
    driver: 'Auto',
    resources: { cpus: 1, memory: '512Mi', disk: '4Gi' },
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: 10,
    updateStrategy: 'Refuse',
  });
});

test('the type after defaulting lists exactly the fields that have a default', () => {
  const withDefault = Object.entries(asStructural(SandboxSpecSchema).properties ?? {})
    .filter(([, property]) => property.default !== undefined)
    .map(([name]) => name);
  assert.deepEqual([...DEFAULTED_SPEC_FIELDS].sort(), withDefault.sort());
});

test('what was said stays, beside defaults in the same mapping', () => {
  const { resources } = applyDefaults(sandbox, { image: 'a', resources: { cpus: 4 } }) as {
    resources: unknown;
  };
  assert.deepEqual(resources, { cpus: 4, memory: '512Mi', disk: '4Gi' });
});

test('defaults reach into list items', () => {
  const { ports } = applyDefaults(sandbox, { image: 'a', ports: [{ name: 'web', port: 80 }] }) as {
    ports: unknown;
  };
  assert.deepEqual(ports, [{ name: 'web', port: 80, hostIP: '127.0.0.1', protocol: 'TCP' }]);
});

test('a mapping that is absent and has no default stays absent, an empty one stays', () => {
  assert.equal('main' in (applyDefaults(sandbox, { image: 'a' }) as object), false);
  assert.deepEqual((applyDefaults(sandbox, { image: 'a', main: {} }) as { main: unknown }).main, {});
});

test('null counts as absent, as in Kubernetes', () => {
  const spec = applyDefaults(sandbox, { image: 'a', user: null, driver: null, resources: null });
  assert.equal('user' in (spec as object), false);
  assert.equal((spec as { driver: unknown }).driver, 'Auto');
  assert.deepEqual((spec as { resources: unknown }).resources, { cpus: 1, memory: '512Mi', disk: '4Gi' });
});

test('null stays where it is a value', () => {
  const spec = applyDefaults(asStructural(NetworkPolicySpecSchema), {
    limits: { egressBytesPerSecond: null },
  });
  assert.deepEqual((spec as { limits: unknown }).limits, { egressBytesPerSecond: null, maxConnections: 256 });
});

test('defaults are complete: applying them again changes nothing', () => {
  for (const schema of [SandboxSpecSchema, VolumeSpecSchema, NetworkPolicySpecSchema].map(asStructural)) {
    const once = applyDefaults(schema, { image: 'a', capacity: '1Gi' });
    assert.deepEqual(applyDefaults(schema, once), once);
  }
});

test('the argument is never changed, and no two objects share a default', () => {
  const value = Object.freeze({ image: 'a' });
  const a = applyDefaults(sandbox, value) as { resources: { cpus: number } };
  const b = applyDefaults(sandbox, value) as { resources: { cpus: number } };
  assert.notEqual(a.resources, b.resources);
});

test('what does not fit the schema stays for the validator to name', () => {
  assert.deepEqual(applyDefaults(sandbox, 'text'), 'text');
  assert.deepEqual(
    (applyDefaults(sandbox, { image: 'a', env: 'x', nonsense: 1 }) as { env: unknown }).env,
    'x',
  );
});
