// The precedence of policies as laws over random policies and flows. Each failure names its seed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Pick, randomFrom } from '../../../test/fixtures/chance.ts';
import { EGRESS_MODES } from '../../api/networkpolicy.ts';
import { effectiveOf } from '../testing/policies.ts';
import { compilePolicies } from './compile.ts';
import { decideFlow, decideQuery } from './decide.ts';
import type { EffectivePolicy } from './effective.ts';
import type { Flow } from './flow.ts';
import { destinationOf } from './groups.ts';

const ROUNDS = process.env.BULKHEAD_SOAK ? 3_000 : 60;
const FLOWS = 12;

const NAMES = [
  'a.example',
  'b.example',
  'x.a.example',
  'cdn.test',
  'deep.x.cdn.test',
  'host.bulkhead.internal',
];
const DESTINATIONS = [
  ...['Public', 'Private', 'Loopback', 'LinkLocal', 'Metadata', 'Multicast', 'Host'].map((group) => ({
    group,
  })),
  ...['a.example', 'cdn.test', 'X.a.example'].map((domain) => ({ domain })),
  ...['.a.example', '.cdn.test', '.example'].map((domainSuffix) => ({ domainSuffix })),
  ...[
    '8.8.8.0/24',
    '10.0.0.0/8',
    '0.0.0.0/0',
    '::/0',
    '169.254.169.254/32',
    '2606:4700::/32',
    '8.8.8.8/32',
  ].map((cidr) => ({ cidr })),
];
const ADDRESSES = [
  ...[
    '8.8.8.8',
    '8.8.4.4',
    '10.1.2.3',
    '127.0.0.1',
    '169.254.169.254',
    '169.254.9.9',
    '168.63.129.16',
    '224.0.0.1',
  ],
  ...['2606:4700::1', 'fd00::1', 'fd00:ec2::254', '::ffff:8.8.8.8', '64:ff9b::8.8.8.8', '64:ff9b::10.1.2.3'],
  ...['2002:808:808::1', '::ffff:169.254.169.254'],
];
const PORTS = [53, 80, 443, 853];

function one<Item>(pick: Pick, items: readonly Item[]): Item {
  const item = items[pick(items.length)];
  assert.ok(item !== undefined);
  return item;
}

function some<Item>(pick: Pick, items: readonly Item[], min: number, max: number): Item[] {
  return Array.from({ length: min + pick(max - min + 1) }, () => one(pick, items));
}

type Spec = Record<string, unknown> & { egress: { mode: string; rules: { action: string }[] } };

function randomRule(pick: Pick, action: string) {
  const ports = some(pick, PORTS, 1, 2).map((port) => ({ protocol: one(pick, ['TCP', 'UDP']), port }));
  return { action, to: some(pick, DESTINATIONS, 1, 3), ...(pick(2) === 0 ? { ports } : {}) };
}

function randomSpec(pick: Pick): Spec {
  const mode = one(pick, [...EGRESS_MODES.slice(0, 3), ...EGRESS_MODES]);
  const actions = mode === 'Airgapped' ? ['Deny'] : ['Allow', 'Allow', 'Deny'];
  return {
    egress: { mode, rules: some(pick, actions, 0, 4).map((action) => randomRule(pick, action)) },
    dns: {
      blockDomains: pick(4) === 0 ? [one(pick, NAMES)] : [],
      rebindProtection: pick(4) !== 0,
    },
    tls: { intercept: pick(4) === 0 },
  };
}

function randomFlow(pick: Pick): Flow {
  const protocol = one(pick, ['TCP', 'TCP', 'UDP', 'ICMP'] as const);
  const seen = (): string | null => (pick(5) === 0 ? null : one(pick, NAMES));
  return {
    protocol,
    address: one(pick, ADDRESSES),
    port: protocol === 'ICMP' ? 0 : one(pick, PORTS),
    toHost: pick(8) === 0,
    names: some(pick, NAMES, 0, 2),
    ...(protocol === 'TCP' && pick(3) === 0 ? { sni: seen() } : {}),
    ...(protocol === 'TCP' && pick(3) === 0 ? { httpHost: seen() } : {}),
  };
}

/** Runs a law over so many random sets of policies, each with some flows. */
function law(name: string, holds: (specs: Spec[], flow: Flow, pick: Pick) => void): void {
  const seed = Number(process.env.BULKHEAD_FUZZ_SEED ?? Date.now() % 1_000_000);
  test(`${name} (BULKHEAD_FUZZ_SEED=${seed})`, () => {
    const random = randomFrom(seed);
    const pick: Pick = (below) => Math.floor(random() * below);
    for (let round = 0; round < ROUNDS; round += 1) {
      const specs = Array.from({ length: pick(4) }, () => randomSpec(pick));
      for (let turn = 0; turn < FLOWS; turn += 1) {
        const flow = randomFlow(pick);
        try {
          holds(specs, flow, pick);
        } catch (error) {
          throw new Error(`round ${round}: ${JSON.stringify({ specs, flow })}`, { cause: error });
        }
      }
    }
  });
}

const isOpen = (effective: EffectivePolicy, flow: Flow) => decideFlow(effective, flow).allowed;

law('Airgapped closes everything, whatever else is said', (specs, flow, pick) => {
  const effective = effectiveOf(...specs, { egress: { mode: 'Airgapped' } });
  assert.equal(isOpen(effective, flow), false);
  assert.equal(decideQuery(effective, { name: one(pick, NAMES) }).allowed, false);
});

law('one more Deny never opens anything', (specs, flow, pick) => {
  const more = {
    egress: { mode: 'AllowAll', rules: [randomRule(pick, 'Deny')] },
    dns: { rebindProtection: false },
  };
  const [before, after] = [effectiveOf(...specs), effectiveOf(...specs, more)];
  if (specs.length > 0 && isOpen(after, flow)) assert.equal(isOpen(before, flow), true);
});

law('one more Allow never closes anything', (specs, flow, pick) => {
  const more = {
    egress: { mode: 'AllowAll', rules: [randomRule(pick, 'Allow')] },
    dns: { rebindProtection: false },
  };
  const [before, after] = [effectiveOf(...specs), effectiveOf(...specs, more)];
  if (specs.length > 0 && isOpen(before, flow)) assert.equal(isOpen(after, flow), true);
});

law('a stricter policy without rules never opens anything', (specs, flow, pick) => {
  const more = { egress: { mode: one(pick, EGRESS_MODES) } };
  if (isOpen(effectiveOf(...specs, more), flow) && specs.length > 0)
    assert.equal(isOpen(effectiveOf(...specs), flow), true);
});

law('a Deny for the address wins over every Allow', (specs, flow) => {
  const destination = destinationOf(flow.address, flow.toHost);
  assert.ok(destination);
  for (const group of destination.groups) {
    const more = { egress: { mode: 'AllowAll', rules: [{ action: 'Deny', to: [{ group }] }] } };
    assert.equal(isOpen(effectiveOf(...specs, more), flow), false, group);
  }
});

law('neither the order of policies nor that of a policy’s rules decides', (specs, flow, pick) => {
  const policies = effectiveOf(...specs);
  const shuffled = specs.map((spec) => ({
    ...spec,
    egress: { ...spec.egress, rules: spec.egress.rules.toSorted(() => pick(3) - 1) },
  }));
  assert.equal(isOpen(effectiveOf(...shuffled), flow), isOpen(policies, flow));
  assert.equal(isOpen(effectiveOf(...shuffled.toReversed()), flow), isOpen(policies, flow));
});

law('where no rule speaks, the strictest mode does', (specs, flow) => {
  const bare = specs.map(({ egress }) => ({ egress: { mode: egress.mode } }));
  const modes = bare.length === 0 ? ['PublicOnly'] : bare.map(({ egress }) => egress.mode);
  const strictest = EGRESS_MODES.findLast((mode) => modes.includes(mode));
  const destination = destinationOf(flow.address, flow.toHost);
  const expected =
    strictest === 'AllowAll' || (strictest === 'PublicOnly' && destination?.group === 'Public');
  const builtIn = flow.protocol !== 'ICMP' && (flow.port === 53 || flow.port === 853);
  assert.equal(isOpen(effectiveOf(...bare), flow), expected && !builtIn);
});

law('a rule for a name opens only what was resolved for it, is agreed with, and is public', (specs, flow) => {
  const named = specs.map(({ egress }) => ({
    egress: {
      mode: 'Deny',
      rules: egress.rules.flatMap(({ action, ...rule }) => {
        const { to } = rule as unknown as { to: Record<string, string>[] };
        const names = to.filter((each) => each.domain !== undefined || each.domainSuffix !== undefined);
        return action === 'Allow' && names.length > 0 ? [{ ...rule, action, to: names }] : [];
      }),
    },
  }));
  if (named.length === 0 || !isOpen(effectiveOf(...named), flow)) return;
  const agreeing = flow.names.filter(
    (name) =>
      (flow.sni === undefined || flow.sni === name) &&
      (flow.httpHost === undefined || flow.httpHost === name),
  );
  assert.notEqual(agreeing.length, 0);
  assert.equal(destinationOf(flow.address, flow.toHost)?.group, 'Public');
});

law('a v4-mapped destination is decided as the IPv4 address', (specs, flow) => {
  if (flow.address.includes(':')) return;
  const effective = effectiveOf(...specs);
  assert.deepEqual(
    decideFlow(effective, { ...flow, address: `::ffff:${flow.address}` }),
    decideFlow(effective, flow),
  );
});

law(
  'what the first bytes show can close a flow and never open it, and closes none that needs no look',
  (specs, flow) => {
    const effective = effectiveOf(...specs);
    const { sni: _sni, httpHost: _host, ...unseen } = flow;
    const first = decideFlow(effective, unseen);
    if (!first.allowed) assert.equal(first.inspect, false);
    if (isOpen(effective, flow)) assert.equal(first.allowed, true);
    if (first.allowed && !first.inspect) assert.equal(isOpen(effective, flow), true);
  },
);

law('metadata and the host are opened by name of group, single address or AllowAll alone', (specs, flow) => {
  const group = destinationOf(flow.address, flow.toHost)?.group;
  if (group !== 'Metadata' && group !== 'Host') return;
  const { allowed, by } = decideFlow(effectiveOf(...specs), flow);
  if (!allowed) return;
  if (by.kind === 'Mode') assert.equal(by.mode, 'AllowAll');
  else assert.ok(by.kind === 'Rule' && (by.destination === group || /\/(32|128)$/.test(by.destination)));
});

law('a connection that a rule for its name opens may also have asked for the name', (specs, flow) => {
  const effective = effectiveOf(...specs);
  const { allowed, by } = decideFlow(effective, flow);
  if (!allowed || by.kind !== 'Rule' || !by.destination.match(/example|test/i)) return;
  const asked = flow.names.some((name) => decideQuery(effective, { name }).allowed);
  assert.equal(asked, true);
});

law('the hash tells what is different', (specs, _flow, pick) => {
  const other = [...specs, randomSpec(pick)];
  const [first, second] = [effectiveOf(...specs), effectiveOf(...other)];
  assert.notEqual(first.hash, second.hash);
  assert.equal(effectiveOf(...specs).hash, first.hash);
  assert.deepEqual(effectiveOf(...specs), first);
  assert.notEqual(
    compilePolicies([], { namespace: 'default', labels: {}, secretHosts: ['a.example'] }).hash,
    compilePolicies([], { namespace: 'default', labels: {} }).hash,
  );
});

law('a policy survives the way to the gateway: as JSON it decides the same', (specs, flow) => {
  const effective = effectiveOf(...specs);
  const sent = JSON.parse(JSON.stringify(effective)) as EffectivePolicy;
  assert.deepEqual(decideFlow(sent, flow), decideFlow(effective, flow));
});
