// Network addresses as the agent wants them: bytes in network order.
import { isIPv4, isIPv6 } from 'node:net';
import { BulkheadError } from '../api/errors.ts';

function invalid(what: string, text: string): BulkheadError {
  return new BulkheadError('INVALID', `"${text}" is no ${what}`);
}

function groupsToBytes(text: string): number[] {
  return text === ''
    ? []
    : text
        .split(':')
        .flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]);
}

/** 4 or 16 bytes. Throws INVALID. */
export function parseIp(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.').map(Number));
  if (!isIPv6(text) || text.includes('%')) throw invalid('IP address', text);
  // A trailing IPv4 part is two groups more.
  const plain = text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) => {
    const group = (high: string, low: string): string => ((Number(high) << 8) | Number(low)).toString(16);
    return `${group(a, b)}:${group(c, d)}`;
  });
  const [head = '', tail] = plain.split('::');
  const before = groupsToBytes(head);
  const after = groupsToBytes(tail ?? '');
  return Uint8Array.from([
    ...before,
    ...new Array<number>(16 - before.length - after.length).fill(0),
    ...after,
  ]);
}

/** `10.0.0.2/24`, as address bytes and prefix length. Throws INVALID. */
export function parseCidr(text: string): { ip: Uint8Array; prefixLength: number } {
  const [address = '', prefix = ''] = text.split('/');
  const ip = parseIp(address);
  const prefixLength = Number(prefix);
  if (!/^\d{1,3}$/.test(prefix) || prefixLength > ip.length * 8) throw invalid('address with prefix', text);
  return { ip, prefixLength };
}

/** `52:54:00:00:00:02` as 6 bytes. Throws INVALID. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) throw invalid('MAC address', text);
  return Uint8Array.from(text.split(':').map((part) => Number.parseInt(part, 16)));
}
