// What tells a guest that a datagram of it goes nowhere: messages of ICMP (RFC 792, 1812) and ICMPv6 (RFC 4443).
import { parseAddress } from '../policy/addresses.ts';
import type { Endpoint } from './datagram-session.ts';

/** Type and code: forbidden by an administrator, and nobody has the port. */
const MESSAGES = {
  4: { Denied: [3, 13], Failed: [3, 3] },
  6: { Denied: [1, 1], Failed: [1, 4] },
} as const;
const ICMP_HEADER_BYTES = 8;
const IP_HEADER_BYTES = { 4: 20, 6: 40 } as const;
const ADDRESS_BYTES = { 4: 4, 6: 16 } as const;
const UDP_HEADER_BYTES = 8;
const UDP = 17;

/** Without its checksum. It ends with the headers of the datagram, by which the guest finds the socket that sent it. */
export function icmpUnreachable(guest: Endpoint, destination: Endpoint, why: 'Denied' | 'Failed'): Buffer {
  const family = guest.host.includes(':') ? 6 : 4;
  const ipBytes = IP_HEADER_BYTES[family];
  const message = Buffer.alloc(ICMP_HEADER_BYTES + ipBytes + UDP_HEADER_BYTES);
  message.set(MESSAGES[family][why]);
  const ip = message.subarray(ICMP_HEADER_BYTES);
  if (family === 4) {
    ip.writeUInt8(0x45, 0);
    ip.writeUInt16BE(ipBytes + UDP_HEADER_BYTES, 2);
    ip.writeUInt8(UDP, 9);
  } else {
    ip.writeUInt8(0x60, 0);
    ip.writeUInt16BE(UDP_HEADER_BYTES, 4);
    ip.writeUInt8(UDP, 6);
  }
  const bytes = ADDRESS_BYTES[family];
  writeAddress(ip, ipBytes - 2 * bytes, bytes, guest.host);
  writeAddress(ip, ipBytes - bytes, bytes, destination.host);
  ip.writeUInt16BE(guest.port, ipBytes);
  ip.writeUInt16BE(destination.port, ipBytes + 2);
  ip.writeUInt16BE(UDP_HEADER_BYTES, ipBytes + 4);
  return message;
}

function writeAddress(ip: Buffer, at: number, bytes: number, address: string): void {
  const value = parseAddress(address)?.value ?? 0n;
  ip.write(value.toString(16).padStart(bytes * 2, '0'), at, 'hex');
}
