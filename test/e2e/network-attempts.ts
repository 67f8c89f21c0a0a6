// Ways around a policy that a guest may try with what its busybox has: tables for network-bypass.test.ts.
import { clientHello, records, serverName } from '../../src/network/inspect/testing/tls.ts';
import { WORLD } from './network-world.ts';

export interface Attempt {
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

/** Bytes as printf knows them. */
const escaped = (bytes: Buffer): string =>
  [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
const hello = (name: string | undefined, size?: number): Buffer =>
  records(clientHello(name === undefined ? [] : [serverName(name)]), size);

/** First bytes of TLS to the allowed server; what listens there says that it was reached, whatever it gets. */
const TLS: Readonly<Record<string, Buffer>> = {
  'another server name': hello('other.example.com'),
  'another server name in other letters': hello('OTHER.EXAMPLE.COM'),
  'another server name in small records': hello('other.example.com', 16),
  'a name below the allowed one': hello('x.allowed.example.com'),
  'no server name': hello(undefined),
  'two server names': records(
    clientHello([serverName('allowed.example.com'), serverName('other.example.com')]),
  ),
  'SSL 2.0': Buffer.from([0x80, 0x1c, 1, 3, 1, 0, 3, 0, 0, 0, 16, 0, 0, 0x0a, ...Buffer.alloc(16, 9)]),
};

export const ATTEMPTS: readonly Attempt[] = [
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
  ...Object.entries(TLS).map(([what, bytes]) => ({
    name: `TLS with ${what}`,
    script: `(printf '${escaped(bytes)}'; sleep 2) | timeout 6 nc -w 4 ${WORLD.allowed} 443`,
    opens: true,
  })),
  ...Object.entries({
    'another name': 'other.example.com',
    'another address': WORLD.other,
    'another address, IPv6': `[${WORLD.other6}]`,
    'a private address': WORLD.private,
    'the metadata service': '169.254.169.254',
    'the host': WORLD.host,
  }).map(([what, host]) => ({
    name: `a redirect of the allowed server to ${what}`,
    script: `timeout 8 wget -q -O - http://allowed.example.com/to/${host}`,
    opens: true,
  })),
  ...[WORLD.other, WORLD.otherDns, WORLD.private].map((address, index) => ({
    name: `the port of a connection that is allowed, again for ${address}`,
    script: `echo hi | timeout 6 nc -p ${41_000 + index} -w 2 ${WORLD.allowed} 80 >/dev/null; echo hi | timeout 6 nc -p ${41_000 + index} -w 4 ${address} 80`,
    opens: true,
  })),
  {
    name: 'DNS over HTTP by another name of the allowed server',
    script: say('GET /dns-query?dns=AAABAAABAAAAAAAA HTTP/1.1\\r\\nHost: other.example.com\\r\\n\\r\\n'),
    opens: true,
  },
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
export const LOCAL: readonly Attempt[] = [
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
