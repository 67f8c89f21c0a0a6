// What network policies cost: putting 1,000 of them together for 1,000 sandboxes, and deciding by what comes out.
// Usage: node bench/policy.ts [COUNT] [--json]. COUNT is both of policies and of sandboxes.
import { GROUP_VERSION } from '../src/api/meta.ts';
import type { DefaultedNetworkPolicySpec } from '../src/api/networkpolicy.ts';
import { requireValid } from '../src/api/validation/validate.ts';
import { PolicyCompiler, type PolicySource, type PolicySubject } from '../src/network/policy/compile.ts';
import { decideFlow, decideQuery } from '../src/network/policy/decide.ts';
import type { EffectivePolicy } from '../src/network/policy/effective.ts';
import { countArgument, Report } from './report.ts';

const COUNT = countArgument(1_000);
const ROUNDS = 7;
const TEAMS = 50;
const DECISIONS = 20_000;
/** What the project wants to reach. */
const AIM = { max: 1_000 };

/** Five rules with three destinations each, and some blocked names: more than most people write. */
function policy(index: number, matchLabels: Record<string, string>): PolicySource {
  const rules = Array.from({ length: 5 }, (_, rule) => ({
    action: rule === 0 ? 'Deny' : 'Allow',
    to: [
      { domain: `r${rule}.p${index}.example` },
      { domainSuffix: `.s${rule}.p${index}.example` },
      { cidr: `11.${index % 256}.${rule}.0/24` },
    ],
    ports: [{ protocol: 'TCP', port: 443 }],
  }));
  const name = `p${index}`;
  const spec = {
    sandboxSelector: { matchLabels },
    egress: { mode: index % 2 === 0 ? 'Deny' : 'PublicOnly', rules },
    dns: { blockDomains: [`blocked.p${index}.example`], blockDomainSuffixes: [`.ads${index}.example`] },
  };
  const written = { apiVersion: GROUP_VERSION, kind: 'NetworkPolicy', metadata: { name }, spec };
  return { namespace: 'default', name, spec: requireValid(written).spec as DefaultedNetworkPolicySpec };
}

interface Population {
  name: string;
  policies: PolicySource[];
  sandboxes: PolicySubject[];
}

const indexes = Array.from({ length: COUNT }, (_, index) => index);
const subject = (labels: Record<string, string>): PolicySubject => ({ namespace: 'default', labels });

const POPULATIONS: Population[] = [
  {
    name: `${TEAMS} teams, each sandbox under its team's policies`,
    policies: indexes.map((index) => policy(index, { team: `t${index % TEAMS}` })),
    sandboxes: indexes.map((index) => subject({ team: `t${index % TEAMS}`, app: `a${index}` })),
  },
  {
    name: 'every sandbox under every policy',
    policies: indexes.map((index) => policy(index, {})),
    sandboxes: indexes.map((index) => subject({ app: `a${index}` })),
  },
  {
    // Ten labels of two values: a policy that names one selects half of the sandboxes, and no two are alike.
    name: 'every sandbox under another half of the policies',
    policies: indexes.map((index) => policy(index, { [`l${index % 10}`]: String((index / 10) & 1) })),
    sandboxes: indexes.map((index) =>
      subject(
        Object.fromEntries(Array.from({ length: 10 }, (_, bit) => [`l${bit}`, String((index >> bit) & 1)])),
      ),
    ),
  },
];

function timed(work: () => void): number {
  const began = performance.now();
  work();
  return performance.now() - began;
}

const report = new Report(`${COUNT} network policies x ${COUNT} sandboxes`);
for (const { name, policies, sandboxes } of POPULATIONS) {
  const milliseconds = Array.from({ length: ROUNDS }, () =>
    timed(() => {
      const compiler = new PolicyCompiler(policies);
      for (const sandbox of sandboxes) compiler.compile(sandbox);
    }),
  );
  report.series(`compile: ${name}`, 'ms', milliseconds, AIM);
}

/** Nanoseconds of one decision, under this policy. */
function perDecision(
  effective: EffectivePolicy,
  decide: (effective: EffectivePolicy, round: number) => void,
): number[] {
  decide(effective, 0); // makes the policy ready, once
  return Array.from(
    { length: ROUNDS },
    () =>
      (timed(() => {
        for (let round = 0; round < DECISIONS; round += 1) decide(effective, round);
      }) /
        DECISIONS) *
      1_000,
  );
}

for (const count of [1, 20, COUNT]) {
  const policies = indexes.slice(0, count).map((index) => policy(index, {}));
  const effective = new PolicyCompiler(policies).compile(subject({}));
  report.series(
    `decide a flow under ${count} policies`,
    'us',
    perDecision(effective, (by, round) => {
      const names = [`r${1 + (round % 4)}.p${round % count}.example`];
      decideFlow(by, {
        protocol: 'TCP',
        address: '8.8.8.8',
        port: 443,
        toHost: false,
        names,
        sni: names[0] ?? null,
      });
    }),
  );
  report.series(
    `decide a question under ${count} policies`,
    'us',
    perDecision(effective, (by, round) => {
      decideQuery(by, { name: `x.s${round % 5}.p${round % count}.example` });
    }),
  );
}
report.print();
