// Which group of addresses a destination belongs to. Public is what is left: globally reachable unicast addresses, as the
// special-purpose registries of IANA say. Ranges for documentation and benchmarks are Private, since no public host has
// such an address.
import type { AddressGroup } from '../../api/networkpolicy.ts';
import {
  type Address,
  contains,
  embeddedAddresses,
  isNat64,
  parseAddress,
  parseRange,
  type Range,
} from './addresses.ts';

const RANGES: Readonly<Record<Exclude<AddressGroup, 'Public' | 'Host'>, readonly string[]>> = {
  Metadata: [
    '169.254.169.0/24', // AWS, Azure, Google Cloud, Oracle, DigitalOcean, Hetzner, IBM, OpenStack and most others
    '169.254.170.0/24', // AWS: credentials of ECS tasks and EKS pods
    '169.254.0.23/32', // Tencent Cloud
    '169.254.42.42/32', // Scaleway
    '100.100.100.200/32', // Alibaba Cloud
    '168.63.129.16/32', // Azure: WireServer
    '192.0.0.192/32', // Oracle Cloud Classic
    'fd00:ec2::/32', // AWS: metadata, EKS pod identity, time, DNS
    'fd20:ce::254/128', // Google Cloud
    'fd00:c1::a9fe:a9fe/128', // Oracle Cloud
    'fd00:42::42/128', // Scaleway
    'fd00:a9fe:a9fe::1/128', // Akamai (Linode)
    'fd00:100::100:200/128', // Alibaba Cloud
    'fe80::a9fe:a9fe/128', // OpenStack
  ],
  // Linux takes the unspecified address of a destination for the loopback one.
  Loopback: ['127.0.0.0/8', '0.0.0.0/8', '::1/128', '::/128'],
  LinkLocal: ['169.254.0.0/16', 'fe80::/10'],
  Multicast: ['224.0.0.0/4', '255.255.255.255/32', 'ff00::/8'],
  Private: [
    '10.0.0.0/8',
    '172.16.0.0/12',
    '192.168.0.0/16',
    '100.64.0.0/10', // shared address space of carriers: RFC 6598
    '192.0.0.0/24', // protocol assignments: RFC 6890
    '192.88.99.0/24', // 6to4 relays, withdrawn: RFC 7526
    '192.0.2.0/24', // documentation: RFC 5737
    '198.51.100.0/24',
    '203.0.113.0/24',
    '198.18.0.0/15', // benchmarks: RFC 2544
    '240.0.0.0/4', // reserved: RFC 1112
    '2001::/23', // protocol assignments, Teredo among them: RFC 2928
    '2001:db8::/32', // documentation: RFC 3849
    '3fff::/20', // documentation: RFC 9637
    '2002::/16', // 6to4: RFC 3056
  ],
};

/** All that IANA has given out for global unicast; other IPv6 ranges are taken for private. */
const GLOBAL_V6 = mustParse('2000::/3');

function mustParse(text: string): Range {
  const range = parseRange(text);
  if (range === undefined) throw new Error(`${text} is no range`);
  return range;
}

const TABLE = Object.entries(RANGES).map(([group, ranges]) => ({
  group: group as keyof typeof RANGES,
  ranges: ranges.map(mustParse),
}));

/** By what an address that leads to several places is known: the first of these that any of them is in. */
const MOST_GUARDED_FIRST: readonly AddressGroup[] = [
  'Metadata',
  'Host',
  'Loopback',
  'LinkLocal',
  'Multicast',
  'Private',
  'Public',
];

export interface Destination {
  readonly address: Address;
  /** IPv4 addresses that it may lead to. */
  readonly embedded: readonly Address[];
  /** The one group by which an Allow opens it: metadata addresses are not opened by LinkLocal, nor the host by Private. */
  readonly group: AddressGroup;
  /** All groups by which a Deny closes it: everything that it is, and that it may lead to. */
  readonly groups: ReadonlySet<AddressGroup>;
}

function groupsOf(address: Address): AddressGroup[] {
  const groups: AddressGroup[] = TABLE.filter(({ ranges }) =>
    ranges.some((range) => contains(range, address)),
  ).map(({ group }) => group);
  const registered = groups.some((group) => group !== 'Metadata');
  if (!registered) groups.push(address.family === 4 || contains(GLOBAL_V6, address) ? 'Public' : 'Private');
  return groups;
}

/** Where an address leads. Undefined for what is no address. */
export function destinationOf(text: string, toHost: boolean): Destination | undefined {
  const address = parseAddress(text);
  if (address === undefined) return undefined;
  const embedded = embeddedAddresses(address);
  // NAT64's own prefix says nothing: what counts is the address behind it.
  const faces = isNat64(address) ? embedded : [address, ...embedded];
  const groups = new Set<AddressGroup>(faces.flatMap(groupsOf));
  if (toHost) groups.add('Host');
  const group = MOST_GUARDED_FIRST.find((each) => groups.has(each)) ?? 'Private';
  return { address, embedded, group, groups };
}
