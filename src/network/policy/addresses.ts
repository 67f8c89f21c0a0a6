// IP addresses and ranges as numbers, and the IPv4 addresses that IPv6 ones carry.
import { isIP } from 'node:net';

export interface Address {
  readonly family: 4 | 6;
  readonly value: bigint;
}

export interface Range {
  readonly family: 4 | 6;
  /** With the bits below the prefix cleared. */
  readonly value: bigint;
  readonly prefix: number;
}

const BITS = { 4: 32, 6: 128 } as const;
const LOW_32 = 0xffff_ffffn;

function parseV4(text: string): bigint {
  return text.split('.').reduce((value, part) => (value << 8n) | BigInt(Number(part)), 0n);
}

function parseV6(text: string): bigint {
  let source = text;
  const dot = source.indexOf('.');
  if (dot !== -1) {
    const colon = source.lastIndexOf(':', dot);
    const tail = parseV4(source.slice(colon + 1));
    source = `${source.slice(0, colon + 1)}${(tail >> 16n).toString(16)}:${(tail & 0xffffn).toString(16)}`;
  }
  const [head = '', rest] = source.split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':'));
  const before = groups(head);
  const after = groups(rest ?? '');
  const zeros = new Array<string>(8 - before.length - after.length).fill('0');
  return [...before, ...zeros, ...after].reduce(
    (value, group) => (value << 16n) | BigInt(Number.parseInt(group, 16)),
    0n,
  );
}

/** The address with v4-mapped ones as the IPv4 address that they are. Undefined for what is none. A zone is dropped. */
export function parseAddress(text: string): Address | undefined {
  const zone = text.indexOf('%');
  const bare = zone === -1 ? text : text.slice(0, zone);
  const family = isIP(bare);
  if (family === 4) return { family: 4, value: parseV4(bare) };
  if (family !== 6) return undefined;
  const value = parseV6(bare);
  return value >> 32n === 0xffffn ? { family: 4, value: value & LOW_32 } : { family: 6, value };
}

/** One spelling for each address; a key, not for people. */
export function addressKey({ family, value }: Address): string {
  return `${family}/${value.toString(16)}`;
}

/** A range; the bits below the prefix do not count. Undefined for what is none. */
export function parseRange(text: string): Range | undefined {
  const slash = text.lastIndexOf('/');
  const address = parseAddress(text.slice(0, slash));
  const prefixText = text.slice(slash + 1);
  if (slash === -1 || address === undefined || !/^\d{1,3}$/.test(prefixText)) return undefined;
  // The prefix of a v4-mapped range counts from the start of the IPv6 address.
  const mapped = address.family === 4 && text.includes(':') ? 96 : 0;
  const prefix = Number(prefixText) - mapped;
  if (prefix < 0 || prefix > BITS[address.family]) return undefined;
  return { family: address.family, value: networkOf(address, prefix), prefix };
}

/** The address with all bits below the prefix cleared. */
export function networkOf({ family, value }: Address, prefix: number): bigint {
  const host = BigInt(BITS[family] - prefix);
  return (value >> host) << host;
}

export function contains(range: Range, address: Address): boolean {
  return range.family === address.family && networkOf(address, range.prefix) === range.value;
}

/** The range is exactly one address. */
export function isSingleAddress(range: Pick<Range, 'family' | 'prefix'>): boolean {
  return range.prefix === BITS[range.family];
}

function mustParse(text: string): Range {
  const range = parseRange(text);
  if (range === undefined) throw new Error(`${text} is no range`);
  return range;
}

const WELL_KNOWN_NAT64 = mustParse('64:ff9b::/96');
const LOCAL_NAT64 = mustParse('64:ff9b:1::/48');
const COMPATIBLE = mustParse('::/96');
const TRANSLATED = mustParse('::ffff:0:0:0/96');
const SIX_TO_FOUR = mustParse('2002::/16');
const TEREDO = mustParse('2001::/32');

/** An address behind the well-known NAT64 prefix is the IPv4 address in it: RFC 6052. */
export function isNat64(address: Address): boolean {
  return contains(WELL_KNOWN_NAT64, address);
}

/**
 * The IPv4 addresses that an IPv6 one may lead to: NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380, server
 * and client), ISATAP (RFC 5214), IPv4-compatible (RFC 4291) and IPv4-translated (RFC 2765). A few too many rather than
 * one too few: each must be allowed, and none denied.
 */
export function embeddedAddresses(address: Address): Address[] {
  if (address.family === 4) return [];
  const { value } = address;
  const found: bigint[] = [];
  if (isNat64(address) || contains(TRANSLATED, address)) found.push(value & LOW_32);
  // `::` and `::1` are addresses of their own.
  if (contains(COMPATIBLE, address) && value > 1n) found.push(value & LOW_32);
  if (contains(LOCAL_NAT64, address)) {
    // The network's own prefix may have any of the lengths of RFC 6052; bits 64 to 71 are skipped.
    const high = (value >> 64n) & LOW_32;
    const low = value & ((1n << 56n) - 1n);
    found.push(
      value & LOW_32,
      ((high & 0xffffn) << 16n) | (low >> 40n),
      ((high & 0xffn) << 24n) | (low >> 32n),
      (low >> 24n) & LOW_32,
    );
  }
  if (contains(SIX_TO_FOUR, address)) found.push((value >> 80n) & LOW_32);
  if (contains(TEREDO, address)) found.push((value >> 64n) & LOW_32, (value & LOW_32) ^ LOW_32);
  const interfaceMark = (value >> 32n) & LOW_32;
  if (interfaceMark === 0x5efen || interfaceMark === 0x0200_5efen) found.push(value & LOW_32);
  return found.map((each) => ({ family: 4, value: each }));
}
