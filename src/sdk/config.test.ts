import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manifestOf, type SandboxConfig } from './config.ts';
import { LogLevel, PullPolicy } from './enums.ts';
import { type NetworkConfig, NetworkPolicy, type PolicyRule, policySpecOf } from './network.ts';
import { OWN_LABEL } from './owned.ts';
import { Patch } from './patches.ts';
import { Secret } from './secrets.ts';

const specOf = (config: Record<string, unknown>) =>
  manifestOf({ image: 'busybox', ...config } as SandboxConfig, 'default', false).spec;

test('a setting that nothing acts on is refused, so that no sandbox is more open than was asked', () => {
  assert.throws(() => specOf({ logLevel: 'loud' }), { code: 'INVALID', message: /logLevel/ });
  assert.throws(() => specOf({ memory: 512 }), { code: 'INVALID', message: /memory/ });
});

test('what programs say of logs and of pulls by name is taken', () => {
  const spec = specOf({ logLevel: LogLevel.Debug, quietLogs: true, pullPolicy: PullPolicy.Always });
  assert.deepEqual(spec, { image: 'busybox', imagePullPolicy: 'Always', restartPolicy: 'Never' });
});

test('patches keep their order, copies among them, and tell no path of this host', () => {
  const patches = [
    Patch.text('/etc/greeting', 'hello', { mode: 0o600, replace: true }),
    Patch.copyFile('./bin/tool', '/bin/tool', { mode: 0o755 }),
    Patch.symlink('/usr/bin/python3', '/usr/local/bin/py', { replace: false }),
    { kind: 'symlink', target: 'py', path: '/usr/local/bin/python' },
  ];
  assert.deepEqual(specOf({ patches, cmd: ['x'] }).patches, [
    { text: { path: '/etc/greeting', content: 'hello', mode: '0600', replace: true } },
    { copy: { from: 'tool', path: '/bin/tool' } },
    { symlink: { path: '/usr/local/bin/py', target: '/usr/bin/python3', replace: false } },
    { symlink: { path: '/usr/local/bin/python', target: 'py' } },
  ]);
  for (const [patch, message] of [
    [{ ...Patch.mkdir('/a'), owner: 'root' }, /patches\[0\]\.owner/],
    [{ kind: 'copyFile', src: './tool' }, /needs src and dst/],
    [{ ...Patch.copyDir('./a', '/a'), mode: 0o755 }, /patches\[0\]\.mode/],
  ] as const)
    assert.throws(() => specOf({ patches: [patch] }), { code: 'INVALID', message });
});

test('the signal to stop with is that of the life cycle', () => {
  assert.deepEqual(specOf({ stopSignal: 'SIGINT' }).lifecycle, { stopSignal: 'SIGINT' });
});

test('ports are published by their number on the host', () => {
  assert.deepEqual(specOf({ ports: { 8080: 80 }, network: undefined }).ports, [
    { name: 'port-8080', port: 80, hostPort: 8080 },
  ]);
});

test('a network becomes a policy of the sandbox alone, and secrets name a Secret of its own', () => {
  const manifest = manifestOf(
    {
      image: 'busybox',
      labels: { team: 'a' },
      network: NetworkPolicy.none(),
      secrets: [
        Secret.env('KEY', { value: 'v', allowHosts: ['a.example'], allowHostPatterns: ['*.b.example'] }),
      ],
    },
    'default',
    true,
    'mark',
  );
  assert.deepEqual(manifest.metadata.labels, { team: 'a', [OWN_LABEL]: 'mark' });
  assert.equal(manifest.spec.operatingMode, 'Suspended', 'until its policy and its secrets are there');
  assert.deepEqual(manifest.spec.secrets, [
    {
      env: 'KEY',
      valueFrom: { secretKeyRef: { name: 'mark', key: 'KEY' } },
      allowHosts: ['a.example', '*.b.example'],
    },
  ]);
  assert.equal(JSON.stringify(manifest).includes('"v"'), false);
});

test('what a network says is what its policy says', () => {
  const mode = (network: NetworkConfig) => (policySpecOf(network, 'x').egress as { mode: string }).mode;
  assert.equal(mode(NetworkPolicy.none()), 'Airgapped');
  assert.equal(mode(NetworkPolicy.publicOnly()), 'PublicOnly');
  assert.equal(mode(NetworkPolicy.allowAll()), 'AllowAll');
  assert.equal(mode({ defaultAction: 'deny' }), 'Deny');
  const allowOne: PolicyRule = { action: 'allow', destination: 'api.example.com', port: 443 };
  assert.equal(mode({ policy: 'none', rules: [allowOne] }), 'Deny', 'a rule opens what it names alone');
  const rules: PolicyRule[] = [
    allowOne,
    { action: 'deny', destination: '*.example.com', port: 80 },
    { action: 'deny', destination: 'metadata' },
    { action: 'deny', destination: '10.0.0.0/8' },
    { action: 'allow' },
  ];
  assert.deepEqual(policySpecOf({ rules, blockDomainSuffixes: ['ads.example'], maxConnections: 5 }, 'x'), {
    egress: {
      mode: 'PublicOnly',
      rules: [
        { action: 'Allow', to: [{ domain: 'api.example.com' }], ports: [{ protocol: 'TCP', port: 443 }] },
        {
          action: 'Deny',
          to: [{ domainSuffix: '.example.com' }],
          ports: [
            { protocol: 'TCP', port: 80 },
            { protocol: 'UDP', port: 80 },
          ],
        },
        { action: 'Deny', to: [{ group: 'Metadata' }] },
        { action: 'Deny', to: [{ cidr: '10.0.0.0/8' }] },
        { action: 'Allow', to: [{ cidr: '0.0.0.0/0' }, { cidr: '::/0' }] },
      ],
    },
    dns: { blockDomainSuffixes: ['.ads.example'] },
    limits: { maxConnections: 5 },
  });
});

test('what would make a sandbox more open than was asked is refused', () => {
  const network = { tls: { interceptCaKey: 'x' } } as NetworkConfig;
  assert.throws(() => specOf({ network }), { code: 'NOT_SUPPORTED', message: /interceptCaKey/ });
  assert.throws(() => specOf({ secrets: [{ envVar: 'A', value: 'b' }] }), { message: /allowHosts/ });
  const anyway = { envVar: 'A', value: 'b', allowHosts: ['c.example'], requireTls: false };
  assert.throws(() => specOf({ secrets: [anyway] }), { code: 'NOT_SUPPORTED' });
  assert.throws(() => specOf({ secrets: [{ ...anyway, requireTls: true, placeholder: 'x' }] }), {
    code: 'NOT_SUPPORTED',
    message: /placeholder/,
  });
  const inbound = { rules: [{ action: 'deny', direction: 'inbound' }] };
  assert.throws(() => specOf({ network: inbound }), { code: 'NOT_SUPPORTED', message: /direction/ });
});
