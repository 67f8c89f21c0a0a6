import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { allow, deny, effectiveOf, flow } from '../testing/policies.ts';
import { decideAnswer, decideFlow, decideQuery } from './decide.ts';
import { explain } from './flow.ts';

const SECURE = [{ protocol: 'TCP', port: 443 }];

describe('modes', () => {
  test('a sandbox that no policy selects reaches public addresses alone', () => {
    const effective = effectiveOf();
    assert.equal(decideFlow(effective, flow('8.8.8.8')).allowed, true);
    for (const address of ['10.0.0.1', '127.0.0.1', '169.254.169.254', 'fd00::1', '168.63.129.16'])
      assert.equal(decideFlow(effective, flow(address)).allowed, false, address);
    assert.equal(decideFlow(effective, flow('8.8.8.8', { toHost: true })).allowed, false);
  });

  test('the strictest of several holds, and is said to', () => {
    const effective = effectiveOf({ egress: { mode: 'AllowAll' } }, { egress: { mode: 'Deny' } });
    assert.deepEqual(decideFlow(effective, flow('8.8.8.8')), {
      allowed: false,
      by: { kind: 'Mode', mode: 'Deny', policy: 'default/b' },
      inspect: false,
    });
  });

  test('Airgapped is absolute: no rule of another policy opens it, DNS included', () => {
    const open = {
      egress: { mode: 'AllowAll', rules: [allow([{ domain: 'a.example' }, { cidr: '0.0.0.0/0' }])] },
    };
    const effective = effectiveOf(open, { egress: { mode: 'Airgapped' } });
    assert.equal(decideFlow(effective, flow('8.8.8.8', { names: ['a.example'] })).allowed, false);
    assert.equal(decideQuery(effective, { name: 'a.example' }).allowed, false);
  });

  test('ICMP is governed by the mode and by rules without ports', () => {
    const echo = flow('10.0.0.1', { protocol: 'ICMP', port: 0 });
    assert.equal(decideFlow(effectiveOf(), echo).allowed, false);
    const rule = (ports?: Record<string, unknown>[]) =>
      effectiveOf({ egress: { mode: 'Deny', rules: [allow([{ cidr: '10.0.0.0/8' }], ports)] } });
    assert.equal(decideFlow(rule(), echo).allowed, true);
    assert.equal(decideFlow(rule(SECURE), echo).allowed, false);
  });
});

describe('rules', () => {
  test('an explicit Deny wins over any Allow, wherever each stands', () => {
    const opening = { egress: { mode: 'AllowAll', rules: [allow([{ cidr: '203.0.113.7/32' }])] } };
    const closing = { egress: { mode: 'AllowAll', rules: [deny([{ cidr: '203.0.113.0/24' }])] } };
    for (const effective of [effectiveOf(opening, closing), effectiveOf(closing, opening)])
      assert.equal(decideFlow(effective, flow('203.0.113.7')).allowed, false);
  });

  test('ports narrow a rule, by protocol too', () => {
    const effective = effectiveOf({
      egress: { mode: 'Deny', rules: [allow([{ cidr: '10.0.0.0/8' }], SECURE)] },
    });
    assert.equal(decideFlow(effective, flow('10.0.0.1')).allowed, true);
    assert.equal(decideFlow(effective, flow('10.0.0.1', { port: 80 })).allowed, false);
    assert.equal(decideFlow(effective, flow('10.0.0.1', { protocol: 'UDP' })).allowed, false);
  });

  test('neither a range nor LinkLocal or Private opens metadata addresses or the host', () => {
    const effective = effectiveOf({
      egress: {
        rules: [
          allow([{ cidr: '0.0.0.0/0' }, { cidr: '::/0' }, { group: 'LinkLocal' }, { group: 'Private' }]),
        ],
      },
    });
    for (const address of ['169.254.169.254', 'fd00:ec2::254', '100.100.100.200', '::ffff:169.254.169.254'])
      assert.equal(decideFlow(effective, flow(address)).allowed, false, address);
    assert.equal(decideFlow(effective, flow('10.0.0.1', { toHost: true })).allowed, false);
    assert.equal(decideFlow(effective, flow('10.0.0.1')).allowed, true);
  });

  test('the group or the single address opens them', () => {
    const group = effectiveOf({ egress: { rules: [allow([{ group: 'Metadata' }])] } });
    const single = effectiveOf({ egress: { rules: [allow([{ cidr: '169.254.169.254/32' }])] } });
    for (const effective of [group, single])
      assert.equal(decideFlow(effective, flow('169.254.169.254')).allowed, true);
    const host = effectiveOf({ egress: { rules: [allow([{ group: 'Host' }])] } });
    assert.equal(decideFlow(host, flow('10.0.0.1', { toHost: true })).allowed, true);
  });

  test('a Deny for IPv4 holds for every form that carries the address', () => {
    const effective = effectiveOf({
      egress: { mode: 'AllowAll', rules: [deny([{ cidr: '10.0.0.0/8' }, { group: 'Metadata' }])] },
    });
    for (const address of [
      '::ffff:10.0.0.1',
      '64:ff9b::10.0.0.1',
      '2002:a00:1::1',
      '::10.0.0.1',
      '64:ff9b::a9fe:a9fe',
    ])
      assert.equal(decideFlow(effective, flow(address)).allowed, false, address);
  });

  test('behind NAT64 an IPv4 range opens the IPv4 address', () => {
    const effective = effectiveOf({ egress: { mode: 'Deny', rules: [allow([{ cidr: '8.8.8.0/24' }])] } });
    assert.equal(decideFlow(effective, flow('64:ff9b::8.8.8.8')).allowed, true);
    assert.equal(decideFlow(effective, flow('2002:808:808::1')).allowed, false);
  });
});

describe('rules for names', () => {
  const effective = effectiveOf({
    egress: {
      mode: 'Deny',
      rules: [allow([{ domain: 'API.example.com' }, { domainSuffix: '.cdn.example' }], SECURE)],
    },
  });
  const names = ['api.example.com', 'evil.example.com'];

  test('hold for addresses that the sandbox resolved for the name', () => {
    assert.equal(decideFlow(effective, flow('8.8.8.8')).allowed, false);
    assert.equal(decideFlow(effective, flow('8.8.8.8', { names: ['other.example'] })).allowed, false);
    assert.equal(decideFlow(effective, flow('8.8.8.8', { names })).allowed, true);
    assert.equal(decideFlow(effective, flow('8.8.8.8', { names: ['a.b.cdn.example'] })).allowed, true);
  });

  test('a suffix holds for names below it, not for the domain itself nor for names that end alike', () => {
    for (const name of ['cdn.example', 'evilcdn.example', 'cdn.example.evil.example'])
      assert.equal(decideFlow(effective, flow('8.8.8.8', { names: [name] })).allowed, false, name);
  });

  test('SNI and Host must agree where they are seen', () => {
    const seen = (more: object) => decideFlow(effective, flow('8.8.8.8', { names, ...more })).allowed;
    assert.equal(seen({ sni: 'api.example.com' }), true);
    assert.equal(seen({ sni: 'API.EXAMPLE.COM.' }), true);
    assert.equal(seen({ sni: 'evil.example.com' }), false, 'the address is shared');
    assert.equal(seen({ sni: null }), false, 'TLS that names no server');
    assert.equal(seen({ sni: 'api.example.com', httpHost: 'evil.example.com' }), false, 'domain fronting');
    assert.equal(seen({ httpHost: 'evil.example.com' }), false);
    assert.equal(seen({ httpHost: '8.8.8.8' }), false);
    assert.equal(seen({ httpHost: null }), false);
    assert.equal(seen({ sni: 'api.example.com', httpHost: 'api.example.com' }), true);
  });

  test('a name that the SNI shows but that was not resolved to the address opens nothing', () => {
    assert.equal(decideFlow(effective, flow('8.8.8.8', { sni: 'api.example.com' })).allowed, false);
  });

  test('are to be looked at again when the first bytes are there', () => {
    assert.equal(decideFlow(effective, flow('8.8.8.8', { names })).inspect, true);
    assert.equal(decideFlow(effective, flow('8.8.8.8', { names, sni: 'api.example.com' })).inspect, false);
  });

  test('open no address that no public name may lead to', () => {
    for (const address of ['10.0.0.1', '127.0.0.1', '169.254.169.254', '224.0.0.1', 'fe80::1'])
      assert.equal(decideFlow(effective, flow(address, { names })).allowed, false, address);
    assert.equal(decideFlow(effective, flow('8.8.8.8', { names, toHost: true })).allowed, false);
    const trusting = effectiveOf({
      egress: { mode: 'Deny', rules: [allow([{ domain: 'api.example.com' }])] },
      dns: { rebindProtection: false },
    });
    assert.equal(decideFlow(trusting, flow('10.0.0.1', { names })).allowed, true);
    assert.equal(decideFlow(trusting, flow('169.254.169.254', { names })).allowed, false);
  });

  test('a Deny holds for any name that the flow goes by', () => {
    const closed = effectiveOf({
      egress: { mode: 'AllowAll', rules: [deny([{ domainSuffix: '.evil.example' }])] },
    });
    for (const more of [
      { names: ['a.evil.example'] },
      { sni: 'a.evil.example' },
      { httpHost: 'A.evil.example' },
      { sni: 'good.example', httpHost: 'a.evil.example' },
    ])
      assert.equal(decideFlow(closed, flow('8.8.8.8', more)).allowed, false);
    assert.deepEqual(decideFlow(closed, flow('8.8.8.8')).inspect, true);
  });

  test('block lists hold for connections that show the name', () => {
    const closed = effectiveOf({
      dns: { blockDomains: ['ads.example'], blockDomainSuffixes: ['.track.example'] },
    });
    assert.deepEqual(decideFlow(closed, flow('8.8.8.8', { sni: 'x.track.example' })).by, {
      kind: 'BlockList',
      policy: 'default/a',
      entry: '.track.example',
    });
  });
});

describe('what is built in', () => {
  test('port 53 never leaves as a flow', () => {
    const effective = effectiveOf({ egress: { mode: 'AllowAll', rules: [allow([{ cidr: '8.8.8.8/32' }])] } });
    for (const protocol of ['TCP', 'UDP'] as const)
      assert.equal(decideFlow(effective, flow('8.8.8.8', { protocol, port: 53 })).by.kind, 'DnsFilter');
  });

  test('encrypted DNS is opened by a rule that names its port, and by nothing else', () => {
    const dot = flow('8.8.8.8', { port: 853 });
    assert.equal(decideFlow(effectiveOf({ egress: { mode: 'AllowAll' } }), dot).by.kind, 'EncryptedDns');
    const rule = (ports?: Record<string, unknown>[]) =>
      effectiveOf({ egress: { rules: [allow([{ group: 'Public' }], ports)] } });
    assert.equal(decideFlow(rule(), dot).allowed, false);
    assert.equal(decideFlow(rule([{ port: 853 }]), dot).allowed, true);
    assert.equal(decideFlow(rule([{ port: 853 }]), { ...dot, protocol: 'UDP' }).allowed, false);
  });

  test('QUIC is refused where TLS is intercepted, not for hosts that are bypassed', () => {
    const quic = (names: string[]) => flow('8.8.8.8', { protocol: 'UDP', names });
    const tls = { intercept: true, bypass: ['*.pinned.example'] };
    assert.equal(decideFlow(effectiveOf({ tls }), quic([])).by.kind, 'BlockQuic');
    assert.equal(decideFlow(effectiveOf({ tls }), quic(['a.pinned.example'])).allowed, true);
    assert.equal(decideFlow(effectiveOf({ tls }), quic(['a.pinned.example', 'b.example'])).allowed, false);
    assert.equal(decideFlow(effectiveOf({ tls: { ...tls, blockQuic: false } }), quic([])).allowed, true);
    assert.equal(decideFlow(effectiveOf(), quic([])).allowed, true);
  });

  test('what is no address is refused', () => {
    assert.equal(decideFlow(effectiveOf({ egress: { mode: 'AllowAll' } }), flow('x')).by.kind, 'Malformed');
  });
});

describe('questions', () => {
  test('with mode Deny only names of Allow rules may be asked for', () => {
    const effective = effectiveOf({
      egress: {
        mode: 'Deny',
        rules: [allow([{ domain: 'a.example' }], SECURE), allow([{ cidr: '10.0.0.0/8' }])],
      },
    });
    assert.equal(decideQuery(effective, { name: 'A.example.' }).allowed, true);
    assert.equal(decideQuery(effective, { name: 'b.example' }).allowed, false);
  });

  test('who may reach every public address may ask for every name', () => {
    const effective = effectiveOf({
      egress: { mode: 'Deny', rules: [allow([{ group: 'Public' }], SECURE)] },
    });
    assert.equal(decideQuery(effective, { name: 'b.example' }).allowed, true);
  });

  test('a Deny with ports closes connections, not the name', () => {
    const effective = effectiveOf({
      egress: { rules: [deny([{ domain: 'a.example' }], SECURE), deny([{ domain: 'b.example' }])] },
    });
    assert.equal(decideQuery(effective, { name: 'a.example' }).allowed, true);
    assert.equal(decideQuery(effective, { name: 'b.example' }).allowed, false);
  });

  test('the policy that blocks says what the answer is', () => {
    const effective = effectiveOf(
      { dns: { blockDomains: ['a.example'], blockedAnswer: 'REFUSED' } },
      { dns: { blockDomains: ['b.example'] } },
    );
    assert.equal(decideQuery(effective, { name: 'a.example' }).blockedAnswer, 'REFUSED');
    assert.equal(decideQuery(effective, { name: 'b.example' }).blockedAnswer, 'NXDOMAIN');
  });

  test('names of local use do not leave, unless a rule names them', () => {
    const open = effectiveOf({ egress: { mode: 'AllowAll' } });
    for (const name of [
      'printer',
      'printer.local',
      'metadata.google.internal',
      '1.0.0.10.in-addr.arpa',
      'x.onion',
    ])
      assert.equal(decideQuery(open, { name }).by.kind, 'LocalName', name);
    assert.equal(decideQuery(open, { name: '8.8.8.8.in-addr.arpa' }).allowed, true);
    const named = effectiveOf({ egress: { rules: [allow([{ domainSuffix: '.corp.internal' }])] } });
    assert.equal(decideQuery(named, { name: 'git.corp.internal' }).allowed, true);
  });

  test('the name of the host resolves where the group Host is open', () => {
    const name = 'host.bulkhead.internal';
    assert.equal(decideQuery(effectiveOf(), { name }).allowed, false);
    const rules = [allow([{ group: 'Host' }], [{ port: 8080 }])];
    assert.equal(decideQuery(effectiveOf({ egress: { mode: 'Deny', rules } }), { name }).allowed, true);
    const closed = { egress: { mode: 'AllowAll', rules: [deny([{ group: 'Host' }])] } };
    assert.equal(decideQuery(effectiveOf({ egress: { rules } }, closed), { name }).allowed, false);
  });

  test('what is no name of a host is refused', () => {
    for (const name of ['', 'a..b', 'a b.example', `${'x'.repeat(64)}.example`, 'ex\u0000ample', '*.example'])
      assert.equal(
        decideQuery(effectiveOf({ egress: { mode: 'AllowAll' } }), { name }).by.kind,
        'Malformed',
        name,
      );
  });
});

test('answers that point into other networks are withheld, unless a rule opens the address', () => {
  const effective = effectiveOf({ egress: { mode: 'AllowAll', rules: [allow([{ cidr: '10.1.0.0/16' }])] } });
  assert.equal(decideAnswer(effective, '8.8.8.8', false).allowed, true);
  assert.equal(decideAnswer(effective, '10.1.2.3', false).allowed, true);
  for (const address of [
    '10.2.0.1',
    '127.0.0.1',
    '::ffff:127.0.0.1',
    '169.254.169.254',
    '64:ff9b::7f00:1',
    '::',
  ])
    assert.equal(decideAnswer(effective, address, false).by.kind, 'RebindProtection', address);
  assert.equal(decideAnswer(effective, '8.8.8.8', true).allowed, false, 'the host');
  const off = effectiveOf({ dns: { rebindProtection: false } });
  assert.equal(decideAnswer(off, '10.2.0.1', false).allowed, true);
  assert.equal(
    decideAnswer(effectiveOf({ dns: { rebindProtection: false } }, {}), '10.2.0.1', false).allowed,
    false,
  );
});

test('every decider has a sentence', () => {
  const effective = effectiveOf({ egress: { rules: [deny([{ domain: 'a.example' }])] } });
  const verdict = decideFlow(effective, flow('8.8.8.8', { sni: 'a.example' }));
  assert.equal(explain(verdict.by), 'rule 0 of default/a (a.example)');
});
