import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Answer, type DecodedPacket, decode } from 'dns-packet';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import type { EffectivePolicy } from '../policy/effective.ts';
import { answerTo, ask, FakeNameServers, type Handler, record } from '../testing/dns.ts';
import { allow, deny, effectiveOf } from '../testing/policies.ts';
import { type DnsDecision, DnsFilter } from './filter.ts';
import { QUERIES_BURST, RESOLVE_TIMEOUT_MS, TRY_TIMEOUT_MS, ZONE_BYTES_BURST } from './limits.ts';
import { Upstream } from './upstream.ts';

const OPEN = effectiveOf();
const HOST = '10.9.8.7';
const RCODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

function worldOf(policy: EffectivePolicy, handler: Handler) {
  const clock = new FakeClock();
  const servers = new FakeNameServers(handler);
  const decisions: DnsDecision[] = [];
  let id = 1;
  const filter = new DnsFilter({
    policy,
    upstream: new Upstream({ transport: servers, clock, randomId: () => id++ }),
    hostServers: () => ['192.0.2.53', '192.0.2.54'],
    hostAddresses: { v4: '10.0.2.2', v6: 'fd00:2::2' },
    isHostAddress: (address) => address === HOST,
    clock,
    observe: (decision) => decisions.push(decision),
  });
  const answer = async (message: Buffer, over: 'udp' | 'tcp' = 'udp') => {
    const bytes = await filter.answer(message, over);
    return bytes === undefined ? undefined : decode(bytes);
  };
  return { clock, servers, filter, decisions, answer };
}

/** Serves these records to whoever asks for their name and type, with the aliases on the way. */
function zone(...records: Answer[]): Handler {
  return ({ name, type }) => {
    const answers: Answer[] = [];
    let owner = name;
    for (let step = 0; step < 20; step += 1) {
      const here = owner;
      const alias = records.find((each) => each.name === here && each.type === 'CNAME');
      answers.push(...records.filter((each) => each.name === here && (each.type as string) === type));
      if (alias === undefined || answers.some((each) => (each.type as string) === type)) break;
      answers.push(alias);
      owner = (alias as unknown as { data: string }).data;
    }
    return { answers };
  };
}

const rcodeOf = (packet: DecodedPacket | undefined) => RCODES[(packet?.flags ?? 0) & 0xf];
const dataOf = (packet: DecodedPacket | undefined) =>
  (packet?.answers ?? []).map((each) => ('data' in each ? each.data : undefined));

test('a question is answered, and its name then stands for the address until it ends', async () => {
  const { answer, filter, clock, decisions } = worldOf(OPEN, zone(record('a.example', 'A', '8.8.8.8', 100)));
  const reply = await answer(ask('A.Example'));
  assert.equal(rcodeOf(reply), 'NOERROR');
  assert.equal(reply?.id, 4242);
  assert.equal(reply?.questions?.[0]?.name, 'A.Example');
  assert.deepEqual(dataOf(reply), ['8.8.8.8']);
  assert.deepEqual(filter.namesOf('::ffff:8.8.8.8'), ['a.example']);
  assert.equal(decisions[0]?.result, 'Answered');
  await clock.advance(100_000);
  assert.deepEqual(filter.namesOf('8.8.8.8'), ['a.example']);
  await clock.advance(60_000);
  assert.deepEqual(filter.namesOf('8.8.8.8'), []);
});

describe('blocked', () => {
  test('names get the answer that the policy chose, and no upstream learns of them', async () => {
    for (const blockedAnswer of ['NXDOMAIN', 'REFUSED']) {
      const policy = effectiveOf({ dns: { blockDomains: ['a.example'], blockedAnswer } });
      const { answer, servers, decisions } = worldOf(policy, zone());
      assert.equal(rcodeOf(await answer(ask('a.example'))), blockedAnswer);
      assert.deepEqual(servers.asked, []);
      assert.equal(decisions[0]?.by?.kind, 'BlockList');
    }
  });

  test('an alias that leads to a closed name closes the answer', async () => {
    const policy = effectiveOf({ egress: { rules: [deny([{ domainSuffix: '.track.example' }])] } });
    const { answer, filter } = worldOf(
      policy,
      zone(record('a.example', 'CNAME', 'x.track.example'), record('x.track.example', 'A', '8.8.8.8')),
    );
    const reply = await answer(ask('a.example'));
    assert.equal(rcodeOf(reply), 'NXDOMAIN');
    assert.deepEqual(dataOf(reply), []);
    assert.deepEqual(filter.namesOf('8.8.8.8'), []);
  });

  test('an answer that points into another network is withheld; what else it gives is told', async () => {
    const records = ['10.0.0.1', HOST, '8.8.8.8', '169.254.169.254'].map((data) =>
      record('a.example', 'A', data),
    );
    const { answer, filter } = worldOf(OPEN, zone(...records, record('b.example', 'A', '127.0.0.1')));
    assert.deepEqual(dataOf(await answer(ask('a.example'))), ['8.8.8.8']);
    assert.deepEqual(filter.namesOf('10.0.0.1'), []);
    assert.equal(rcodeOf(await answer(ask('b.example'))), 'NXDOMAIN');
  });

  test('IPv6 answers are looked at as closely', async () => {
    const hidden = ['::ffff:10.0.0.1', 'fd00::1', '64:ff9b::7f00:1'].map((data) =>
      record('a.example', 'AAAA', data),
    );
    const { answer } = worldOf(OPEN, zone(...hidden, record('a.example', 'AAAA', '2606:4700::1')));
    assert.deepEqual(dataOf(await answer(ask('a.example', 'AAAA'))), ['2606:4700::1']);
  });

  test('a policy that changes while the upstream is asked decides the answer', async () => {
    const world = worldOf(OPEN, (_asked, query) => {
      world.filter.setPolicy(effectiveOf({ egress: { mode: 'Deny' } }));
      return answerTo(query, { answers: [record('a.example', 'A', '8.8.8.8')] });
    });
    assert.equal(rcodeOf(await world.answer(ask('a.example'))), 'NXDOMAIN');
    assert.deepEqual(world.filter.namesOf('8.8.8.8'), []);
  });

  test('what is cached is decided anew', async () => {
    const { answer, filter, servers } = worldOf(OPEN, zone(record('a.example', 'A', '8.8.8.8')));
    await answer(ask('a.example'));
    filter.setPolicy(effectiveOf({ egress: { rules: [deny([{ domain: 'a.example' }])] } }));
    assert.equal(rcodeOf(await answer(ask('a.example'))), 'NXDOMAIN');
    filter.setPolicy(OPEN);
    assert.deepEqual(dataOf(await answer(ask('a.example'))), ['8.8.8.8']);
    assert.equal(servers.asked.length, 1);
  });
});

test('records that do not belong to the question are left out', async () => {
  const { answer, filter } = worldOf(OPEN, () => ({
    answers: [
      record('a.example', 'A', '8.8.8.8'),
      record('bank.example', 'A', '1.2.3.4'),
      record('a.example', 'TXT', 'x'),
    ],
    authorities: [record('example', 'NS', 'ns.evil.example')],
    additionals: [record('ns.evil.example', 'A', '1.2.3.4')],
  }));
  const reply = await answer(ask('a.example'));
  assert.deepEqual(dataOf(reply), ['8.8.8.8']);
  assert.deepEqual(reply?.authorities, []);
  assert.deepEqual(reply?.additionals, []);
  assert.deepEqual(filter.namesOf('1.2.3.4'), []);
});

test('aliases are followed, and a loop of them ends', async () => {
  const { answer, filter } = worldOf(
    OPEN,
    zone(
      record('a.example', 'CNAME', 'B.example'),
      record('b.example', 'CNAME', 'c.example'),
      record('c.example', 'A', '8.8.8.8'),
      record('l.example', 'CNAME', 'm.example'),
      record('m.example', 'CNAME', 'l.example'),
    ),
  );
  // The fake server compares names as they are written; the filter does not.
  const loop = await answer(ask('l.example'));
  assert.equal(rcodeOf(loop), 'NOERROR');
  const world = worldOf(OPEN, () => ({
    answers: [
      record('a.example', 'CNAME', 'B.example'),
      record('b.EXAMPLE', 'CNAME', 'c.example'),
      record('c.example', 'A', '8.8.8.8'),
    ],
  }));
  assert.deepEqual(dataOf(await world.answer(ask('a.example'))), ['b.example', 'c.example', '8.8.8.8']);
  assert.deepEqual(world.filter.namesOf('8.8.8.8'), ['a.example']);
  assert.deepEqual(filter.namesOf('8.8.8.8'), []);
});

describe('HTTPS and SVCB', () => {
  const param = (key: number, value: Buffer) => {
    const header = Buffer.alloc(4);
    header.writeUInt16BE(key);
    header.writeUInt16BE(value.length, 2);
    return Buffer.concat([header, value]);
  };
  const binding = (target: string, ...params: Buffer[]) => {
    const labels = target.split('.').filter((label) => label !== '');
    const name = labels.map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
    return Buffer.concat([Buffer.from([0, 1]), ...name, Buffer.from([0]), ...params]);
  };
  const alpn = param(1, Buffer.from('\x02h2'));
  const hints = [
    param(4, Buffer.from([10, 0, 0, 1])),
    param(5, Buffer.from('ech')),
    param(6, Buffer.alloc(16)),
  ];
  const answered = async (policy: EffectivePolicy, data: Buffer) => {
    const { answer } = worldOf(policy, () => ({ answers: [record('a.example', 'UNKNOWN_65', data)] }));
    return dataOf(await answer(ask('a.example', 'UNKNOWN_65')));
  };

  test('lose address hints and ech', async () => {
    assert.deepEqual(await answered(OPEN, binding('', alpn, ...hints)), [binding('', alpn)]);
  });

  test('go where they cannot do without them, or are broken', async () => {
    assert.deepEqual(await answered(OPEN, binding('', param(0, Buffer.from([0, 4])), alpn, ...hints)), []);
    for (const data of [
      Buffer.from([0, 1]),
      Buffer.from([0, 1, 9]),
      binding('', alpn, alpn),
      binding('', alpn.subarray(0, 5)),
    ])
      assert.deepEqual(await answered(OPEN, data), []);
  });

  test('are closed where their target is', async () => {
    const policy = effectiveOf({ dns: { blockDomains: ['b.example'] } });
    assert.deepEqual(await answered(policy, binding('b.example', alpn)), []);
    assert.deepEqual(await answered(policy, binding('c.example', alpn)), [binding('c.example', alpn)]);
  });
});

describe('upstreams', () => {
  test('the next one is asked when one is silent, fails or lies, and the bad one comes last from then on', async () => {
    const bad: Handler[] = [
      () => 'silence',
      () => ({ flags: 0x0182 }),
      () => Buffer.from('nonsense'),
      (_asked, query) =>
        answerTo({ ...query, id: 9 } as DecodedPacket, { answers: [record('a.example', 'A', '6.6.6.6')] }),
      (_asked, query) =>
        answerTo(query, {
          questions: [{ name: 'b.example', type: 'A' }],
          answers: [record('a.example', 'A', '6.6.6.6')],
        }),
    ];
    for (const handler of bad) {
      const good = zone(record('a.example', 'A', '8.8.8.8', 0), record('c.example', 'A', '8.8.4.4'));
      const { answer, clock, servers } = worldOf(OPEN, (asked, query) =>
        asked.server === '192.0.2.53' ? handler(asked, query) : good(asked, query),
      );
      const waiting = answer(ask('a.example'));
      await clock.advance(TRY_TIMEOUT_MS);
      assert.deepEqual(dataOf(await waiting), ['8.8.8.8']);
      await answer(ask('c.example'));
      assert.deepEqual(
        servers.asked.map(({ server }) => server.at(-1)),
        ['3', '4', '4'],
      );
    }
  });

  test('when none answers in time the guest hears so', async () => {
    const { answer, clock, decisions } = worldOf(OPEN, () => 'silence');
    const waiting = answer(ask('a.example'));
    await clock.advance(RESOLVE_TIMEOUT_MS);
    assert.equal(rcodeOf(await waiting), 'SERVFAIL');
    assert.equal(decisions[0]?.result, 'Failed');
  });

  test('the policy’s name servers are asked in place of the host’s', async () => {
    const policy = effectiveOf({ dns: { nameservers: ['9.9.9.9'] } });
    const { answer, servers } = worldOf(policy, zone(record('a.example', 'A', '8.8.8.8')));
    await answer(ask('a.example'));
    assert.deepEqual(
      servers.asked.map(({ server }) => server),
      ['9.9.9.9'],
    );
  });

  test('a truncated answer is asked for again over TCP', async () => {
    const { answer, servers } = worldOf(OPEN, ({ over }) =>
      over === 'udp' ? { flags: 0x0380 } : { answers: [record('a.example', 'A', '8.8.8.8')] },
    );
    assert.deepEqual(dataOf(await answer(ask('a.example'))), ['8.8.8.8']);
    assert.deepEqual(
      servers.asked.map(({ over }) => over),
      ['udp', 'tcp'],
    );
  });

  test('equal questions at the same time are asked once', async () => {
    const { answer, servers } = worldOf(OPEN, zone(record('a.example', 'A', '8.8.8.8', 0)));
    await Promise.all([answer(ask('a.example')), answer(ask('a.example'))]);
    assert.equal(servers.asked.length, 1);
  });

  test('nothing of the guest’s message but name and type goes on', async () => {
    const { answer, servers } = worldOf(OPEN, (_asked, query) => {
      assert.equal(query.id, 1);
      assert.equal(query.flags, 0x0100);
      const [opt] = query.additionals ?? [];
      assert.ok(opt?.type === 'OPT');
      assert.deepEqual([opt.options, opt.flags], [[], 0]);
      return {};
    });
    const options = [{ code: 65_001, data: Buffer.from('stolen') }];
    const opt = {
      name: '.',
      type: 'OPT',
      udpPayloadSize: 4_096,
      flags: 0x8000,
      options,
    } as unknown as Answer;
    await answer(ask('A.eXample', 'A', { flags: 0x0130, additionals: [opt] }));
    assert.equal(servers.asked[0]?.name, 'a.example');
  });
});

describe('the cache', () => {
  test('holds an answer for its TTL, which counts down', async () => {
    const { answer, clock, servers, decisions } = worldOf(
      OPEN,
      zone(record('a.example', 'A', '8.8.8.8', 30)),
    );
    await answer(ask('a.example'));
    await clock.advance(10_000);
    const [record10] = (await answer(ask('a.example')))?.answers ?? [];
    assert.ok(record10 !== undefined && 'ttl' in record10);
    assert.equal(record10.ttl, 20);
    assert.deepEqual(
      decisions.map(({ result }) => result),
      ['Answered', 'Cached'],
    );
    await clock.advance(20_000);
    await answer(ask('a.example'));
    assert.equal(servers.asked.length, 2);
  });

  test('an absence holds as long as the zone says, at most a minute', async () => {
    const soa = {
      mname: 'ns.example',
      rname: 'root.example',
      serial: 1,
      refresh: 1,
      retry: 1,
      expire: 1,
      minimum: 9_999,
    };
    const { answer, clock, servers } = worldOf(OPEN, () => ({
      flags: 0x0183,
      authorities: [record('example', 'SOA', soa, 9_999)],
    }));
    const reply = await answer(ask('a.example'));
    assert.equal(rcodeOf(reply), 'NXDOMAIN');
    assert.equal(reply?.authorities?.length, 1);
    await answer(ask('a.example'));
    await clock.advance(60_000);
    await answer(ask('a.example'));
    assert.equal(servers.asked.length, 2);
  });
});

describe('the host', () => {
  const name = 'host.bulkhead.internal';

  test('has a name where its group is open', async () => {
    const policy = effectiveOf({ egress: { mode: 'Deny', rules: [allow([{ group: 'Host' }])] } });
    const { answer, servers } = worldOf(policy, zone());
    assert.deepEqual(dataOf(await answer(ask(name))), ['10.0.2.2']);
    assert.deepEqual(dataOf(await answer(ask(name, 'AAAA'))), ['fd00:2::2']);
    assert.equal(rcodeOf(await answer(ask(name, 'TXT'))), 'NOERROR');
    assert.deepEqual(servers.asked, []);
  });

  test('has none elsewhere', async () => {
    const { answer, servers } = worldOf(OPEN, zone());
    assert.equal(rcodeOf(await answer(ask(name))), 'NXDOMAIN');
    assert.deepEqual(servers.asked, []);
  });
});

describe('bounds', () => {
  test('questions of a sandbox are bounded in rate', async () => {
    const { answer, clock } = worldOf(OPEN, zone(record('a.example', 'A', '8.8.8.8')));
    for (let count = 0; count < QUERIES_BURST; count += 1) assert.ok(await answer(ask('a.example')));
    assert.equal(await answer(ask('a.example')), undefined);
    await clock.advance(1_000);
    assert.ok(await answer(ask('a.example')));
  });

  test('names below one domain are bounded, so that they carry nothing out; those a rule names are not', async () => {
    const policy = effectiveOf({ egress: { rules: [allow([{ domain: 'named.tunnel.example' }])] } });
    const { answer, clock, servers } = worldOf(policy, () => ({}));
    const label = 'x'.repeat(58);
    let refused = 0;
    for (let count = 0; count < 250; count += 1) {
      const reply = await answer(ask(`${label}${count}.${label}.tunnel.example`));
      if (rcodeOf(reply) === 'REFUSED') refused += 1;
    }
    const bytes = servers.asked.reduce((sum, { name }) => sum + name.length, 0);
    assert.ok(refused > 0 && bytes <= ZONE_BYTES_BURST, `${bytes} bytes went out`);
    assert.equal(rcodeOf(await answer(ask('named.tunnel.example'))), 'NOERROR');
    assert.equal(rcodeOf(await answer(ask('other.example'))), 'NOERROR');
    await clock.advance(10_000);
    assert.equal(rcodeOf(await answer(ask('later.tunnel.example'))), 'NOERROR');
  });

  test('what does not fit over UDP is said to be cut, and comes whole over TCP', async () => {
    const many = Array.from({ length: 40 }, (_, index) => record('a.example', 'A', `8.8.8.${index}`));
    const { answer } = worldOf(OPEN, zone(...many));
    const cut = await answer(ask('a.example'));
    assert.equal(cut?.flag_tc, true);
    assert.deepEqual(cut?.answers, []);
    assert.equal((await answer(ask('a.example'), 'tcp'))?.answers?.length, 40);
    const opt = { name: '.', type: 'OPT', udpPayloadSize: 4_096, flags: 0, options: [] } as unknown as Answer;
    const bytes = await answer(ask('a.example', 'A', { additionals: [opt] }));
    assert.equal(bytes?.flag_tc, false, '40 addresses fit into 1232 bytes');
  });
});

describe('what is no plain question', () => {
  test('is refused, or not answered at all', async () => {
    const { answer, filter, servers } = worldOf(OPEN, zone());
    for (const type of ['ANY', 'AXFR', 'NULL', 'UNKNOWN_65399'])
      assert.equal(rcodeOf(await answer(ask('a.example', type))), 'REFUSED', type);
    const two = ask('a.example');
    two.writeUInt16BE(2, 4);
    assert.equal(rcodeOf(await answer(two)), 'FORMERR');
    assert.equal(rcodeOf(await answer(ask('a.example', 'A', { flags: 0x2900 }))), 'NOTIMP');
    assert.equal(
      rcodeOf(await answer(ask('a.example', 'A', { answers: [record('a.example', 'A', '1.1.1.1')] }))),
      'FORMERR',
    );
    assert.equal(await filter.answer(Buffer.from('short'), 'udp'), undefined);
    assert.equal(await filter.answer(ask('a.example', 'A', { type: 'response' }), 'udp'), undefined);
    assert.equal(await filter.answer(Buffer.alloc(5_000), 'tcp'), undefined);
    assert.deepEqual(servers.asked, []);
  });

  test('a name without any dot is of local use: no upstream is asked', async () => {
    const { answer, servers } = worldOf(OPEN, zone());
    assert.equal(rcodeOf(await answer(ask('db'))), 'NXDOMAIN');
    assert.deepEqual(servers.asked, []);
  });

  test('a label that hides a dot is the name that it looks like', async () => {
    const { answer } = worldOf(effectiveOf({ dns: { blockDomains: ['evil.example'] } }), zone());
    const message = ask('evilxexample');
    message.write('.', message.indexOf('xexample'), 'latin1');
    assert.equal(rcodeOf(await answer(message)), 'NXDOMAIN');
  });
});

test('a closed filter answers nothing, also to what is under way', async () => {
  const { answer, filter } = worldOf(OPEN, () => 'silence');
  const waiting = answer(ask('a.example'));
  filter.close();
  assert.equal(await waiting, undefined);
  assert.equal(await answer(ask('a.example')), undefined);
});
