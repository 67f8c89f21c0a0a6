// From an effective policy and a flow, a question or an answer to a verdict and what decided it. Pure: the gateway, `policy
// test` and the tests ask the same functions.
//
// Precedence: Airgapped is absolute; then what is built in (port 53, encrypted DNS, QUIC where TLS is intercepted); an explicit
// Deny, block lists included, beats any Allow; then an Allow; then the mode, the strictest of all policies.
import { isNat64 } from './addresses.ts';
import type { EffectivePolicy, EffectiveRule } from './effective.ts';
import type { Decider, Flow, FlowProtocol, FlowVerdict, QueryVerdict, Question } from './flow.ts';
import { type Destination, destinationOf } from './groups.ts';
import { interceptionOf } from './interception.ts';
import { type Matcher, matcherOf } from './matcher.ts';
import { HOST_NAME, normalizeName } from './names.ts';
import { deciderOf, type Entry, earliest } from './rule-index.ts';
import { isLocalName } from './special-names.ts';

export const DNS_PORT = 53;
/** DNS over TLS (RFC 7858) and over QUIC (RFC 9250). */
export const ENCRYPTED_DNS_PORT = 853;

function matchesPort(rule: EffectiveRule, protocol: FlowProtocol, port: number): boolean {
  return (
    rule.ports === undefined || rule.ports.some((each) => each.protocol === protocol && each.port === port)
  );
}

function modeOf({ mode }: EffectivePolicy): Decider {
  return {
    kind: 'Mode',
    mode: mode.value,
    ...(mode.policy === undefined ? {} : { policy: mode.policy }),
  };
}

function denied(by: Decider): FlowVerdict {
  return { allowed: false, by, inspect: false };
}

/** Every name that the flow goes by: any of them may close it. */
function allNames({ names, sni, httpHost }: Flow): string[] {
  return [...names, sni ?? '', httpHost ?? ''].flatMap((name) => normalizeName(name) ?? []);
}

/** Names that may open it: resolved to the address by this sandbox, and not contradicted by what it says itself. */
function agreedNames({ names, sni, httpHost }: Flow): string[] {
  const said = [sni, httpHost].filter((name) => name !== undefined).map((name) => normalizeName(name ?? ''));
  return names
    .flatMap((name) => normalizeName(name) ?? [])
    .filter((name) => said.every((each) => each === name));
}

function findDeny(
  { deny, blocked }: Matcher,
  flow: Flow,
  { address, embedded, groups }: Destination,
): Decider | undefined {
  const accept = (rule: EffectiveRule) => matchesPort(rule, flow.protocol, flow.port);
  const names = allNames(flow);
  const entry = earliest([
    ...[...groups].map((group) => deny.byGroup(group, accept)),
    ...[address, ...embedded].map((each) => deny.byRange(each, accept, false)),
    ...names.map((name) => deny.byName(name, accept)),
  ]);
  if (entry !== undefined) return deciderOf(entry);
  for (const name of names) {
    const by = blocked.find(name);
    if (by !== undefined) return by;
  }
  return undefined;
}

/** A range opens metadata addresses and this host only where it is that one address: nobody means them by 10.0.0.0/8. */
function isGuarded({ group }: Destination): boolean {
  return group === 'Metadata' || group === 'Host';
}

/** Names are others' to point anywhere: a rule that names one opens nothing but what a public name may lead to. */
function opensByName(effective: EffectivePolicy, { group }: Destination): boolean {
  return group === 'Public' || (group === 'Private' && !effective.dns.rebindProtection);
}

function findByAddress(
  { allow }: Matcher,
  accept: (rule: EffectiveRule) => boolean,
  destination: Destination,
): Entry | undefined {
  const { address, embedded, group } = destination;
  const single = isGuarded(destination);
  const own = earliest([allow.byGroup(group, accept), allow.byRange(address, accept, single)]);
  // An address behind NAT64 is the IPv4 address in it. What other forms lead to is not what a rule for IPv4 means.
  if (own !== undefined || !isNat64(address)) return own;
  return earliest(embedded.map((inner) => allow.byRange(inner, accept, single)));
}

/** May this flow go out? */
export function decideFlow(effective: EffectivePolicy, flow: Flow): FlowVerdict {
  if (effective.mode.value === 'Airgapped') return denied(modeOf(effective));
  const destination = destinationOf(flow.address, flow.toHost);
  if (destination === undefined) return denied({ kind: 'Malformed' });
  const transport = flow.protocol !== 'ICMP';
  if (transport && flow.port === DNS_PORT) return denied({ kind: 'DnsFilter' });
  const matcher = matcherOf(effective);
  const deny = findDeny(matcher, flow, destination);
  if (deny !== undefined) return denied(deny);
  const names = agreedNames(flow);
  if (flow.protocol === 'UDP' && refusesQuic(effective, flow, names)) return denied({ kind: 'BlockQuic' });

  const encryptedDns = transport && flow.port === ENCRYPTED_DNS_PORT;
  const accept = (rule: EffectiveRule) =>
    matchesPort(rule, flow.protocol, flow.port) && (!encryptedDns || rule.ports !== undefined);
  const byAddress = findByAddress(matcher, accept, destination);
  const byName = opensByName(effective, destination)
    ? earliest(names.map((name) => matcher.allow.byName(name, accept)))
    : undefined;
  const unseen = flow.protocol === 'TCP' && flow.sni === undefined && flow.httpHost === undefined;
  const namesMayDeny = unseen && (matcher.deny.namesDomains || !matcher.blocked.isEmpty);
  if (byAddress !== undefined) return { allowed: true, by: deciderOf(byAddress), inspect: namesMayDeny };
  if (encryptedDns && byName === undefined) return denied({ kind: 'EncryptedDns' });
  const mode = effective.mode.value;
  const byMode = mode === 'AllowAll' || (mode === 'PublicOnly' && destination.group === 'Public');
  if (byMode && byName === undefined) return { allowed: true, by: modeOf(effective), inspect: namesMayDeny };
  if (byName === undefined) return denied(modeOf(effective));
  return {
    allowed: true,
    by: deciderOf(byName),
    // What the mode would allow anyway, no other name closes.
    inspect: byMode ? namesMayDeny : unseen,
  };
}

function refusesQuic(effective: EffectivePolicy, flow: Flow, names: readonly string[]): boolean {
  if (!effective.tls.blockQuic) return false;
  // Of a datagram the name is not seen: only an address that stands for bypassed hosts alone is none to be opened.
  const candidates = names.length === 0 ? [null] : names;
  return candidates.some((name) => interceptionOf(effective, flow.port, name) !== undefined);
}

/** May this name be asked for? `host.bulkhead.internal` is answered by the filter itself where it may. */
export function decideQuery(effective: EffectivePolicy, { name: text }: Question): QueryVerdict {
  const verdict = (allowed: boolean, by: Decider): QueryVerdict => ({
    allowed,
    by,
    blockedAnswer: blockedAnswerOf(effective, by),
  });
  const mode = modeOf(effective);
  if (effective.mode.value === 'Airgapped') return verdict(false, mode);
  const name = normalizeName(text);
  if (name === undefined) return verdict(false, { kind: 'Malformed' });
  const { allow } = matcherOf(effective);
  const denying = decideAlias(effective, name);
  if (denying !== undefined) return verdict(false, denying);
  if (name === HOST_NAME) return hostQuery(effective, verdict);
  const allowing = allow.byName(name, () => true);
  if (allowing !== undefined) return verdict(true, deciderOf(allowing));
  if (isLocalName(name)) return verdict(false, { kind: 'LocalName' });
  if (effective.mode.value !== 'Deny') return verdict(true, mode);
  // Who may reach every public address may ask for every public name.
  const everything = allow.byGroup('Public', () => true);
  return everything === undefined ? verdict(false, mode) : verdict(true, deciderOf(everything));
}

/**
 * Why an alias that leads to this name closes the answer; undefined where it does not. What nothing names is open: the name
 * that leads there was allowed.
 */
export function decideAlias(effective: EffectivePolicy, text: string): Decider | undefined {
  const name = normalizeName(text);
  if (name === undefined) return { kind: 'Malformed' };
  const { deny, blocked } = matcherOf(effective);
  // A rule with ports denies some connections; a name is needed for the others.
  const denying = deny.byName(name, ({ ports }) => ports === undefined);
  return denying === undefined ? blocked.find(name) : deciderOf(denying);
}

function hostQuery(
  effective: EffectivePolicy,
  verdict: (allowed: boolean, by: Decider) => QueryVerdict,
): QueryVerdict {
  const { allow, deny } = matcherOf(effective);
  const denying = deny.byGroup('Host', ({ ports }) => ports === undefined);
  if (denying !== undefined) return verdict(false, deciderOf(denying));
  const allowing = allow.byGroup('Host', () => true);
  if (allowing !== undefined) return verdict(true, deciderOf(allowing));
  return verdict(effective.mode.value === 'AllowAll', modeOf(effective));
}

/** An address that an answer gives for a name that may be asked for: may the guest be told it? */
export function decideAnswer(
  effective: EffectivePolicy,
  address: string,
  toHost: boolean,
): { readonly allowed: boolean; readonly by: Decider } {
  const destination = destinationOf(address, toHost);
  if (destination === undefined) return { allowed: false, by: { kind: 'Malformed' } };
  if (destination.group === 'Public' || !effective.dns.rebindProtection)
    return { allowed: true, by: modeOf(effective) };
  const entry = findByAddress(matcherOf(effective), () => true, destination);
  return entry === undefined
    ? { allowed: false, by: { kind: 'RebindProtection' } }
    : { allowed: true, by: deciderOf(entry) };
}

/** What the deciding policy says; where none decided, what the first one says. */
function blockedAnswerOf({ policies }: EffectivePolicy, by: Decider): QueryVerdict['blockedAnswer'] {
  const deciding = 'policy' in by ? policies.find(({ name }) => name === by.policy) : undefined;
  return (deciding ?? policies[0])?.blockedAnswer ?? 'NXDOMAIN';
}
