// Names that are of use on one host or one network only: no name server outside may learn that somebody asks for them.

/** RFC 6761 (but for `test`, which private name servers do serve), RFC 6762, RFC 7686, RFC 8375, RFC 9476, and the zone that ICANN keeps for private use. */
const LOCAL_DOMAINS = ['localhost', 'local', 'internal', 'invalid', 'onion', 'home.arpa', 'alt'];

/** Reverse zones of private, local and unspecified addresses: RFC 6303. */
const LOCAL_REVERSE = [
  '0.in-addr.arpa',
  '10.in-addr.arpa',
  '127.in-addr.arpa',
  '254.169.in-addr.arpa',
  '168.192.in-addr.arpa',
  ...Array.from({ length: 16 }, (_, index) => `${16 + index}.172.in-addr.arpa`),
  ...Array.from({ length: 64 }, (_, index) => `${64 + index}.100.in-addr.arpa`),
  'c.f.ip6.arpa',
  'd.f.ip6.arpa',
  '8.e.f.ip6.arpa',
  '9.e.f.ip6.arpa',
  'a.e.f.ip6.arpa',
  'b.e.f.ip6.arpa',
  // `::` and `::1`, and all else that begins with 120 zero bits.
  `${'0.'.repeat(30)}ip6.arpa`,
];

const LOCAL = new Set([...LOCAL_DOMAINS, ...LOCAL_REVERSE]);

/** Is the (normalized) name of local use: in one of the zones above, or without any dot, as search lists leave them? */
export function isLocalName(name: string): boolean {
  if (!name.includes('.')) return true;
  for (let rest = name; ; ) {
    if (LOCAL.has(rest)) return true;
    const dot = rest.indexOf('.');
    if (dot === -1) return false;
    rest = rest.slice(dot + 1);
  }
}
