import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { NETWORK_POLICY_KIND, SANDBOX_KIND } from '../api/kinds.ts';
import { type Harness, sandboxDocument, startHarness } from '../server/testing/harness.ts';
import { bulkhead } from './testing/bulkhead.ts';

const POLICY = {
  apiVersion: 'bulkhead.dev/v1alpha1',
  kind: 'NetworkPolicy',
  metadata: { name: 'egress' },
  spec: {
    sandboxSelector: { matchLabels: { team: 'research' } },
    egress: {
      mode: 'Deny',
      rules: [{ action: 'Allow', to: [{ domain: 'api.example.com' }], ports: [{ port: 443 }] }],
    },
  },
};

async function fill({ client }: Harness): Promise<void> {
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('agent', {}, { team: 'research' }));
  await client.create(SANDBOX_KIND, 'default', sandboxDocument('other'));
  await client.create(NETWORK_POLICY_KIND, 'default', POLICY);
}

test('policy test says what decides, and tells by its exit code', async () => {
  await using harness = await startHarness();
  await fill(harness);
  const run = (...args: string[]) => bulkhead(harness.socketPath, 'policy', 'test', ...args);
  const allowed = await run('agent', 'api.example.com:443');
  assert.deepEqual(allowed, {
    code: 0,
    stdout:
      'api.example.com:443 TCP from default/agent: allowed\n' +
      '  name        allowed by rule 0 of default/egress (api.example.com)\n' +
      '  connection  allowed by rule 0 of default/egress (api.example.com)\n',
    stderr: 'note: this policy is not in force in the sandbox now\n',
  });
  const denied = await run('agent', 'other.example:443');
  assert.equal(denied.code, 1);
  assert.match(
    denied.stdout,
    /name {8}denied by mode Deny of default\/egress, as no rule names the destination/,
  );
  assert.equal((await run('other', 'other.example:443')).code, 0);
  assert.equal((await run('other', 'other.example:443', '--address', '10.0.0.1')).code, 1);
  assert.equal((await run('other', '169.254.169.254', '--protocol', 'ICMP')).code, 1);
  const json = JSON.parse((await run('agent', '[2606:4700::1]:80', '-o', 'json')).stdout) as Record<
    string,
    unknown
  >;
  assert.deepEqual([json.allowed, json.host, json.inForce], [false, '2606:4700::1', false]);
});

test('policy test says what is wrong with its arguments', async () => {
  await using harness = await startHarness();
  await fill(harness);
  const run = (...args: string[]) => bulkhead(harness.socketPath, 'policy', 'test', ...args);
  assert.match((await run('agent', 'api.example.com')).stderr, /is no HOST:PORT, such as/);
  assert.equal((await run('agent', 'a.example:443', '--address', 'x')).code, 2);
  const missing = await run('nobody', 'a.example:443');
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /"nobody" not found/);
});

test('policy test -f needs no daemon', async () => {
  await using harness = await startHarness();
  const file = join(harness.dir, 'all.json');
  const sandbox = sandboxDocument('agent', {}, { team: 'research' });
  await writeFile(file, `${JSON.stringify(sandbox)}\n---\n${JSON.stringify(POLICY)}\n`);
  const run = (...args: string[]) => bulkhead('/nowhere/api.sock', 'policy', 'test', '-f', file, ...args);
  const allowed = await run('agent', 'api.example.com:443');
  assert.deepEqual([allowed.code, allowed.stderr], [0, '']);
  assert.equal((await run('agent', 'api.example.com:80')).code, 1);
  assert.match((await run('nobody', 'api.example.com:80')).stderr, /hold no Sandbox nobody/);
});

test('describe shows what holds for the network of a sandbox', async () => {
  await using harness = await startHarness();
  await fill(harness);
  const { stdout } = await bulkhead(harness.socketPath, 'describe', 'sbx', 'agent');
  assert.match(
    stdout,
    /Network policy:\n {2}In force: +no, nothing leaves the sandbox\n {2}Policies: +default\/egress\n/,
  );
  assert.match(stdout, /Mode: +Deny \(default\/egress\)/);
  assert.match(stdout, /default\/egress +0 +Allow +api\.example\.com +443\/TCP/);
});
