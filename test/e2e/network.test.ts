// What a sandbox reaches and what it does not, by YAML that changes while it runs; and what a killed daemon or gateway does to it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { NETWORK_POLICY_KIND, SANDBOX_KIND } from '../../src/api/kinds.ts';
import type { ResourceKind, StoredObject } from '../../src/api/meta.ts';
import { conditionGoal, conditionsOf, type Goal, waitFor } from '../../src/cli/waiting.ts';
import { BulkheadClient } from '../../src/client/client.ts';
import { BUILTIN_IMAGE, TestDaemon } from './daemon-harness.ts';
import { copyProbe } from './guest-probes.ts';
import { NetworkWorld, WORLD } from './network-world.ts';
import { TEST_DRIVER } from './test-driver.ts';

const SANDBOX = `apiVersion: bulkhead.dev/v1alpha1
kind: Sandbox
metadata: {name: box, labels: {app: box}}
spec: {image: "${BUILTIN_IMAGE}", resources: {memory: 128Mi}}
`;

/** Where a thing never comes, its test is to fail, not the whole run. */
const LIMITED = { timeout: TEST_DRIVER === 'libkrun' ? 1_200_000 : 600_000 };

const GOAL_LIMIT_MS = 180_000;

let world: NetworkWorld;
let daemon: TestDaemon;
let client: BulkheadClient;

before(async () => {
  world = await NetworkWorld.open();
  daemon = await TestDaemon.start({ prefix: world.prefix });
  client = new BulkheadClient({ socketPath: daemon.socket });
  await daemon.write('box.yaml', SANDBOX);
  await daemon.waitReady('box');
  await copyProbe('udp-probe', daemon, 'box');
});

after(async () => {
  client?.close();
  await daemon?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
});

/** Replaces the policy and waits until it is in force. */
async function setPolicy(egress: string, more = ''): Promise<void> {
  const former = (await currentPolicy())?.metadata.generation;
  await daemon.write(
    'policy.yaml',
    `apiVersion: bulkhead.dev/v1alpha1
kind: NetworkPolicy
metadata: {name: egress}
spec:
  sandboxSelector: {matchLabels: {app: box}}
  egress: ${egress}
  dns: {nameservers: ["${WORLD.dns}"]}
${more}`,
  );
  const programmed = conditionGoal('Programmed');
  await until(NETWORK_POLICY_KIND, 'egress', {
    ...programmed,
    // A content that is the same makes no new generation.
    reached: (object) => object?.metadata.generation !== former && programmed.reached(object),
  });
}

// From this process, as starting a command line takes long where Node is slow.

async function until(kind: ResourceKind, name: string, goal: Goal): Promise<void> {
  await waitFor(client, { kind, namespace: 'default', name }, goal, AbortSignal.timeout(GOAL_LIMIT_MS));
}

async function currentPolicy(): Promise<StoredObject | undefined> {
  const { items } = await client.list(NETWORK_POLICY_KIND, { namespace: 'default' });
  return items.find(({ metadata }) => metadata.name === 'egress');
}

async function sh(script: string): Promise<string> {
  const command = ['/bin/sh', '-c', script];
  const query = { command, stdin: false, stdout: true, stderr: false, tty: false };
  const { stdout, exited } = await client.exec('default', 'box', query);
  const output = await text(stdout);
  await exited;
  return output;
}

/** What was refused or cut: a line each. */
async function denials(): Promise<string> {
  const { items } = await client.flows('default', 'box');
  return items
    .filter(({ result }) => !['Allowed', 'Answered', 'Cached'].includes(result))
    .map(({ protocol, destination, result, reason }) => [protocol, destination, result, reason].join(' '))
    .join('\n');
}

/** What a server answers to a request for `host` at `address`; empty where none was reached. */
function request(host: string, address: string, path = '/', port = 80): string {
  const head = `GET ${path} HTTP/1.1\\r\\nHost: ${host}\\r\\n\\r\\n`;
  return `(printf '${head}'; sleep 1) | timeout 5 nc -w 3 ${address} ${port} 2>/dev/null | grep reached`;
}

const lookup = (name: string, server = '') => `timeout 5 nslookup ${name} ${server} 2>&1`;

async function condition(type: string): Promise<string> {
  const box = await client.get(SANDBOX_KIND, 'default', 'box');
  const { status, reason } = conditionsOf(box).find((each) => each.type === type) ?? {};
  return `${status}/${reason}`;
}

test('without a policy public addresses are reached, and nothing else', LIMITED, async () => {
  assert.equal(await condition('NetworkReady'), 'True/NetworkConfigured');
  assert.match(await sh(request('x', WORLD.allowed)), /reached .*20\.0\.0\.10/);
  assert.match(await sh(request('x', WORLD.allowed6)), /reached 2600::10/);
  for (const address of [WORLD.private, WORLD.host, '169.254.169.254', '10.77.0.1', '127.0.0.1'])
    assert.equal(await sh(request('x', address)), '', address);
});

test(
  'a policy that is applied to a running sandbox opens the name that it allows, and no other',
  LIMITED,
  async () => {
    await setPolicy('{mode: Deny, rules: [{action: Allow, to: [{domain: allowed.example.com}]}]}');
    assert.match(await sh(lookup('allowed.example.com')), /20\.0\.0\.10/);
    assert.doesNotMatch(await sh(lookup('other.example.com')), /20\.0\.0\.11/);
    assert.match(await sh('wget -q -O - http://allowed.example.com/'), /reached .*20\.0\.0\.10/);
    assert.equal(await sh(request('other.example.com', WORLD.other)), '');
    const { status } = await daemon.get('box');
    assert.deepEqual((status as { network?: unknown }).network, {
      address: '10.77.0.2',
      policies: ['default/egress'],
    });
  },
);

test('the gateway can do as root what it needs and nothing else', () => {
  const status = readFileSync(`/proc/${daemon.gatewayPid}/status`, 'utf8');
  const bits = Number.parseInt(/^CapEff:\s+(\w+)$/m.exec(status)?.[1] ?? '', 16);
  // dac_read_search, net_bind_service, net_admin, net_raw, sys_ptrace, sys_admin: capability.h.
  assert.equal(bits, (1 << 2) | (1 << 10) | (1 << 12) | (1 << 13) | (1 << 19) | (1 << 21));
  assert.match(status, /^NoNewPrivs:\s+1$/m);
});

test('a flow that a changed policy forbids is cut, and what happened is on record', LIMITED, async () => {
  const script = `(printf 'GET /slow HTTP/1.1\\r\\nHost: allowed.example.com\\r\\n\\r\\n'; sleep 600) | nc ${WORLD.allowed} 80`;
  const slow = daemon.spawnCli('exec', 'box', '--', '/bin/sh', '-c', script);
  let seen = '';
  slow.stdout?.on('data', (chunk: Buffer) => {
    seen += chunk.toString();
  });
  const ended = new Promise((resolve) => slow.once('close', resolve));
  while (!seen.includes('still')) await new Promise((resolve) => slow.stdout?.once('data', resolve));
  await setPolicy('{mode: Deny}');
  const denied = await daemon.ok('network', 'log', 'box', '--denied');
  assert.match(denied, /Cut .*mode Deny of default\/egress/);
  assert.match(denied, /other\.example\.com +Blocked/);
  let events = '';
  while (!/EgressDenied.*Blocked: the name other\.example\.com, by mode Deny of default\/egress/.test(events))
    events = await daemon.ok('events');
  assert.equal(await sh(request('allowed.example.com', WORLD.allowed)), '');
  slow.kill('SIGKILL');
  await ended;
});

test('a flow goes on while the daemon is killed and starts again', LIMITED, async () => {
  await setPolicy('{mode: Deny, rules: [{action: Allow, to: [{domain: allowed.example.com}]}]}');
  const pid = daemon.gatewayPid;
  await sh(
    `${lookup('allowed.example.com')}; (printf 'GET /slow HTTP/1.1\\r\\nHost: allowed.example.com\\r\\n\\r\\n'; sleep 600) | nc ${WORLD.allowed} 80 > /tmp/slow & sleep 1`,
  );
  await daemon.crash();
  await daemon.launch();
  await daemon.waitReady('box');
  assert.equal(daemon.gatewayPid, pid);
  assert.equal(await condition('NetworkReady'), 'True/NetworkConfigured');
  const size = async () => Number(await sh('wc -c < /tmp/slow'));
  const first = await size();
  assert.ok(first > 0);
  while ((await size()) <= first);
  await until(NETWORK_POLICY_KIND, 'egress', conditionGoal('Programmed'));
});

test(
  'a killed gateway closes the network, and another one opens it again under the same policy',
  LIMITED,
  async () => {
    const pid = daemon.gatewayPid;
    process.kill(pid, 'SIGKILL');
    while (daemon.gatewayPid === pid) await new Promise((resolve) => setTimeout(resolve, 50));
    await until(SANDBOX_KIND, 'box', conditionGoal('NetworkReady'));
    await until(NETWORK_POLICY_KIND, 'egress', conditionGoal('Programmed'));
    let answer = '';
    while (!answer.includes('reached'))
      answer = await sh(
        `${lookup('allowed.example.com')} >/dev/null; ${request('allowed.example.com', WORLD.allowed)}`,
      );
    assert.equal(await sh(request('other.example.com', WORLD.other)), '');
  },
);

test('ports of the guest are published, moved and closed while it runs', LIMITED, async () => {
  await sh('nc -ll -p 8000 -e echo hello from the guest >/dev/null 2>&1 &');
  const setPorts = (ports: string) =>
    daemon.write('box.yaml', SANDBOX.replace('spec: {', `spec: {ports: ${ports}, `));
  const published = async () =>
    (
      (await client.get(SANDBOX_KIND, 'default', 'box')).status as {
        network?: { ports?: { hostPort: number }[] };
      }
    ).network?.ports ?? [];
  await setPorts('[{name: web, port: 8000}]');
  let port = 0;
  while (port === 0) port = (await published())[0]?.hostPort ?? 0;
  assert.match(dialHost(port), /hello from the guest/);

  // A server of the host has this one.
  await setPorts('[{name: web, port: 8000, hostPort: 8080}]');
  while ((await condition('NetworkReady')) !== 'False/PortUnavailable');
  assert.match(
    await daemon.ok('describe', 'sandbox', 'box'),
    /127\.0\.0\.1:8080 is taken by \S+ \(pid \d+\)/,
  );
  assert.equal(dialHost(port), '');

  await setPorts('[{name: web, port: 8000, hostPort: 8099}]');
  while ((await published())[0]?.hostPort !== 8099);
  assert.match(dialHost(8099), /hello from the guest/);
  await setPorts('[]');
  while ((await published()).length > 0);
  assert.equal(dialHost(8099), '');
});

/** What a port of the host says; empty where nothing listens. */
function dialHost(port: number): string {
  const [command = '', ...args] = [
    ...world.prefix,
    'bash',
    '-c',
    `exec 3<>/dev/tcp/127.0.0.1/${port} && timeout 5 cat <&3`,
  ];
  return spawnSync(command, args, { encoding: 'utf8' }).stdout;
}

const askUdp = (address: string, port = 9999) => sh(`/tmp/udp-probe ask ${address} ${port}`);

test(
  'datagrams reach what a policy names, by address, port and resolved name, and nothing else',
  LIMITED,
  async () => {
    await setPolicy(
      `{mode: Deny, rules: [{action: Allow, to: [{cidr: ${WORLD.other}/32}, {cidr: ${WORLD.other6}/128}, {domain: allowed.example.com}], ports: [{protocol: UDP, port: 9999}]}]}`,
    );
    assert.ok(conditionGoal('Accepted').reached(await currentPolicy()));
    assert.match(await askUdp(WORLD.other), /reached 20\.0\.0\.11 over UDP/);
    assert.match(await askUdp(WORLD.other6), /reached 2600::11 over UDP/);
    assert.match(
      await sh(`${lookup('allowed.example.com')} >/dev/null; /tmp/udp-probe ask ${WORLD.allowed} 9999`),
      /reached 20\.0\.0\.10/,
    );
    assert.equal(await askUdp(WORLD.other, 443), '');
    assert.equal(await askUdp(WORLD.private), '');
    const log = await daemon.ok('network', 'log', 'box');
    assert.match(log, /Flow +UDP +20\.0\.0\.11:9999 +Allowed +rule 0 of default\/egress/);
    assert.match(log, /Flow +UDP +20\.0\.0\.11:443 +Denied/);
  },
);

test('what is refused fails at once, and says why', LIMITED, async () => {
  await setPolicy(
    `{mode: Deny, rules: [{action: Allow, to: [{cidr: ${WORLD.other}/32}, {cidr: ${WORLD.other6}/128}]}]}`,
  );
  const ask = (address: string, port: number) => sh(`/tmp/udp-probe ask ${address} ${port} 2>&1`);
  assert.match(await ask(WORLD.allowed, 9999), /No route to host/);
  assert.match(await ask(WORLD.allowed6, 9999), /Permission denied/);
  // Nobody has this port there.
  assert.match(await ask(WORLD.other, 4444), /Connection refused/);
  assert.match(await ask(WORLD.other6, 4444), /Connection refused/);
  // One that is not refused waits for what never comes, until it is ended (code 143).
  const dial = (address: string) => sh(`timeout 20 nc ${address} 80; echo "code $?"`);
  assert.match(await dial(WORLD.allowed), /code [01]\n/);
  assert.match(await dial(WORLD.allowed6), /code [01]\n/);
});

test('a UDP session that a changed policy forbids is cut', LIMITED, async () => {
  await setPolicy('{mode: PublicOnly}');
  await sh(`rm -f /tmp/talk; /tmp/udp-probe talk ${WORLD.other} 9999 > /tmp/talk & echo $! > /tmp/talker`);
  const size = async () => Number(await sh('wc -c < /tmp/talk'));
  while ((await size()) === 0);
  await setPolicy('{mode: Deny}');
  const told = async (what: RegExp) => (await denials()).match(what)?.length ?? 0;
  assert.ok((await told(/UDP +20\.0\.0\.11:9999 +Cut +mode Deny of default\/egress/g)) > 0);
  // It goes on trying; two refusals are at least a second apart.
  const refused = () => told(/UDP +20\.0\.0\.11:9999 +Denied/g);
  while ((await refused()) === 0);
  const [before, tries] = [await size(), await refused()];
  while ((await refused()) <= tries);
  assert.equal(await size(), before);
  await sh('kill $(cat /tmp/talker)');
});

test('QUIC is refused where TLS is intercepted, and other datagrams are not', LIMITED, async () => {
  await setPolicy('{mode: PublicOnly}', '  tls: {intercept: true}\n');
  assert.equal(await askUdp(WORLD.other, 443), '');
  assert.match(await askUdp(WORLD.other), /reached/);
  assert.match(await denials(), /UDP 20\.0\.0\.11:443 Denied QUIC is refused/);
  await setPolicy('{mode: PublicOnly}', '  tls: {intercept: true, blockQuic: false}\n');
  assert.match(await askUdp(WORLD.other, 443), /reached/);
});

test('echoes of ICMP go where the policy lets them', LIMITED, async () => {
  const ping = (address: string) => sh(`timeout 10 ping -c 3 -W 5 ${address}`);
  await setPolicy(
    `{mode: Deny, rules: [{action: Allow, to: [{cidr: ${WORLD.other}/32}, {cidr: ${WORLD.other6}/128}]}]}`,
  );
  assert.match(await ping(WORLD.other), /64 bytes from 20\.0\.0\.11/);
  assert.match(await ping(WORLD.other6), /64 bytes from 2600::11/);
  assert.doesNotMatch(await ping(WORLD.allowed), /bytes from/);
  assert.match(await denials(), /ICMP +20\.0\.0\.10 +Denied/);
});

test('a UDP port of the guest is published, moved and closed while it runs', LIMITED, async () => {
  await sh('/tmp/udp-probe serve 7000 >/dev/null 2>&1 &');
  const setPorts = (ports: string) =>
    daemon.write('box.yaml', SANDBOX.replace('spec: {', `spec: {ports: ${ports}, `));
  const published = async () =>
    (
      (await client.get(SANDBOX_KIND, 'default', 'box')).status as {
        network?: { ports?: { hostPort: number }[] };
      }
    ).network?.ports ?? [];
  await setPorts('[{name: udp, port: 7000, protocol: UDP}]');
  let port = 0;
  while (port === 0) port = (await published())[0]?.hostPort ?? 0;
  assert.equal(askHost(port), 'hello hi');

  // The servers of the host have this one on another address; on all of them it is taken.
  await setPorts('[{name: udp, port: 7000, protocol: UDP, hostIP: 20.0.1.1, hostPort: 9999}]');
  while ((await condition('NetworkReady')) !== 'False/PortUnavailable');
  assert.match(
    await daemon.ok('describe', 'sandbox', 'box'),
    /20\.0\.1\.1:9999 \(UDP\) is taken by \S+ \(pid \d+\)/,
  );
  assert.equal(askHost(port), '');

  await setPorts('[{name: udp, port: 7000, protocol: UDP, hostPort: 7099}]');
  while ((await published())[0]?.hostPort !== 7099);
  assert.equal(askHost(7099), 'hello hi');
  await setPorts('[]');
  while ((await published()).length > 0);
  assert.equal(askHost(7099), '');
});

/** What a UDP port of the host answers within two seconds. */
function askHost(port: number): string {
  const script = `exec 3<>/dev/udp/127.0.0.1/${port} && printf hi >&3 && timeout 2 head -c 8 <&3`;
  const [command = '', ...args] = [...world.prefix, 'bash', '-c', script];
  return spawnSync(command, args, { encoding: 'utf8' }).stdout;
}

test('ports of the guest are reached that nothing declares, until the command ends', LIMITED, async (t) => {
  // Port 8001 is 1F41, a listening socket is in state 0A.
  await sh(
    'nc -ll -p 8001 -e cat >/dev/null 2>&1 & while ! grep -q ":1F41 .* 0A " /proc/net/tcp /proc/net/tcp6; do :; done',
  );
  const forward = daemon.spawnCli('port-forward', 'box', ':8001', ':8002');
  t.after(() => forward.kill('SIGKILL'));
  let said = '';
  let complained = '';
  forward.stdout?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  forward.stderr?.on('data', (chunk: Buffer) => {
    complained += chunk.toString();
  });
  const ended = once(forward, 'close');
  while (!said.includes('-> 8002')) await once(forward.stdout ?? forward, 'data');
  const [open = 0, closed = 0] = [...said.matchAll(/127\.0\.0\.1:(\d+) -> /g)].map(([, port]) =>
    Number(port),
  );
  // The guest's cat ends when it hears that nothing more comes, and everything has come back.
  assert.equal(carry(open, 3_000_000), '3000000');
  assert.equal(carry(closed, 10), '0');
  while (!/port 8002: Nothing listens on port 8002 of the guest/.test(complained))
    await once(forward.stderr ?? forward, 'data');
  await setPolicy('{mode: Airgapped}');
  assert.equal(carry(open, 10), '0');
  while (!/Airgapped of default\/egress/.test(complained)) await once(forward.stderr ?? forward, 'data');
  forward.kill('SIGINT');
  assert.deepEqual(await ended, [0, null]);
  assert.equal(carry(open, 10), '0');
});

/** How many bytes come back of those that are sent to a port of this machine, whose end is said. */
function carry(port: number, bytes: number): string {
  const script = `
const socket = require('node:net').connect({ port: ${port}, host: '127.0.0.1', allowHalfOpen: true });
let got = 0;
socket.on('data', (chunk) => { got += chunk.length; });
socket.on('error', () => {});
socket.on('close', () => console.log(got));
socket.end(Buffer.alloc(${bytes}));`;
  return spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', timeout: 60_000 }).stdout.trim();
}

test('an airgapped sandbox sends nothing at all', LIMITED, async () => {
  const tries = [
    `echo hi | timeout 3 nc -w 2 ${WORLD.other} 80`,
    `echo hi | timeout 3 nc -w 2 ${WORLD.other6} 80`,
    `/tmp/udp-probe ask ${WORLD.other} 9999`,
    `/tmp/udp-probe ask ${WORLD.other6} 443`,
    `timeout 3 ping -c 1 -W 2 ${WORLD.other}`,
    'timeout 5 nslookup allowed.example.com',
    `timeout 5 nslookup allowed.example.com ${WORLD.dns}`,
    `timeout 3 traceroute -n -m 1 -q 1 -w 1 ${WORLD.other}`,
  ].join('; ');
  await setPolicy('{mode: AllowAll}');
  const first = world.framesSeen;
  assert.match(await sh(`(${tries}) 2>/dev/null`), /reached .*\d/);
  const open = world.framesSeen;
  assert.ok(open > first);
  await setPolicy('{mode: Airgapped}');
  // What connections that were cut still say, such as that they are reset, is on its way at most for a moment.
  let closed = world.framesSeen;
  for (let before = -1; before !== closed; closed = world.framesSeen) {
    before = closed;
    await sh('true');
  }
  // Not the words of a look-up that got no answer.
  assert.doesNotMatch(await sh(`(${tries}) 2>/dev/null`), /reached .*\d/);
  assert.equal(world.framesSeen, closed);
});

test('a policy that cannot be put into force closes what it selects, and says why', LIMITED, async () => {
  await setPolicyUnusable();
  assert.equal(await sh(request('x', WORLD.allowed)), '');
  assert.doesNotMatch(await sh(lookup('allowed.example.com')), /20\.0\.0\.10/);
});

async function setPolicyUnusable(): Promise<void> {
  await daemon.write(
    'policy.yaml',
    `apiVersion: bulkhead.dev/v1alpha1
kind: NetworkPolicy
metadata: {name: egress}
spec:
  egress: {mode: AllowAll}
  tls: {upstreamCAs: [{secretKeyRef: {name: none, key: ca.crt}}]}
`,
  );
  await until(NETWORK_POLICY_KIND, 'egress', conditionGoal('Accepted', 'False'));
  let policy = '';
  while (!policy.includes('Airgapped')) policy = await daemon.ok('describe', 'sandbox', 'box');
  assert.ok(conditionsOf(await currentPolicy()).some(({ reason }) => reason === 'ReferenceNotFound'));
}
