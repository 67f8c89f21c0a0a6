// The NetworkPolicy kind: what selected sandboxes may reach, and how their DNS and TLS are treated.
import { type Static, Type } from 'typebox';
import type { StoredObject } from './meta.ts';
import {
  choice,
  conditionList,
  exactlyOneOf,
  flag,
  INT32_MAX,
  integer,
  keyReference,
  list,
  nullableInteger,
  object,
  observedGeneration,
  SAFE_INTEGER_MAX,
  set,
  stringMap,
  text,
} from './schema.ts';

/** Rules are looked at in order for each new connection. */
const RULES_MAX = 128;
const DESTINATIONS_MAX = 64;
const RULE_PORTS_MAX = 32;
/** Entries of the DNS block lists, kept in memory by the gateway for each sandbox. */
const BLOCK_LIST_MAX = 1024;
const DOMAIN_MAX = 253;
/** RFC 1035: at most 63 characters; the underscore is not of host names, but of names that are asked for. */
const LABEL = '[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?';
const LABELS = `(${LABEL})(\\.${LABEL})*`;

function domain(description: string) {
  return text({
    description,
    minLength: 1,
    maxLength: DOMAIN_MAX,
    pattern: `^${LABELS}$`,
    expected: 'a domain name, such as "api.example.com"; for all names below it use domainSuffix',
    rules: [
      {
        rule: '!isIP(self)',
        message: 'a domain must be a name; write an address as cidr, such as 203.0.113.7/32',
      },
    ],
  });
}

function domainSuffix(description: string) {
  return text({
    description,
    minLength: 2,
    maxLength: DOMAIN_MAX,
    pattern: `^\\.${LABELS}$`,
    expected: 'a domain suffix with its leading dot, such as ".example.com"',
  });
}

/** Groups of addresses that a destination may name. */
export const ADDRESS_GROUPS = [
  'Public',
  'Private',
  'Loopback',
  'LinkLocal',
  'Metadata',
  'Multicast',
  'Host',
] as const;
/** The last is the strictest. */
export const EGRESS_MODES = ['AllowAll', 'PublicOnly', 'Deny', 'Airgapped'] as const;
export const BLOCKED_ANSWERS = ['NXDOMAIN', 'REFUSED'] as const;
/** What holds for a sandbox that no policy selects. */
export const DEFAULT_EGRESS_MODE = 'PublicOnly' satisfies (typeof EGRESS_MODES)[number];
/** Open connections of one sandbox at a time where nothing else is said. */
export const DEFAULT_MAX_CONNECTIONS = 256;

const DESTINATIONS = ['group', 'domain', 'domainSuffix', 'cidr'] as const;

const DestinationSchema = object(
  {
    group: Type.Optional(
      choice(ADDRESS_GROUPS, {
        description:
          'A group of addresses. Metadata: those of every large cloud. Host: this host, also as host.bulkhead.internal. A Deny closes whatever belongs to the group, an Allow what belongs to no more guarded one.',
      }),
    ),
    domain: Type.Optional(
      domain(
        'A name. An Allow holds for public addresses that the sandbox resolved for it, and where SNI or Host are seen, they must agree. A Deny holds where any of them shows it.',
      ),
    ),
    domainSuffix: Type.Optional(domainSuffix('All names below a domain, not itself; with the leading dot.')),
    cidr: Type.Optional(
      text({
        description:
          'An address range. It opens metadata addresses and the host only where it is one single address.',
        minLength: 4,
        maxLength: 49,
        rules: [{ rule: 'isCIDR(self)', message: 'cidr must be an address range, such as 203.0.113.0/24' }],
      }),
    ),
  },
  { description: 'One destination.', rules: [exactlyOneOf(DESTINATIONS, 'a destination')] },
);

const RuleSchema = object(
  {
    action: choice(['Allow', 'Deny'], { description: 'What happens to what matches. Deny wins over Allow.' }),
    to: list(DestinationSchema, {
      description: 'Destinations, any of which matches.',
      minItems: 1,
      maxItems: DESTINATIONS_MAX,
    }),
    ports: Type.Optional(
      list(
        object(
          {
            protocol: Type.Optional(
              choice(['TCP', 'UDP'], { description: 'Transport protocol.', default: 'TCP' }),
            ),
            port: integer({ description: 'Destination port.', minimum: 1, maximum: 65535 }),
          },
          { description: 'One port.' },
        ),
        { description: 'Ports, any of which matches. Default: all.', minItems: 1, maxItems: RULE_PORTS_MAX },
      ),
    ),
  },
  { description: 'One rule.' },
);

const EgressSchema = object(
  {
    mode: Type.Optional(
      choice(EGRESS_MODES, {
        description:
          'What holds where no rule matches. AllowAll: everything; PublicOnly: public addresses; Deny: nothing; Airgapped: nothing, whatever rules say, DNS included. Of several policies the strictest.',
        default: DEFAULT_EGRESS_MODE,
      }),
    ),
    rules: Type.Optional(
      list(RuleSchema, { description: 'Exceptions from the mode.', default: [], maxItems: RULES_MAX }),
    ),
  },
  {
    description: 'Connections that the sandboxes open.',
    default: {},
    rules: [
      {
        // Kubernetes evaluates this on the bare default ({}) too, so nothing may be taken to be there.
        rule: "!has(self.mode) || self.mode != 'Airgapped' || !has(self.rules) || !self.rules.exists(r, r.action == 'Allow')",
        message: 'egress.rules must not allow anything in mode Airgapped, which no rule opens; use mode Deny',
        fieldPath: '.rules',
      },
    ],
  },
);

const DnsSchema = object(
  {
    blockDomains: Type.Optional(
      set(domain('A name.'), {
        description: 'Names that do not resolve. Connections that show one are refused too.',
        default: [],
        maxItems: BLOCK_LIST_MAX,
      }),
    ),
    blockDomainSuffixes: Type.Optional(
      set(domainSuffix('A suffix with its leading dot.'), {
        description:
          'Domains below which no name resolves, each with its leading dot. Connections that show one are refused too.',
        default: [],
        maxItems: BLOCK_LIST_MAX,
      }),
    ),
    rebindProtection: Type.Optional(
      flag({
        description:
          'Drops addresses from answers that are not public and that no rule opens by group or range. Off only where every policy has it off.',
        default: true,
      }),
    ),
    nameservers: Type.Optional(
      list(
        text({
          description: 'Address of a name server.',
          minLength: 2,
          maxLength: 45,
          rules: [{ rule: 'isIP(self)', message: 'nameservers must be IP addresses, such as 9.9.9.9' }],
        }),
        {
          description:
            "Name servers to ask, in this order. Default: the host's own. Of several policies the first by name that has some.",
          default: [],
          maxItems: 8,
        },
      ),
    ),
    blockedAnswer: Type.Optional(
      choice(BLOCKED_ANSWERS, {
        description: 'What a question for a blocked name is answered with.',
        default: 'NXDOMAIN',
      }),
    ),
  },
  { description: 'Name resolution.', default: {} },
);

const LEFT_OUT = 'is left out; otherwise the selected sandboxes are closed until it is there';

const TlsSchema = object(
  {
    intercept: Type.Optional(
      flag({
        description:
          'Opens TLS connections at the gateway with a certificate of its own. Secrets of a sandbox turn it on for their hosts.',
        default: false,
      }),
    ),
    interceptedPorts: Type.Optional(
      set(integer({ description: 'A port.', minimum: 1, maximum: 65535 }), {
        description: 'Destination ports on which TLS is opened.',
        default: [443],
        maxItems: RULE_PORTS_MAX,
      }),
    ),
    bypass: Type.Optional(
      set(
        text({
          description: 'Host name, or *. and a domain.',
          minLength: 1,
          maxLength: DOMAIN_MAX,
          pattern: `^(\\*\\.)?${LABELS}$`,
          expected: 'a host name, such as "api.example.com" or "*.example.com"',
        }),
        {
          description:
            'Hosts whose connections this policy leaves closed. Hosts of secrets are opened all the same.',
          default: [],
          maxItems: 256,
        },
      ),
    ),
    verifyUpstream: Type.Optional(
      flag({ description: 'Checks the certificate of the real server.', default: true }),
    ),
    blockQuic: Type.Optional(
      flag({ description: 'Refuses QUIC on intercepted ports, so that clients take TCP.', default: true }),
    ),
    upstreamCAs: Type.Optional(
      list(
        object(
          {
            secretKeyRef: Type.Optional(keyReference('A key of a Secret.', 'Secret', LEFT_OUT)),
            configMapKeyRef: Type.Optional(keyReference('A key of a ConfigMap.', 'ConfigMap', LEFT_OUT)),
          },
          {
            description: 'Where PEM certificates are read from.',
            rules: [exactlyOneOf(['secretKeyRef', 'configMapKeyRef'], 'an entry of upstreamCAs')],
          },
        ),
        {
          description: "Certificate authorities that are trusted for upstream beside the system's.",
          default: [],
          maxItems: 16,
        },
      ),
    ),
  },
  { description: 'Inspection of TLS.', default: {} },
);

const LimitsSchema = object(
  {
    maxConnections: Type.Optional(
      integer({
        description: 'Open connections of one sandbox at a time.',
        default: DEFAULT_MAX_CONNECTIONS,
        minimum: 1,
        maximum: 65536,
      }),
    ),
    egressBytesPerSecond: Type.Optional(
      nullableInteger({
        description: 'Bytes that one sandbox may send in a second. Absent or null: as many as it can.',
        minimum: 1024,
        maximum: SAFE_INTEGER_MAX,
      }),
    ),
  },
  { description: 'Bounds for each selected sandbox. Of several policies the smallest.', default: {} },
);

export const NetworkPolicySpecSchema = object(
  {
    sandboxSelector: Type.Optional(
      object(
        {
          matchLabels: Type.Optional(
            stringMap({
              description: 'Labels that a sandbox must have, all of them.',
              maxProperties: 32,
              maxValueLength: 63,
            }),
          ),
        },
        {
          description: 'Which sandboxes of the namespace it holds for. Empty selects every one.',
          default: {},
        },
      ),
    ),
    egress: Type.Optional(EgressSchema),
    dns: Type.Optional(DnsSchema),
    tls: Type.Optional(TlsSchema),
    limits: Type.Optional(LimitsSchema),
  },
  { description: 'What is asked for.' },
);

const count = (description: string, maximum = INT32_MAX) =>
  Type.Optional(integer({ description, minimum: 0, maximum }));

export const NetworkPolicyStatusSchema = object(
  {
    observedGeneration: Type.Optional(observedGeneration()),
    selected: count('Sandboxes that it selects.'),
    programmed: count('Selected sandboxes in whose gateway it is in force.'),
    conditions: Type.Optional(conditionList('What is observed of this policy.')),
  },
  { description: 'What is observed. Written by the controller.' },
);

export const NetworkPolicySchema = object(
  { spec: NetworkPolicySpecSchema, status: Type.Optional(NetworkPolicyStatusSchema) },
  { description: 'What selected sandboxes may reach. Several hold together; the strictest decides.' },
);

export type NetworkPolicySpec = Static<typeof NetworkPolicySpecSchema>;
export type NetworkPolicyStatus = Static<typeof NetworkPolicyStatusSchema>;
export type NetworkPolicy = StoredObject<NetworkPolicySpec, NetworkPolicyStatus>;

export type AddressGroup = (typeof ADDRESS_GROUPS)[number];
export type EgressMode = (typeof EGRESS_MODES)[number];
export type BlockedAnswer = (typeof BLOCKED_ANSWERS)[number];
export type EgressAction = EgressRule['action'];
/** Exactly one of its fields is set. */
export type EgressDestination = Static<typeof DestinationSchema>;
export type EgressPort = Required<NonNullable<Static<typeof RuleSchema>['ports']>[number]>;
export type EgressRule = Omit<Static<typeof RuleSchema>, 'ports'> & { ports?: EgressPort[] };

/** The spec as the store holds it: every default is filled in. */
export interface DefaultedNetworkPolicySpec {
  sandboxSelector: { matchLabels?: Record<string, string> };
  egress: { mode: EgressMode; rules: EgressRule[] };
  dns: Required<Static<typeof DnsSchema>>;
  tls: Required<Static<typeof TlsSchema>>;
  limits: { maxConnections: number; egressBytesPerSecond?: number | null };
}
export type DefaultedNetworkPolicy = StoredObject<DefaultedNetworkPolicySpec, NetworkPolicyStatus>;
