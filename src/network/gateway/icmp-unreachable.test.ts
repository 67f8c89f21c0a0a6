import assert from 'node:assert/strict';
import { test } from 'node:test';
import { icmpUnreachable } from './icmp-unreachable.ts';

test('a refused datagram is told with the headers that it had', () => {
  const message = icmpUnreachable(
    { host: '10.77.0.2', port: 0x1234 },
    { host: '20.0.0.11', port: 443 },
    'Denied',
  );
  const icmp = '030d000000000000';
  const ip = '4500001c00000000001100000a4d00021400000b';
  assert.equal(message.toString('hex'), `${icmp}${ip}123401bb00080000`);
});

test('the same over IPv6, for a port that nobody has', () => {
  const message = icmpUnreachable({ host: 'fd00::2', port: 1 }, { host: '2600::11', port: 2 }, 'Failed');
  const addresses = `fd00${'0'.repeat(24)}00022600${'0'.repeat(24)}0011`;
  assert.equal(message.toString('hex'), `01040000000000006000000000081100${addresses}0001000200080000`);
});
