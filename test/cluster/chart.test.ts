// The chart with the values that it ships as examples.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadAll } from 'js-yaml';
import { CHART, SYSTEM } from './bulkhead-cluster.ts';
import { clusterProgram, command } from './cluster.ts';

const EXAMPLES = join(CHART, 'examples');

interface Manifest {
  kind: string;
  metadata: { name: string };
  spec: {
    template: { spec: { nodeSelector?: Record<string, string> } };
    ingress?: unknown;
    egress: unknown[];
  };
}

async function rendered(...settings: string[]): Promise<Manifest[]> {
  const asked = ['template', 'bulkhead', CHART, '--kube-version', '1.35.0', '-n', SYSTEM, ...settings];
  const { code, stdout, stderr } = await command(clusterProgram('helm'), asked);
  assert.equal(code, 0, stderr);
  return (loadAll(stdout) as (Manifest | null)[]).filter((manifest) => manifest !== null);
}

for (const example of readdirSync(EXAMPLES)) {
  test(`${example} are values that the chart takes`, async () => {
    const { code, stdout } = await command(clusterProgram('helm'), [
      ...['lint', '--strict', CHART, '--kube-version', '1.35.0', '-f', join(EXAMPLES, example)],
    ]);
    assert.equal(code, 0, stdout);
    assert.notEqual((await rendered('-f', join(EXAMPLES, example))).length, 0);
  });
}

test('parts go where they are told, and the controller is reached by what it serves where policies are on', async () => {
  const kvmNodes = ['-f', join(EXAMPLES, 'kvm-nodes.yaml')];
  const manifests = await rendered(...kvmNodes, '--set', 'subresources.enabled=true');
  const found = (kind: string) => manifests.find((each) => each.kind === kind)?.spec;
  assert.equal(found('DaemonSet')?.template.spec.nodeSelector?.['example.com/kvm'], 'true');
  assert.deepEqual(found('Deployment')?.template.spec.nodeSelector, {
    'node-role.kubernetes.io/control-plane': '',
  });
  const policy = found('NetworkPolicy');
  assert.deepEqual(policy?.ingress, [{ ports: [{ protocol: 'TCP', port: 8443 }] }]);
  assert.equal(policy.egress.length, 3);
  const closed = await rendered(...kvmNodes);
  const strict = closed.find(({ kind }) => kind === 'NetworkPolicy')?.spec;
  assert.ok(strict);
  assert.equal(strict.ingress, undefined);
  assert.equal(strict.egress.length, 2);
  assert.equal(
    closed.some(({ kind, metadata }) => kind === 'APIService' || metadata.name.includes('subresources')),
    false,
  );
  assert.equal(
    (await rendered()).some(({ kind }) => kind === 'NetworkPolicy'),
    false,
  );
});

test('a value that is misspelt is refused', async () => {
  const { code, stderr } = await command(clusterProgram('helm'), [
    ...['template', 'bulkhead', CHART, '--kube-version', '1.35.0', '--set', 'networkPolicies.enabled=true'],
  ]);
  assert.equal(code, 1);
  assert.match(stderr, /networkPolicies/);
});
