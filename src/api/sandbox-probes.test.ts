import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyDefaults } from './defaults.ts';
import { SandboxSpecSchema } from './sandbox.ts';
import { PROBE_DEFAULTS } from './sandbox-probes.ts';
import type { StructuralSchema } from './validation/structural.ts';

test("a probe's defaults are Kubernetes'", () => {
  const spec = { image: 'busybox', livenessProbe: { httpGet: { port: 80 } } };
  const { livenessProbe } = applyDefaults(
    SandboxSpecSchema as unknown as StructuralSchema,
    spec,
  ) as typeof spec;
  assert.deepEqual(livenessProbe, {
    httpGet: { port: 80, path: '/', scheme: 'HTTP' },
    initialDelaySeconds: 0,
    periodSeconds: 10,
    timeoutSeconds: 1,
    successThreshold: 1,
    failureThreshold: 3,
  });
  const { httpGet: _, ...numbers } = livenessProbe;
  assert.deepEqual(numbers, PROBE_DEFAULTS);
});

test('a spec without probes gets none', () => {
  const spec = applyDefaults(SandboxSpecSchema as unknown as StructuralSchema, { image: 'busybox' });
  for (const field of ['livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle'])
    assert.ok(!Object.hasOwn(spec as object, field), field);
});
