// Puts together, for a sandbox, the policies that select it. Pure: the same policies and the same labels give the same
// result and the same hash, in any order.
import { createHash } from 'node:crypto';
import {
  type BlockedAnswer,
  DEFAULT_EGRESS_MODE,
  DEFAULT_MAX_CONNECTIONS,
  type DefaultedNetworkPolicySpec,
  EGRESS_MODES,
  type EgressMode,
  type EgressRule,
} from '../../api/networkpolicy.ts';
import {
  EFFECTIVE_FORMAT,
  type EffectiveBlockList,
  type EffectiveInterception,
  type EffectivePolicy,
  type EffectiveRule,
} from './effective.ts';

/** A policy with what its references hold. */
export interface PolicySource {
  readonly namespace: string;
  readonly name: string;
  readonly spec: DefaultedNetworkPolicySpec;
  /** PEM texts of `spec.tls.upstreamCAs`, in that order. */
  readonly upstreamCAs?: readonly string[];
  /** Which state of the policy it is, where somebody has to tell: see `revisionOf`. */
  readonly revision?: string;
}

/** What is asked of a sandbox: who selects it, and what its secrets need. */
export interface PolicySubject {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>> | undefined;
  /** `allowHosts` of all its secrets. */
  readonly secretHosts?: readonly string[];
}

/** Of one policy, all that goes into what is effective. Fields stand in a fixed order: its JSON text is its identity. */
interface Part {
  readonly name: string;
  readonly blockedAnswer: BlockedAnswer;
  readonly mode: EgressMode;
  readonly rules: readonly EffectiveRule[];
  readonly blockList: EffectiveBlockList;
  readonly rebindProtection: boolean;
  readonly nameservers: readonly string[];
  readonly interception: EffectiveInterception | null;
  readonly verifyUpstream: boolean;
  readonly blockQuic: boolean;
  readonly upstreamCAs: readonly string[];
  readonly maxConnections: number;
  readonly egressBytesPerSecond: number | null;
  readonly revision?: string;
}

interface Prepared {
  readonly selector: readonly (readonly [string, string])[];
  readonly part: Part;
  readonly digest: string;
}

function sha256(text: string, encoding: 'hex' | 'base64'): string {
  return createHash('sha256').update(text).digest(encoding);
}

function ruleOf(policy: string, index: number, { action, to, ports }: EgressRule): EffectiveRule {
  const destinations = to.map(({ group, domain, domainSuffix, cidr }) => ({
    ...(group === undefined ? {} : { group }),
    ...(domain === undefined ? {} : { domain: domain.toLowerCase() }),
    ...(domainSuffix === undefined ? {} : { domainSuffix: domainSuffix.toLowerCase() }),
    ...(cidr === undefined ? {} : { cidr }),
  }));
  const rule = { policy, index, action, to: destinations };
  return ports === undefined
    ? rule
    : { ...rule, ports: ports.map(({ protocol, port }) => ({ protocol, port })) };
}

function partOf({ namespace, name, spec, upstreamCAs = [], revision }: PolicySource): Part {
  const policy = `${namespace}/${name}`;
  const { egress, dns, tls, limits } = spec;
  const lower = (names: readonly string[]) => names.map((each) => each.toLowerCase());
  return {
    name: policy,
    blockedAnswer: dns.blockedAnswer,
    mode: egress.mode,
    rules: egress.rules.map((rule, index) => ruleOf(policy, index, rule)),
    blockList: { policy, domains: lower(dns.blockDomains), suffixes: lower(dns.blockDomainSuffixes) },
    rebindProtection: dns.rebindProtection,
    nameservers: dns.nameservers,
    interception: tls.intercept ? { policy, ports: tls.interceptedPorts, bypass: lower(tls.bypass) } : null,
    verifyUpstream: tls.verifyUpstream,
    blockQuic: tls.blockQuic,
    upstreamCAs,
    maxConnections: limits.maxConnections,
    egressBytesPerSecond: limits.egressBytesPerSecond ?? null,
    ...(revision === undefined ? {} : { revision }),
  };
}

function strictest(parts: readonly Part[]): EffectivePolicy['mode'] {
  let found: Part | undefined;
  for (const part of parts) {
    if (found === undefined || EGRESS_MODES.indexOf(part.mode) > EGRESS_MODES.indexOf(found.mode))
      found = part;
  }
  return found === undefined ? { value: DEFAULT_EGRESS_MODE } : { value: found.mode, policy: found.name };
}

/** True where nobody says otherwise: what is on by default is off only when every policy has it off. */
function anyOn(parts: readonly Part[], of: (part: Part) => boolean): boolean {
  return parts.length === 0 || parts.some(of);
}

function limitsOf(parts: readonly Part[]): EffectivePolicy['limits'] {
  // Not spread into Math.min: a call takes no more arguments than fit on the stack.
  const least = (values: readonly number[]) =>
    values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const rate = least(
    parts.map(({ egressBytesPerSecond }) => egressBytesPerSecond ?? Number.POSITIVE_INFINITY),
  );
  return {
    maxConnections:
      parts.length === 0 ? DEFAULT_MAX_CONNECTIONS : least(parts.map(({ maxConnections }) => maxConnections)),
    ...(Number.isFinite(rate) ? { egressBytesPerSecond: rate } : {}),
  };
}

function merge(hash: string, parts: readonly Part[], secretHosts: readonly string[]): EffectivePolicy {
  return {
    format: EFFECTIVE_FORMAT,
    hash,
    policies: parts.map(({ name, blockedAnswer, revision }) => ({
      ...{ name, blockedAnswer },
      ...(revision === undefined ? {} : { revision }),
    })),
    mode: strictest(parts),
    rules: parts.flatMap(({ rules }) => rules),
    dns: {
      blockLists: parts
        .map(({ blockList }) => blockList)
        .filter(({ domains, suffixes }) => domains.length + suffixes.length > 0),
      rebindProtection: anyOn(parts, (part) => part.rebindProtection),
      nameservers: parts.find(({ nameservers }) => nameservers.length > 0)?.nameservers ?? [],
    },
    tls: {
      interceptions: parts.flatMap(({ interception }) => interception ?? []),
      secretHosts,
      verifyUpstream: anyOn(parts, (part) => part.verifyUpstream),
      blockQuic: anyOn(parts, (part) => part.blockQuic),
      upstreamCAs: [...new Set(parts.flatMap(({ upstreamCAs }) => upstreamCAs))],
    },
    limits: limitsOf(parts),
  };
}

/**
 * Many sandboxes against the same policies: what is equal is prepared once, and sandboxes for which the same policies hold
 * share one result.
 */
export class PolicyCompiler {
  readonly #namespaces = new Map<string, Prepared[]>();
  readonly #results = new Map<string, EffectivePolicy>();

  constructor(policies: readonly PolicySource[]) {
    for (const policy of policies) {
      const part = partOf(policy);
      const prepared: Prepared = {
        selector: Object.entries(policy.spec.sandboxSelector.matchLabels ?? {}),
        part,
        digest: sha256(JSON.stringify(part), 'base64'),
      };
      const others = this.#namespaces.get(policy.namespace);
      if (others === undefined) this.#namespaces.set(policy.namespace, [prepared]);
      else others.push(prepared);
    }
    for (const policiesOfOne of this.#namespaces.values())
      policiesOfOne.sort((a, b) => (a.part.name < b.part.name ? -1 : 1));
  }

  /** What is in force for a sandbox. The result is shared: never changed by anyone. */
  compile(subject: PolicySubject): EffectivePolicy {
    const selecting = (this.#namespaces.get(subject.namespace) ?? []).filter(({ selector }) =>
      selects(selector, subject.labels),
    );
    const secretHosts = [...new Set((subject.secretHosts ?? []).map((host) => host.toLowerCase()))].sort();
    const digests = selecting.map(({ digest }) => digest).join();
    const hash = sha256(`${EFFECTIVE_FORMAT}\n${digests}\n${JSON.stringify(secretHosts)}`, 'hex');
    const known = this.#results.get(hash);
    if (known !== undefined) return known;
    const effective = merge(
      hash,
      selecting.map(({ part }) => part),
      secretHosts,
    );
    this.#results.set(hash, effective);
    return effective;
  }
}

function selects(
  selector: readonly (readonly [string, string])[],
  labels: Readonly<Record<string, string>> | undefined,
): boolean {
  return selector.every(
    ([key, value]) => labels !== undefined && Object.hasOwn(labels, key) && labels[key] === value,
  );
}

/** Does the policy hold for a sandbox of its namespace with these labels? An empty selector holds for every one. */
export function selectsLabels(
  { sandboxSelector }: DefaultedNetworkPolicySpec,
  labels: Readonly<Record<string, string>> | undefined,
): boolean {
  return selects(Object.entries(sandboxSelector.matchLabels ?? {}), labels);
}

/** What is in force for one sandbox. Policies of other namespaces do not count. */
export function compilePolicies(policies: readonly PolicySource[], subject: PolicySubject): EffectivePolicy {
  return new PolicyCompiler(policies).compile(subject);
}

/** Nothing at all goes out: for a sandbox whose policy, named here, cannot be put into force. */
export function closedPolicy(policy: string): EffectivePolicy {
  const hash = sha256(`${EFFECTIVE_FORMAT}\nclosed\n${policy}`, 'hex');
  const policies = [{ name: policy, blockedAnswer: 'REFUSED' as const }];
  return { ...merge(hash, [], []), policies, mode: { value: 'Airgapped', policy } };
}

/** Another one for every state of a policy, and for every policy of one name. */
export function revisionOf({ uid, generation }: { uid: string; generation: number }): string {
  return `${uid}/${generation}`;
}

/**
 * Which states of which policies these are, in the order of their names, in 32 characters. Who knows the policies alone computes
 * the same as who has them in force; one that cannot be put into force has no revision, and makes another digest.
 */
export function revisionsDigest(policies: readonly { name: string; revision?: string }[]): string {
  return sha256(JSON.stringify(policies.map(({ name, revision }) => [name, revision ?? ''])), 'hex').slice(
    0,
    32,
  );
}
