// What holds for the network of a sandbox, for people.
import type { EffectivePolicy, EffectiveRule, SandboxPolicy } from '../../network/policy/effective.ts';
import { textOf } from '../../network/policy/rule-index.ts';
import { printable, Table } from './table.ts';

function inForceText({ effective, acknowledged }: SandboxPolicy): string {
  if (acknowledged === effective.hash) return 'yes';
  return acknowledged === undefined ? 'no, nothing leaves the sandbox' : 'not yet, a former policy is';
}

function rowOf({ policy, index, action, to, ports }: EffectiveRule): string[] {
  const allPorts = ports?.map(({ protocol, port }) => `${port}/${protocol}`).join(', ') ?? 'all';
  return [`    ${policy}`, String(index), action, to.map(textOf).join(', '), allPorts];
}

function namesText({ dns }: EffectivePolicy): [string, string][] {
  const blocked = dns.blockLists.reduce(
    (sum, { domains, suffixes }) => sum + domains.length + suffixes.length,
    0,
  );
  return [
    ['Name servers', dns.nameservers.join(', ') || "the host's"],
    ['Blocked names', String(blocked)],
    ['Rebind protection', dns.rebindProtection ? 'on' : 'off'],
  ];
}

function tlsText({ tls }: EffectivePolicy): [string, string][] {
  const asked = tls.interceptions.map(({ policy, ports }) => `ports ${ports.join(', ')} by ${policy}`);
  const secret = tls.secretHosts.length === 0 ? [] : [`secrets' hosts ${tls.secretHosts.join(', ')}`];
  const of = [...asked, ...secret];
  return of.length === 0 ? [] : [['TLS interception', of.join('; ')]];
}

/** A section of `describe`. */
export function sandboxPolicyText(policy: SandboxPolicy): string {
  const { effective } = policy;
  const { mode, limits, rules } = effective;
  const rows: [string, string][] = [
    ['In force', inForceText(policy)],
    ['Policies', effective.policies.map(({ name }) => name).join(', ') || '<none>'],
    ['Mode', mode.policy === undefined ? `${mode.value} (default)` : `${mode.value} (${mode.policy})`],
    ...namesText(effective),
    ...tlsText(effective),
    ['Connections', `at most ${limits.maxConnections}`],
    ...(limits.egressBytesPerSecond === undefined
      ? []
      : ([['Bytes sent', `at most ${limits.egressBytesPerSecond} a second`]] as [string, string][])),
  ];
  const lines = rows.map(([name, value]) => `  ${`${name}:`.padEnd(20)}${printable(value)}\n`);
  const header = ['    POLICY', 'RULE', 'ACTION', 'TO', 'PORTS'];
  const table = rules.length === 0 ? '' : new Table(header, { showHeader: true }).format(rules.map(rowOf));
  return `Network policy:\n${lines.join('')}${table}`;
}
