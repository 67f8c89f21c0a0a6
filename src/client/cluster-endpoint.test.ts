import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, afterEach, before, test } from 'node:test';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { type ClusterFront, kubeconfigOf, startClusterFront } from '../server/testing/cluster-front.ts';
import { type Harness, sandboxDocument, startHarness } from '../server/testing/harness.ts';
import { BulkheadClient } from './client.ts';
import { ClusterEndpoint, type ClusterOptions, clusterErrorOf, pathInCluster } from './cluster-endpoint.ts';
import { HOST_ONLY } from './host-only.ts';

const PREFIX = '/k8s/clusters/c-1';
let harness: Harness;
let front: ClusterFront;
let dir: string;
const clients: BulkheadClient[] = [];

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-cluster-'));
  harness = await startHarness();
  front = await startClusterFront(harness.socketPath, PREFIX);
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
  front.requests.length = 0;
});
after(async () => {
  await front[Symbol.asyncDispose]();
  await harness[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

async function clientOf(
  user: Record<string, unknown>,
  more: Parameters<typeof kubeconfigOf>[2] = {},
  options: ClusterOptions = {},
): Promise<BulkheadClient> {
  const kubeconfig = join(dir, 'config');
  await writeFile(kubeconfig, kubeconfigOf(front, user, more));
  const client = new BulkheadClient({ endpoint: await ClusterEndpoint.open({ kubeconfig, ...options }) });
  clients.push(client);
  return client;
}

async function runsFail(client: BulkheadClient): Promise<void> {
  const flags = { stdin: false, stdout: true, stderr: true, tty: false };
  const stream = await client.exec('default', 'a', { ...flags, command: ['fail'] });
  assert.equal(await text(stream.stdout), 'to stdout\n');
  assert.equal((await stream.exited).exitCode, 3);
}

test('a client certificate is who one is, for requests and for streams', async () => {
  const base64 = (pem: string) => Buffer.from(pem).toString('base64');
  const { cert, key } = front.client;
  const client = await clientOf({
    'client-certificate-data': base64(cert),
    'client-key-data': base64(key),
  });
  assert.equal((await client.list(SANDBOX_KIND)).items.length, 1);
  await runsFail(client);
  assert.deepEqual(
    front.requests.map(({ user }) => user),
    ['certified', 'certified'],
  );
  assert.ok(front.requests.every(({ path }) => path.startsWith(`${PREFIX}/apis/`)));
});

test('credentials come from a program, once for many requests', async () => {
  const program = join(dir, 'credentials');
  const count = join(dir, 'count');
  await writeFile(count, '');
  await writeFile(
    program,
    `#!/bin/sh\necho "$WHO" >>${count}\nprintf '%s' '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"${front.token}"}}'\n`,
  );
  await chmod(program, 0o755);
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: program,
    args: [],
    env: [{ name: 'WHO', value: 'me' }],
  };
  const client = await clientOf({ exec });
  await client.list(SANDBOX_KIND);
  await runsFail(client);
  assert.deepEqual(
    front.requests.map(({ user }) => user),
    ['bearer', 'bearer'],
  );
  const { readFile } = await import('node:fs/promises');
  assert.equal(await readFile(count, 'utf8'), 'me\n');

  await writeFile(program, '#!/bin/sh\necho "please log in" >&2\nexit 1\n');
  const refused = await clientOf({ exec });
  await assert.rejects(refused.list(SANDBOX_KIND), { code: 'KUBECONFIG_INVALID', message: /please log in/ });
});

test('who is not known, not allowed, or somebody else for this once', async () => {
  const stranger = await clientOf({ token: 'of a stranger' });
  await assert.rejects(stranger.list(SANDBOX_KIND), { code: 'UNAUTHORIZED', message: 'Unauthorized' });
  const nobody = await clientOf({ token: front.token }, {}, { impersonate: { user: 'nobody' } });
  await assert.rejects(nobody.list(SANDBOX_KIND), {
    code: 'FORBIDDEN',
    message: /User "nobody" cannot list/,
  });
  await assert.rejects(runsFail(nobody), { code: 'FORBIDDEN' });
  const impersonate = { user: 'jane', groups: ['dev', 'ops'] };
  const jane = await clientOf({ token: front.token }, {}, { impersonate });
  await runsFail(jane);
  assert.deepEqual(front.requests.at(-1), {
    ...{ method: 'GET', user: 'bearer', asUser: 'jane', asGroups: 'dev, ops' },
    path: front.requests.at(-1)?.path,
  });
});

test('the server is who the authority says, under the name the kubeconfig says', async () => {
  const base64 = Buffer.from('-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n').toString('base64');
  const user = { token: front.token };
  const distrusted = await clientOf(user, { cluster: { 'certificate-authority-data': base64 } });
  await assert.rejects(distrusted.list(SANDBOX_KIND), {
    code: 'API_SERVER_UNAVAILABLE',
    message: /does not answer/,
  });
  const named = await clientOf(user, { cluster: { 'tls-server-name': 'api.example' } });
  await runsFail(named);
  const misnamed = await clientOf(user, { cluster: { 'tls-server-name': 'other.example' } });
  await assert.rejects(misnamed.list(SANDBOX_KIND), { message: /other\.example/ });
  const insecure = { 'certificate-authority-data': undefined, 'insecure-skip-tls-verify': true };
  await runsFail(await clientOf(user, { cluster: insecure }));
});

test('through a proxy, where the kubeconfig says one', async () => {
  const tunnels: string[] = [];
  const open = new Set<Duplex>();
  const proxy: Server = createServer().on('connect', (request, socket: Duplex) => {
    tunnels.push(request.url ?? '');
    const [host = '', port = ''] = (request.url ?? '').split(':');
    const upstream = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connected\r\n\r\n');
      upstream.pipe(socket).pipe(upstream);
    });
    for (const each of [socket, upstream]) {
      open.add(each);
      each.on('error', () => {});
    }
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const { port } = proxy.address() as AddressInfo;
  const client = await clientOf(
    { token: front.token },
    { cluster: { 'proxy-url': `http://127.0.0.1:${port}` } },
  );
  await client.list(SANDBOX_KIND);
  await runsFail(client);
  assert.ok(tunnels.length >= 2 && tunnels.every((each) => front.url.includes(each)), tunnels.join());
  for (const each of open) each.destroy();
  proxy.close();
});

test('what writes wants unknown fields refused, as a daemon refuses them', async () => {
  const client = await clientOf({ token: front.token });
  const key = [SANDBOX_KIND, 'default'] as const;
  const { metadata } = await client.create(...key, sandboxDocument('strict'));
  await client.apply(...key, sandboxDocument('strict', { hostname: 'h' }), { fieldManager: 'test' });
  await client.patch(...key, 'strict', { spec: { hostname: 'i' } });
  await client.replace(...key, await client.get(...key, 'strict'));
  await client.delete(...key, 'strict', { preconditions: { uid: metadata.uid } });
  const writes = front.requests.filter(({ method }) => ['POST', 'PATCH', 'PUT'].includes(method));
  assert.equal(writes.length, 4);
  for (const { path } of writes) assert.match(path, /[?&]fieldValidation=Strict(&|$)/);
});

test('what belongs to one host is refused without a request, and says what to do', async () => {
  const client = await clientOf({ token: front.token });
  const asked = [
    () => client.images.list(),
    () => client.images.pull({ reference: 'busybox' }),
    () => client.volumes.list(),
    () => client.volumes.export('default', 'v', '/x'),
    () => client.copies.put({ digest: 'sha256:00', bytes: Buffer.alloc(1) }),
    () => client.collectGarbage({ dryRun: true }),
    () => client.doctor(),
    () => client.metrics(),
  ];
  const messages = new Set<string>();
  for (const ask of asked) {
    await assert.rejects(ask(), (error) => {
      assert.ok(error instanceof Error && 'code' in error && error.code === 'NOT_IN_CLUSTER');
      messages.add(error.message);
      return true;
    });
  }
  assert.equal(messages.size, HOST_ONLY.length, 'every row of the list was tried');
  assert.deepEqual(front.requests, []);
});

test('what is not installed in the cluster says so, and so does what breaks off', async () => {
  const bare = await clientOf({ token: front.token }, { cluster: { server: `${front.url}/elsewhere` } });
  await assert.rejects(bare.list(SANDBOX_KIND), { code: 'NOT_FOUND', message: /CRDs are not installed/ });
  await assert.rejects(runsFail(bare), { code: 'NOT_FOUND', message: /aggregated API is not installed/ });
  const client = await clientOf({ token: front.token });
  const leave = new AbortController();
  const watch = client.watch(SANDBOX_KIND, { namespace: 'default', signal: leave.signal });
  await watch.next();
  const next = watch.next();
  front.cut();
  await assert.rejects(next, {
    code: 'API_SERVER_UNAVAILABLE',
    message: /closed the connection|does not answer/,
  });
});

test('a command goes on over connections that break and an aggregated API that is being replaced', async () => {
  const client = await clientOf({ token: front.token });
  const flags = { stdin: true, stdout: true, stderr: true, tty: false };
  const id = randomUUID();
  const cat = await client.execResumable('default', 'a', {
    ...flags,
    command: ['cat'],
    id,
    resumeSeconds: 60,
  });
  cat.stdin.write('one');
  assert.equal(String((await once(cat.stdout, 'data'))[0]), 'one');
  front.failing = 2;
  front.cut();
  cat.stdin.end('two');
  assert.equal(await text(cat.stdout), 'two');
  assert.equal((await cat.exited).exitCode, 0);
  assert.equal(front.failing, 0);
});

test('paths of subresources, and only they, go to the aggregated API', () => {
  const own = '/apis/bulkhead.dev/v1alpha1/namespaces/n/sandboxes/s';
  const aggregated = '/apis/subresources.bulkhead.dev/v1alpha1/namespaces/n/sandboxes/s';
  assert.equal(pathInCluster(`${own}/exec?command=a%2Fb`), `${aggregated}/exec?command=a%2Fb`);
  assert.equal(pathInCluster(`${own}/files/content?path=%2Fetc`), `${aggregated}/files/content?path=%2Fetc`);
  for (const path of [
    own,
    `${own}?dryRun=All`,
    `${own}/status`,
    '/apis/bulkhead.dev/v1alpha1/sandboxes?watch=true',
  ])
    assert.equal(pathInCluster(path), path);
});

test("refusals of the API server's own have our codes", () => {
  const codeOf = (reason: string, code: number, field?: string) =>
    clusterErrorOf({
      ...{ apiVersion: 'v1', kind: 'Status', metadata: {}, status: 'Failure', message: 'm', reason, code },
      ...(field === undefined ? {} : { details: { causes: [{ message: 'm', field }] } }),
    } as Parameters<typeof clusterErrorOf>[0]).code;
  assert.equal(codeOf('Expired', 410), 'EXPIRED');
  assert.equal(codeOf('Gone', 410), 'EXPIRED');
  assert.equal(codeOf('ServiceUnavailable', 503), 'API_SERVER_UNAVAILABLE');
  assert.equal(codeOf('ServerTimeout', 504), 'TIMEOUT');
  assert.equal(codeOf('Invalid', 422), 'INVALID');
  assert.equal(codeOf('Invalid', 422, 'metadata.uid'), 'CONFLICT');
  assert.equal(codeOf('SandboxNotRunning', 409), 'SANDBOX_NOT_RUNNING');
  assert.equal(codeOf('InternalError', 500), 'INTERNAL');
  const strict = clusterErrorOf({
    ...{ apiVersion: 'v1', kind: 'Status', metadata: {}, status: 'Failure', reason: 'BadRequest', code: 400 },
    message:
      'Sandbox in version "v1alpha1" cannot be handled as a Sandbox: strict decoding error: unknown field "spec.imagee"',
  });
  assert.equal(strict.code, 'INVALID');
  assert.deepEqual(
    strict.causes.map(({ field }) => field),
    ['spec.imagee'],
  );
});
