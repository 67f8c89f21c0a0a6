// Random damage to what guests, clients and name servers send: an answer or a refusal, never an exception, and nothing passed
// on that was not understood.
import assert from 'node:assert/strict';
import { decode } from 'dns-packet';
import { damaged, fuzz } from '../../test/fixtures/chance.ts';
import { FakeClock } from '../controller/testing/fake-clock.ts';
import { DnsFilter, type DnsFilterOptions } from './dns/filter.ts';
import { TRY_TIMEOUT_MS } from './dns/limits.ts';
import { decodeQuery } from './dns/message.ts';
import { stripServiceBinding } from './dns/service-binding.ts';
import { Upstream } from './dns/upstream.ts';
import { readClientHello } from './inspect/client-hello.ts';
import { readHttpHead } from './inspect/http-head.ts';
import { clientHello, extension, records, serverName } from './inspect/testing/tls.ts';
import { parseAddress } from './policy/addresses.ts';
import { decideAnswer } from './policy/decide.ts';
import { answerTo, ask, FakeNameServers, record } from './testing/dns.ts';
import { effectiveOf } from './testing/policies.ts';

const ROUNDS = 3_000;
const POLICY = effectiveOf({ dns: { blockDomains: ['blocked.example'] } });
const DNS_TOKENS = [
  '\xc0\x0c',
  '\xc0\x00',
  '\xff\xff',
  '\x3f',
  '\x00',
  '\x00\x00\x29',
  '\x40',
  '\x00\x41',
  '\x00\x05',
];

const QUERIES = [ask('a.example'), ask('x.blocked.example', 'AAAA'), ask('a.example', 'UNKNOWN_65')];

fuzz('a question is answered with its own id or not at all', ROUNDS, (pick) => {
  const bytes = damaged(QUERIES[pick(QUERIES.length)] ?? Buffer.alloc(0), DNS_TOKENS, pick);
  const decoded = decodeQuery(bytes);
  if (decoded.kind === 'error') assert.equal(decoded.answer.readUInt16BE(0), bytes.readUInt16BE(0));
  if (decoded.kind === 'query' && decoded.query.name !== undefined)
    assert.match(decoded.query.name, /^[-_a-z0-9]+(\.[-_a-z0-9]+)*$/);
  return decoded.kind === 'query';
});

const BINDING = Buffer.from('000100000100030268320004000400000000000500036563680006000400000000', 'hex');
const ANSWERS = [
  [
    record('a.example', 'CNAME', 'b.example'),
    record('b.example', 'A', '8.8.8.8'),
    record('b.example', 'A', '10.0.0.1'),
  ],
  [record('a.example', 'AAAA', '2606:4700::1'), record('a.example', 'AAAA', 'fd00::1')],
  [record('a.example', 'UNKNOWN_65', BINDING)],
  [
    record('a.example', 'MX', { preference: 1, exchange: 'mx.example' }),
    record('a.example', 'TXT', ['text']),
  ],
];
const TYPES = ['A', 'AAAA', 'UNKNOWN_65', 'MX'] as const;

fuzz('an upstream’s answer tells the guest nothing that the policy withholds', ROUNDS / 10, async (pick) => {
  const which = pick(TYPES.length);
  const clock = new FakeClock();
  const servers = new FakeNameServers((_asked, query) => {
    const whole = answerTo(query, { answers: ANSWERS[which] ?? [] });
    // The id stays, or nothing behind it would be looked at.
    return Buffer.concat([whole.subarray(0, 2), damaged(whole.subarray(2), DNS_TOKENS, pick)]);
  });
  const options: DnsFilterOptions = {
    policy: POLICY,
    upstream: new Upstream({ transport: servers, clock, randomId: () => 7 }),
    hostServers: () => ['192.0.2.1'],
    hostAddresses: {},
    isHostAddress: () => false,
    clock,
    observe: () => {},
  };
  const waiting = new DnsFilter(options).answer(ask('a.example', TYPES[which]), 'tcp');
  await clock.advance(TRY_TIMEOUT_MS);
  await clock.advance(TRY_TIMEOUT_MS);
  const bytes = await waiting;
  assert.ok(bytes !== undefined);
  const reply = decode(bytes);
  for (const each of reply.answers ?? []) {
    if (each.type === 'A' || each.type === 'AAAA')
      assert.ok(decideAnswer(POLICY, each.data, false).allowed, each.data);
  }
  return (reply.answers ?? []).length > 0;
});

fuzz('service bindings keep neither hints nor ech', ROUNDS, (pick) => {
  const stripped = stripServiceBinding(damaged(BINDING, ['\x00\x04', '\x00\x06', '\xff', '\x00\x00'], pick));
  if (stripped === undefined) return false;
  // Once more changes nothing: all that goes is gone.
  assert.deepEqual(stripServiceBinding(stripped.data)?.data, stripped.data);
  return true;
});

const HELLOS = [
  records(clientHello([serverName('api.example.com'), extension(16, Buffer.from([0, 3, 2, 104, 50]))])),
  records(clientHello([extension(0xfe0d, Buffer.alloc(40)), serverName('a.example')]), 30),
  records(clientHello([])),
  Buffer.from([0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10]),
];

fuzz('a ClientHello is read or refused, and more bytes change no decision', ROUNDS, (pick) => {
  const bytes = damaged(
    HELLOS[pick(HELLOS.length)] ?? Buffer.alloc(0),
    ['\x16\x03', '\x00\x00', '\xff\xff', '\x01'],
    pick,
  );
  const whole = readClientHello(bytes);
  if (whole.state === 'hello' && whole.serverName !== null) assert.ok(whole.serverName.length <= 255);
  const part = readClientHello(bytes.subarray(0, pick(bytes.length + 1)));
  // What half of the bytes say for certain, all of them say too; only its state may still be open.
  if (part.state === 'hello') assert.deepEqual(part, whole);
  if (part.state === 'other' || part.state === 'invalid') assert.equal(whole.state, part.state);
  return whole.state === 'hello';
});

const HEADS = [
  'GET / HTTP/1.1\r\nHost: a.example\r\nA: b\r\n\r\n',
  'CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n',
  'POST http://a.example/x HTTP/1.1\r\nhost: a.example\r\nContent-Length: 1\r\n\r\nx',
].map((text) => Buffer.from(text));

fuzz('an HTTP head is read or refused, and more bytes change no decision', ROUNDS, (pick) => {
  const tokens = ['\r\n', '\n', '\r', 'Host: b.example\r\n', ' ', '\t', ':', '\0', '@', 'HTTP/', '\r\n\r\n'];
  const bytes = damaged(HEADS[pick(HEADS.length)] ?? Buffer.alloc(0), tokens, pick);
  const whole = readHttpHead(bytes);
  const part = readHttpHead(bytes.subarray(0, pick(bytes.length + 1)));
  if (part.state === 'head') assert.deepEqual(part, whole);
  if (part.state === 'other') assert.equal(whole.state, 'other');
  return whole.state === 'head';
});

fuzz('an address has a group or is none', ROUNDS, (pick) => {
  const seeds = [
    '192.168.10.1',
    '2001:db8::10.0.0.1',
    '::ffff:10.0.0.1',
    '64:ff9b:1:a00:0:100::',
    'fe80::1%eth0',
  ];
  const bytes = damaged(
    Buffer.from(seeds[pick(seeds.length)] ?? ''),
    [':', '::', '.', 'ffff', '0', '%', '255'],
    pick,
  );
  const address = parseAddress(bytes.toString('latin1'));
  if (address !== undefined) {
    assert.ok(address.value >= 0n && address.value < 1n << (address.family === 4 ? 32n : 128n));
    decideAnswer(POLICY, bytes.toString('latin1'), false);
  }
  return address !== undefined;
});
