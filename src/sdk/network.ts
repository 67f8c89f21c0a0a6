// What a sandbox may reach, and the NetworkPolicy that says the same.
import { readFile } from 'node:fs/promises';
import type { PolicyAction, PolicyDirection, PolicyProtocol } from './enums.ts';
import { failure } from './errors.ts';

export interface PolicyRule {
  action: PolicyAction;
  /** Default, and all there is: `outbound`. */
  direction?: PolicyDirection;
  /** A name, `.suffix`, `*.domain`, address, range, or group (`public`, `private`, `metadata`, `host`, ...). Absent or `*`: everything. */
  destination?: string;
  /** Absent, with a port: TCP where it allows, both where it denies. */
  protocol?: PolicyProtocol;
  port?: number;
}

export interface TlsConfig {
  /** Hosts whose TLS is not opened: names, or `*.` and a domain. */
  bypass?: readonly string[];
  verifyUpstream?: boolean;
  interceptedPorts?: readonly number[];
  blockQuic?: boolean;
  /** Authorities of servers beside the system's: PEM texts, or files with them. */
  upstreamCaCert?: readonly string[];
}

export interface NetworkConfig {
  /** Default: `public-only`. */
  policy?: 'none' | 'public-only' | 'allow-all';
  rules?: readonly PolicyRule[];
  /** Of what no rule names; default: as `policy` has it. */
  defaultAction?: PolicyAction;
  blockDomains?: readonly string[];
  /** With or without their leading dot. */
  blockDomainSuffixes?: readonly string[];
  dnsRebindProtection?: boolean;
  /** Opens TLS at the gateway. Secrets do so for their hosts without it. */
  tls?: TlsConfig;
  maxConnections?: number;
}

export const NetworkPolicy = {
  /** Nothing, names included. */
  none: (): NetworkConfig => ({ policy: 'none' }),
  /** Public addresses. */
  publicOnly: (): NetworkConfig => ({ policy: 'public-only' }),
  /** Everything that the host reaches. */
  allowAll: (): NetworkConfig => ({ policy: 'allow-all' }),
} as const;

const FIELDS: Readonly<Record<keyof NetworkConfig, true>> = {
  ...{ policy: true, rules: true, defaultAction: true, blockDomains: true, blockDomainSuffixes: true },
  ...{ dnsRebindProtection: true, tls: true, maxConnections: true },
};
const TLS_FIELDS: Readonly<Record<keyof TlsConfig, true>> = {
  ...{ bypass: true, verifyUpstream: true, interceptedPorts: true, blockQuic: true, upstreamCaCert: true },
};
const MODES = { none: 'Airgapped', 'public-only': 'PublicOnly', 'allow-all': 'AllowAll' } as const;
const GROUPS: Readonly<Record<string, string>> = {
  ...{ public: 'Public', private: 'Private', loopback: 'Loopback', 'link-local': 'LinkLocal' },
  ...{ metadata: 'Metadata', multicast: 'Multicast', host: 'Host' },
};
const EVERYTHING = [{ cidr: '0.0.0.0/0' }, { cidr: '::/0' }];
const PEM = '-----BEGIN';

function requireKnown(config: object, fields: object, what: string): void {
  for (const [field, value] of Object.entries(config))
    if (value !== undefined && !Object.hasOwn(fields, field))
      throw failure('NOT_SUPPORTED', `${what}.${field}: this release does not act on it`);
}

function modeOf({ policy = 'public-only', rules = [], defaultAction }: NetworkConfig): string {
  if (defaultAction === 'deny') return 'Deny';
  if (defaultAction === 'allow' && policy === 'none') return 'AllowAll';
  if (!Object.hasOwn(MODES, policy)) throw failure('INVALID', `network.policy: there is no "${policy}"`);
  // Nothing but what the rules name.
  return policy === 'none' && rules.length > 0 ? 'Deny' : MODES[policy];
}

function destinationsOf(destination = '*'): Record<string, string>[] {
  if (destination === '*' || destination === 'any') return EVERYTHING;
  const group = GROUPS[destination.toLowerCase()];
  if (group !== undefined) return [{ group }];
  if (/^[\d.]+(?:\/\d+)?$|:/.test(destination)) return [{ cidr: destination }];
  if (destination.startsWith('*.')) return [{ domainSuffix: destination.slice(1) }];
  return [destination.startsWith('.') ? { domainSuffix: destination } : { domain: destination }];
}

function ruleOf(rule: PolicyRule, index: number): Record<string, unknown> {
  const { action, direction = 'outbound', destination, protocol, port } = rule;
  const where = `network.rules[${index}]`;
  if (direction !== 'outbound')
    throw failure('NOT_SUPPORTED', `${where}.direction: what comes in is published by \`ports\` alone`);
  if (action !== 'allow' && action !== 'deny')
    throw failure('INVALID', `${where}.action: there is no "${String(action)}"`);
  if (protocol !== undefined && port === undefined)
    throw failure('INVALID', `${where}: a protocol needs a port`);
  const protocols =
    protocol === undefined ? (action === 'deny' ? ['TCP', 'UDP'] : ['TCP']) : [protocol.toUpperCase()];
  return {
    action: action === 'allow' ? 'Allow' : 'Deny',
    to: destinationsOf(destination),
    ...(port === undefined ? {} : { ports: protocols.map((each) => ({ protocol: each, port })) }),
  };
}

/** `spec` of the policy, without its selector; `authorities` names a ConfigMap with those of `tls.upstreamCaCert`, by index. */
export function policySpecOf(config: NetworkConfig, authorities: string): Record<string, unknown> {
  requireKnown(config, FIELDS, 'network');
  const { rules = [], blockDomains, blockDomainSuffixes, dnsRebindProtection, tls, maxConnections } = config;
  const dns = {
    ...(blockDomains === undefined ? {} : { blockDomains }),
    ...(blockDomainSuffixes === undefined
      ? {}
      : {
          blockDomainSuffixes: blockDomainSuffixes.map((each) => (each.startsWith('.') ? each : `.${each}`)),
        }),
    ...(dnsRebindProtection === undefined ? {} : { rebindProtection: dnsRebindProtection }),
  };
  return {
    egress: { mode: modeOf(config), rules: rules.map(ruleOf) },
    dns,
    ...(tls === undefined ? {} : { tls: tlsOf(tls, authorities) }),
    ...(maxConnections === undefined ? {} : { limits: { maxConnections } }),
  };
}

function tlsOf(tls: TlsConfig, authorities: string): Record<string, unknown> {
  requireKnown(tls, TLS_FIELDS, 'network.tls');
  const { upstreamCaCert = [], ...rest } = tls;
  return {
    intercept: true,
    ...Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)),
    upstreamCAs: upstreamCaCert.map((_each, index) => ({
      configMapKeyRef: { name: authorities, key: `${index}.pem` },
    })),
  };
}

/** Data of that ConfigMap; undefined where there is nothing to say. */
export async function authoritiesOf(tls: TlsConfig | undefined): Promise<Record<string, string> | undefined> {
  const given = tls?.upstreamCaCert ?? [];
  if (given.length === 0) return undefined;
  const texts = await Promise.all(
    given.map(async (each, index) => {
      if (each.includes(PEM)) return each;
      return readFile(each, 'utf8').catch((error: Error) => {
        throw failure('INVALID', `network.tls.upstreamCaCert[${index}]: ${error.message}`);
      });
    }),
  );
  return Object.fromEntries(texts.map((text, index) => [`${index}.pem`, text]));
}
