import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { addressKey, contains, embeddedAddresses, parseAddress, parseRange } from './addresses.ts';
import { destinationOf } from './groups.ts';

function key(text: string): string | undefined {
  const address = parseAddress(text);
  return address === undefined ? undefined : addressKey(address);
}

function embedded(text: string): string[] {
  const address = parseAddress(text);
  assert.ok(address);
  return embeddedAddresses(address).map(addressKey);
}

test('one address has one key, whatever its spelling', () => {
  assert.equal(key('2001:DB8::1'), key('2001:0db8:0:0:0:0:0:1'));
  assert.equal(key('::ffff:10.0.0.1'), key('10.0.0.1'));
  assert.equal(key('::ffff:a00:1'), key('10.0.0.1'));
  assert.equal(key('fe80::1%eth0'), key('fe80::1'));
  assert.equal(key('1::'), '6/10000000000000000000000000000');
});

test('what is no address is none', () => {
  for (const text of [
    '',
    'example.com',
    '010.0.0.1',
    '1.2.3',
    '1.2.3.4.5',
    '0x7f.1',
    '2130706433',
    '::1::',
    '[::1]',
  ])
    assert.equal(key(text), undefined, text);
});

test('IPv6 addresses tell the IPv4 ones that they lead to', () => {
  const ten = '4/a000001';
  assert.deepEqual(embedded('64:ff9b::10.0.0.1'), [ten]);
  assert.deepEqual(embedded('2002:a00:1::5'), [ten]);
  assert.ok(embedded('2001:0:a00:1::').includes(ten), 'the server of Teredo');
  assert.ok(embedded('2001:0:808:808:0:0:f5ff:fffe').includes(ten), 'the client of Teredo, inverted');
  assert.deepEqual(embedded('::10.0.0.1'), [ten]);
  assert.deepEqual(embedded('::ffff:0:10.0.0.1'), [ten]);
  assert.deepEqual(embedded('2600::5efe:10.0.0.1'), [ten]);
  assert.deepEqual(embedded('2600::200:5efe:10.0.0.1'), [ten]);
  for (const local of [
    '64:ff9b:1::10.0.0.1',
    '64:ff9b:1:a00:0:100::',
    '64:ff9b:1:ff0a:0:1::',
    '64:ff9b:1:ff:a:0:100:0',
  ])
    assert.ok(embedded(local).includes(ten), local);
  assert.deepEqual(embedded('::1'), []);
  assert.deepEqual(embedded('2600::1'), []);
});

test('a range holds what its prefix says, also in its v4-mapped spelling', () => {
  const holds = (range: string, address: string) => {
    const [parsed, wanted] = [parseRange(range), parseAddress(address)];
    assert.ok(parsed && wanted);
    return contains(parsed, wanted);
  };
  assert.ok(holds('10.0.0.0/8', '10.255.0.1'));
  assert.ok(!holds('10.0.0.0/8', '11.0.0.1'));
  assert.ok(holds('0.0.0.0/0', '255.255.255.255'));
  assert.ok(!holds('0.0.0.0/0', '2600::1'));
  assert.ok(holds('::ffff:10.0.0.0/104', '10.1.2.3'));
  assert.ok(holds('10.1.2.3/8', '10.0.0.0'));
  for (const text of [
    '10.0.0.0/33',
    '10.0.0.0',
    '/8',
    '::/129',
    '::ffff:10.0.0.0/95',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
  ])
    assert.equal(parseRange(text), undefined, text);
});

describe('groups', () => {
  const CASES: Record<string, string[]> = {
    Public: [
      '8.8.8.8',
      '1.1.1.1',
      '2606:4700::1111',
      '64:ff9b::8.8.8.8',
      '::ffff:8.8.8.8',
      '223.255.255.255',
    ],
    Private: [
      ...['10.1.2.3', '172.31.255.255', '192.168.0.1', '100.64.0.1', '192.0.2.1', '198.19.0.1', '240.0.0.1'],
      ...[
        'fc00::1',
        'fdff::1',
        'fec0::1',
        '2001:db8::1',
        '2002:808:808::1',
        '2001:2::1',
        '4000::1',
        '::8.8.8.8',
      ],
      ...['64:ff9b::10.0.0.1', '::ffff:0:8.8.8.8', '2600::5efe:10.0.0.1', '100::1'],
    ],
    Loopback: [
      '127.0.0.1',
      '127.255.0.1',
      '0.0.0.0',
      '0.1.2.3',
      '::1',
      '::',
      '::127.0.0.1',
      '64:ff9b::7f00:1',
    ],
    LinkLocal: ['169.254.1.1', 'fe80::1', 'febf::1', '2002:a9fe:101::1'],
    Multicast: ['224.0.0.251', '239.1.1.1', '255.255.255.255', 'ff02::fb'],
    Metadata: [
      ...[
        '169.254.169.254',
        '169.254.170.2',
        '169.254.170.23',
        '169.254.0.23',
        '169.254.42.42',
        '192.0.0.192',
      ],
      ...['100.100.100.200', '168.63.129.16', 'fd00:ec2::254', 'fd00:ec2::23', 'fd20:ce::254', 'fd00:42::42'],
      ...['fd00:c1::a9fe:a9fe', 'fe80::a9fe:a9fe', 'fd00:a9fe:a9fe::1', 'fd00:100::100:200'],
      ...[
        '::ffff:169.254.169.254',
        '::ffff:a9fe:a9fe',
        '64:ff9b::a9fe:a9fe',
        '2002:a9fe:a9fe::1',
        '::a9fe:a9fe',
      ],
      ...['::ffff:0:a9fe:a9fe', '2600::5efe:a9fe:a9fe', '2001:0:1::5601:5601', '64:ff9b:1::a9fe:a9fe'],
      ...['fd00:ec2:0:0::254', '0:0:0:0:0:ffff:a9fe:a9fe', '64:ff9b::a83f:8110'],
    ],
  };
  for (const [group, addresses] of Object.entries(CASES)) {
    test(`${group} is the group of its addresses, in every form`, () => {
      for (const address of addresses) assert.equal(destinationOf(address, false)?.group, group, address);
    });
  }

  test('the host is Host, whatever else its address is', () => {
    assert.equal(destinationOf('10.0.0.1', true)?.group, 'Host');
    assert.equal(destinationOf('8.8.8.8', true)?.group, 'Host');
  });

  test('for a Deny a destination is in all groups that it touches', () => {
    assert.deepEqual([...(destinationOf('168.63.129.16', false)?.groups ?? [])].sort(), [
      'Metadata',
      'Public',
    ]);
    assert.deepEqual([...(destinationOf('169.254.169.254', true)?.groups ?? [])].sort(), [
      'Host',
      'LinkLocal',
      'Metadata',
    ]);
  });
});
