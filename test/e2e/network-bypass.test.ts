// Ways around a policy, tried from inside a real VM against real servers: all closed under a policy that allows one name, and
// (so that each is known to be a way at all) open under one that allows everything.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BUILTIN_IMAGE, openFilesOf, TestDaemon } from './daemon-harness.ts';
import { copyProbe } from './guest-probes.ts';
import { NetworkWorld, WORLD } from './network-world.ts';

interface Attempt {
  name: string;
  /** Prints `reached` where it got through. */
  script: string;
  /** Under the policy that allows everything. */
  opens: boolean;
}

const PORTS = [22, 80, 443, 3128, 8080, 15_001];

/** Where nothing but the one allowed name may lead. */
const ADDRESSES: Readonly<Record<string, string>> = {
  'another server': WORLD.other,
  'a name server': WORLD.otherDns,
  'a private address': WORLD.private,
  'the metadata service of AWS, GCP and Azure': '169.254.169.254',
  'the wire server of Azure': '168.63.129.16',
  'the metadata service of Alibaba': '100.100.100.200',
  'the credentials of ECS tasks': '169.254.170.2',
  'the metadata service of Oracle': '192.0.0.192',
  'the host': WORLD.host,
  'the host as the gateway': '10.77.0.1',
  'the host as the gateway, IPv6': 'fd5c:9a1e:77b3::1',
  'another server, IPv6': WORLD.other6,
  'another server, mapped': `::ffff:${WORLD.other}`,
  'a private address, IPv6': 'fd00::7',
  'the metadata service of AWS, IPv6': 'fd00:ec2::254',
  'the metadata service, mapped': '::ffff:169.254.169.254',
  'the router': WORLD.router,
};

const connect = (address: string, port: number): string => `echo hi | timeout 6 nc -w 4 ${address} ${port}`;

/** Sends text to port 80 of the allowed server; `\r\n` as printf knows it. */
const say = (text: string, port = 80): string =>
  `(printf '${text}'; sleep 2) | timeout 6 nc -w 4 ${WORLD.allowed} ${port} | grep -i 'as .*other'`;
const get = (host: string): string => `GET / HTTP/1.1\\r\\nHost: ${host}\\r\\n\\r\\n`;
const ask = (name: string, server: string, type = 'a'): string =>
  `timeout 8 nslookup -type=${type} ${name} ${server} 2>&1 | grep -v '#53\\|:53' | grep -q '20\\.0\\.0\\.11\\|2600::11\\|10\\.1\\.2\\.3\\|fd00::7\\|169\\.254\\.169\\.254\\|fd00:ec2::254\\|20\\.0\\.1\\.1$\\|Address.*127\\.0\\.0\\.1$' && echo reached`;

const ATTEMPTS: readonly Attempt[] = [
  ...Object.entries(ADDRESSES).flatMap(([what, address]) =>
    PORTS.map((port) => ({
      name: `${what}, port ${port}`,
      script: connect(address, port),
      // The router is of the servers' namespace, so it is there; mapped addresses are IPv4 to the guest's own kernel.
      opens: true,
    })),
  ),
  ...[WORLD.allowed, WORLD.other, WORLD.allowed6].map((address) => ({
    name: `DNS over TLS at ${address}`,
    script: connect(address, 853),
    opens: false, // whatever the mode, only a rule that names the port opens it
  })),
  ...Object.entries({
    'another name on the allowed server': get('other.example.com'),
    'another name in other letters': get('OTHER.example.com'),
    'another name with a dot behind it': get('other.example.com.'),
    'another name with a port': get('other.example.com:80'),
    'another name as the second request': get('allowed.example.com') + get('other.example.com'),
    'another name behind a body': `POST / HTTP/1.1\\r\\nHost: allowed.example.com\\r\\nContent-Length: 2\\r\\n\\r\\nhi${get('other.example.com')}`,
    'another name behind chunks': `POST / HTTP/1.1\\r\\nHost: allowed.example.com\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n${get('other.example.com')}`,
    'another name behind two lengths': `POST / HTTP/1.1\\r\\nHost: allowed.example.com\\r\\nContent-Length: 0\\r\\nContent-Length: 80\\r\\n\\r\\n${get('other.example.com')}`,
    'another name behind a length and chunks': `POST / HTTP/1.1\\r\\nHost: allowed.example.com\\r\\nContent-Length: 80\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n${get('other.example.com')}`,
    'another name behind an upgrade that nobody agreed to': `GET / HTTP/1.1\\r\\nHost: allowed.example.com\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n${get('other.example.com')}`,
    'two hosts':
      'GET / HTTP/1.1\\r\\nHost: allowed.example.com\\r\\nX: GET / x\\r\\nHost: other.example.com\\r\\n\\r\\n',
    'a host behind a bare line feed': 'GET / HTTP/1.1\\nX: y\\nHost: other.example.com\\n\\n',
    'a host with user information': get('allowed.example.com@other.example.com'),
    'an address as host': get('other-20.0.0.11'),
    'empty lines first': `\\r\\n\\r\\n${get('other.example.com')}`,
    'HTTP/1.0 with another host': 'GET / HTTP/1.0\\r\\nHost: other.example.com\\r\\n\\r\\n',
    'a folded host': 'GET / HTTP/1.1\\r\\nX: y\\r\\nHost: \\r\\n other.example.com\\r\\n\\r\\n',
    'a host in lower case letters': 'GET / HTTP/1.1\\r\\nhost: other.example.com\\r\\n\\r\\n',
    'a host behind a tab': 'GET / HTTP/1.1\\r\\nHost:\\tother.example.com\\r\\n\\r\\n',
    'a method of its own': 'GET GET / HTTP/1.1\\r\\nHost: other.example.com\\r\\n\\r\\n',
  }).map(([name, text]) => ({
    name,
    script: say(text),
    // Whatever is not plain HTTP passes as bytes where no name decides.
    opens: !/folded|tab/.test(name),
  })),
  {
    name: 'a tunnel through the allowed server',
    script: say(
      'CONNECT other.example.com:443 HTTP/1.1\\r\\nHost: other.example.com:443\\r\\n\\r\\nGET / x Host: other',
      3128,
    ),
    opens: true,
  },
  ...[WORLD.dns, WORLD.otherDns, WORLD.dns6, WORLD.allowed, '10.77.0.1', 'fd5c:9a1e:77b3::1'].flatMap(
    (server) =>
      ['other.example.com', 'OTHER.example.com', 'other.example.com.'].map((name) => ({
        name: `the address of ${name} from ${server}`,
        script: ask(name, server),
        // The gateway alone answers questions: at its own addresses, and for whatever server was asked none.
        opens: server === '10.77.0.1' || server === 'fd5c:9a1e:77b3::1',
      })),
  ),
  ...Object.entries({
    'another server': WORLD.other,
    'another server, IPv6': WORLD.other6,
    'another server, mapped': `::ffff:${WORLD.other}`,
    'a private address': WORLD.private,
    'the metadata service': '169.254.169.254',
    'the host': WORLD.host,
  }).flatMap(([what, address]) => [
    ...[443, 9999].map((port) => ({
      name: `datagrams to ${what}, port ${port}`,
      script: `/tmp/udp-probe ask ${address} ${port}`,
      opens: true,
    })),
    { name: `DNS over QUIC at ${what}`, script: `/tmp/udp-probe ask ${address} 853`, opens: false },
    {
      name: `an echo of ICMP from ${what}`,
      script: `timeout 5 ping -c 1 -W 2 ${address} >/dev/null && echo reached`,
      opens: !address.startsWith('::ffff:'), // busybox sends none there
    },
  ]),
  {
    name: 'datagrams to the DNS port of a server',
    script: `/tmp/udp-probe ask ${WORLD.other} 53`,
    opens: false,
  },
  ...['private', 'metadata', 'host'].flatMap((where) =>
    ['a', 'aaaa']
      .filter((type) => where !== 'host' || type === 'a')
      .map((type) => ({
        name: `a name that leads to ${where} (${type})`,
        script: ask(`rebind-${where}.example.com`, '10.77.0.1', type),
        opens: true,
      })),
  ),
];

/** Ways that no policy opens, some of which change the guest's own interface: one after the other. */
const LOCAL: readonly Attempt[] = [
  {
    name: 'another IPv4 address of its own',
    script: `ip addr add 10.77.0.9/24 dev eth0; echo hi | timeout 6 nc -s 10.77.0.9 -w 4 ${WORLD.other} 80; ip addr del 10.77.0.9/24 dev eth0`,
    opens: false,
  },
  {
    name: 'a public address of its own',
    script: `ip addr add 20.0.0.99/32 dev eth0; echo hi | timeout 6 nc -s 20.0.0.99 -w 4 ${WORLD.other} 80; ip addr del 20.0.0.99/32 dev eth0`,
    opens: false,
  },
  {
    name: 'another IPv6 address of its own',
    script: `ip addr add fd5c:9a1e:77b3::9/64 dev eth0; echo hi | timeout 6 nc -s fd5c:9a1e:77b3::9 -w 4 ${WORLD.other6} 80; ip addr del fd5c:9a1e:77b3::9/64 dev eth0`,
    opens: false,
  },
  {
    name: 'another hardware address',
    script: `ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:77; ip link set eth0 up; ip route add default via 10.77.0.1 2>/dev/null; echo hi | timeout 6 nc -w 4 ${WORLD.other} 80; ip link set eth0 down; ip link set eth0 address 02:62:68:00:00:02; ip link set eth0 up; ip route add default via 10.77.0.1 2>/dev/null`,
    opens: false,
  },
  {
    name: 'a route of its own',
    script: `ip route add ${WORLD.other}/32 dev eth0; echo hi | timeout 6 nc -w 4 ${WORLD.other} 80; ip route del ${WORLD.other}/32 dev eth0`,
    opens: false,
  },
  {
    name: 'large fragmented echoes',
    script: `timeout 5 ping -c 1 -W 2 -s 4000 ${WORLD.allowed} >/dev/null && echo reached`,
    opens: false,
  },
];

let world: NetworkWorld;
let daemon: TestDaemon;

before(async () => {
  world = await NetworkWorld.open();
  daemon = await TestDaemon.start({ prefix: world.prefix });
  await daemon.write(
    'box.yaml',
    `apiVersion: bulkhead.dev/v1alpha1
kind: Sandbox
metadata: {name: box}
spec: {image: "${BUILTIN_IMAGE}", resources: {memory: 256Mi}}
`,
  );
  await daemon.waitReady('box');
  await copyProbe('udp-probe', daemon, 'box');
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
});

async function setPolicy(name: string, egress: string, dns: string): Promise<void> {
  await daemon.write(
    'policy.yaml',
    `apiVersion: bulkhead.dev/v1alpha1
kind: NetworkPolicy
metadata: {name: ${name}}
spec: {egress: ${egress}, dns: ${dns}}
`,
  );
  await daemon.ok('wait', `networkpolicy/${name}`, '--for=condition=Programmed', '--timeout', '60s');
  const inForce = async () => {
    const { status } = await daemon.get('box');
    return (status as { network?: { policies?: string[] } }).network?.policies?.join();
  };
  while ((await inForce()) !== `default/${name}`);
}

/** Names of those that got through. */
async function tryAll(attempts: readonly Attempt[], together: number): Promise<string[]> {
  const lines = attempts.map(
    ({ script }, index) =>
      `(r=$( { ${script}; } 2>/dev/null); case "$r" in *reached*) echo "OPEN ${index}";; esac) &${(index + 1) % together === 0 ? '\nwait' : ''}`,
  );
  const warm = `nslookup allowed.example.com >/dev/null 2>&1; nslookup -type=aaaa allowed.example.com >/dev/null 2>&1`;
  const { stdout, stderr, code } = await daemon.cliWithInput(
    `${warm}\n${lines.join('\n')}\nwait\necho done\n`,
    ...['exec', '-i', 'box', '--', '/bin/sh'],
  );
  assert.match(stdout, /done/, `${code} ${stderr}`);
  return [...stdout.matchAll(/OPEN (\d+)/g)]
    .map(([, index]) => attempts[Number(index)]?.name ?? '')
    .toSorted();
}

const TOGETHER = 12;
const SOAK = process.env.BULKHEAD_SOAK === '1';
const CONNECTIONS = SOAK ? 10_000 : 192;
const CHANGES = SOAK ? 1_000 : 12;
const LOOPS = 8;

test(`${ATTEMPTS.length} ways around a policy are closed`, { timeout: 400_000 }, async () => {
  const nameservers = `nameservers: ["${WORLD.dns}"]`;
  await setPolicy(
    'one-name',
    '{mode: Deny, rules: [{action: Allow, to: [{domain: allowed.example.com}]}]}',
    `{${nameservers}}`,
  );
  assert.deepEqual(await tryAll(ATTEMPTS, TOGETHER), []);
});

test('the same ways are open where everything is allowed', { timeout: 400_000 }, async () => {
  await setPolicy(
    'everything',
    '{mode: AllowAll, rules: [{action: Allow, to: [{group: Private}, {group: LinkLocal}, {group: Metadata}, {group: Host}]}]}',
    `{rebindProtection: false, nameservers: ["${WORLD.dns}"]}`,
  );
  const expected = ATTEMPTS.filter(({ opens }) => opens).map(({ name }) => name);
  assert.deepEqual(await tryAll(ATTEMPTS, TOGETHER), expected.toSorted());
});

test(`${CONNECTIONS} connections leave no descriptor behind`, {
  timeout: SOAK ? 3_600_000 : 400_000,
}, async () => {
  const open = () => openFilesOf(String(daemon.gatewayPid)).length;
  const before = open();
  const loop = `i=0; while [ $i -lt ${CONNECTIONS / LOOPS} ]; do echo hi | nc -w 4 ${WORLD.allowed} 80 >/dev/null; i=$((i+1)); done`;
  const loops = Array.from({ length: LOOPS }, () => `(${loop}) &`).join('\n');
  const { stdout } = await daemon.cliWithInput(
    `${loops}\nwait\necho done\n`,
    'exec',
    '-i',
    'box',
    '--',
    '/bin/sh',
  );
  assert.match(stdout, /done/);
  while (open() > before) await new Promise((resolve) => setTimeout(resolve, 50));
});

test(`${CHANGES} changes of a policy under traffic lose nothing that it allows and open nothing that it closes`, {
  timeout: SOAK ? 3_600_000 : 400_000,
}, async () => {
  const rules = (more: string) =>
    `{mode: Deny, rules: [{action: Allow, to: [{domain: allowed.example.com}${more}]}]}`;
  const dns = `{nameservers: ["${WORLD.dns}"]}`;
  await setPolicy('changing', rules(''), dns);
  const kept = `nslookup allowed.example.com >/dev/null; (printf 'GET /slow HTTP/1.1\\r\\nHost: allowed.example.com\\r\\n\\r\\n'; sleep 100000) | nc ${WORLD.allowed} 80 > /tmp/kept`;
  const tried = `while [ ! -e /tmp/stop ]; do echo hi | nc -w 2 ${WORLD.other} 80 >> /tmp/leaked; done`;
  await daemon.ok(
    'exec',
    'box',
    '--',
    '/bin/sh',
    '-c',
    `rm -f /tmp/kept /tmp/leaked; (${kept}) >/dev/null 2>&1 & (${tried}) >/dev/null 2>&1 &`,
  );
  const read = async (script: string) =>
    (await daemon.ok('exec', 'box', '--', '/bin/sh', '-c', script)).trim();
  while (Number(await read('cat /tmp/kept 2>/dev/null | wc -c')) === 0);
  for (let change = 0; change < CHANGES; change += 1) {
    await setPolicy('changing', rules(`, {cidr: 203.0.113.${change % 250}/32}`), dns);
  }
  const size = Number(await read('wc -c < /tmp/kept'));
  while (Number(await read('wc -c < /tmp/kept')) <= size);
  assert.equal(await read('cat /tmp/leaked | wc -c'), '0');
  await daemon.cli('exec', 'box', '--', '/bin/sh', '-c', 'touch /tmp/stop; killall nc sleep');
});

test(`${LOCAL.length} ways are closed whatever the policy`, { timeout: 400_000 }, async () => {
  assert.deepEqual(await tryAll(LOCAL, 1), []);
});
