// The API of subresources behind a real API server: aggregation, RBAC, the signing of certificates and their rotation. The agent's
// guests are fakes; subresources.test.ts has real ones.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { Agent } from 'undici';
import { WebSocket } from 'ws';
import type { Status } from '../../src/api/status.ts';
import { SUBRESOURCES_GROUP, SUBRESOURCES_GROUP_VERSION } from '../../src/api/subresources.ts';
import { systemClock } from '../../src/controller/clock.ts';
import { ControllerMetrics } from '../../src/daemon/controller-metrics.ts';
import { clusterStore } from '../../src/daemon/node.ts';
import { OUR_REQUESTS, Subresources } from '../../src/daemon/subresources.ts';
import { freePort, type Harness, sandboxDocument, startHarness } from '../../src/server/testing/harness.ts';
import { ApiClient } from '../../src/store/cluster/api-client.ts';
import { FollowedObjects } from '../../src/store/cluster/followed-objects.ts';
import { keepAgentCertificate } from '../../src/subresources/agent-certificate.ts';
import { Issuer } from '../../src/subresources/testing/tls.ts';
import { ApiServer, type TestUser } from './api-server.ts';

const SYSTEM = 'bulkhead-system';
const SERVICE = 'bulkhead-controller';
const BOX = `/apis/${SUBRESOURCES_GROUP_VERSION}/namespaces/default/sandboxes/box`;
const API_SERVICE = `/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.${SUBRESOURCES_GROUP}`;
const SETTLED_MS = 120_000;
const ANN: TestUser = { name: 'ann', token: 'token-of-ann' };
const BOB: TestUser = { name: 'bob', token: 'token-of-bob' };

const log = pino({ level: 'silent' });
const stop = new AbortController();
let dir: string;
let server: ApiServer;
let guests: Harness;
let controller: Subresources;
let signer: ReturnType<Subresources['signer']> = [];
let running: Promise<void> = Promise.resolve();
let close: () => Promise<unknown> = async () => undefined;

async function send(path: string, body: unknown, method: 'POST' | 'PATCH' = 'POST'): Promise<unknown> {
  const contentType = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
  const { status, body: answer } = await server.request(path, { method, body, contentType });
  assert.ok(status < 300, `${path}: ${status} ${JSON.stringify(answer)}`);
  return answer;
}

/** Somebody's way to the API server, as parts of the cluster have it. */
async function clientOf(token: string): Promise<ApiClient> {
  const dispatcher = new Agent({ connect: { ca: await server.certificateAuthority() } });
  const headers = { Authorization: `Bearer ${token}` };
  return new ApiClient({ url: server.url, credentials: async () => ({ headers, dispatcher }) });
}

async function role(name: string, user: object, rules: object[]): Promise<void> {
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  await send(`${rbac}/clusterroles`, { metadata: { name }, rules });
  const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name };
  await send(`${rbac}/clusterrolebindings`, { metadata: { name }, roleRef, subjects: [user] });
}

/** Until the API server reaches the sandbox through the controller. */
async function settled(): Promise<void> {
  const deadline = Date.now() + SETTLED_MS;
  for (;;) {
    const { status, body } = await server.request(`${BOX}/stats`);
    if (status === 200) return;
    assert.ok(Date.now() < deadline, `${status} ${JSON.stringify(body)}`);
    await delay(200);
  }
}

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-aggregation-'));
  const proxies = await Issuer.create('front proxies');
  const { cert, key } = await proxies.leaf('front-proxy', { usage: 'client' });
  const files = { 'ca.crt': proxies.ca, 'proxy.crt': cert, 'proxy.key': key };
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text, { mode: 0o600 });
  server = await ApiServer.start({
    users: [ANN, BOB],
    flags: [
      ...[
        '--requestheader-client-ca-file',
        join(dir, 'ca.crt'),
        '--requestheader-allowed-names',
        'front-proxy',
      ],
      ...[
        '--requestheader-username-headers',
        'X-Remote-User',
        '--requestheader-group-headers',
        'X-Remote-Group',
      ],
      ...['--requestheader-extra-headers-prefix', 'X-Remote-Extra-'],
      ...[
        '--proxy-client-cert-file',
        join(dir, 'proxy.crt'),
        '--proxy-client-key-file',
        join(dir, 'proxy.key'),
      ],
    ],
  });
  await server.applyCrds();
  const [port, agentPort] = [await freePort(), await freePort()];
  await send('/api/v1/namespaces', { metadata: { name: SYSTEM } });
  // A Service of a name: there is no network of Pods here.
  const spec = { type: 'ExternalName', externalName: 'localhost', ports: [{ port }] };
  await send(`/api/v1/namespaces/${SYSTEM}/services`, { metadata: { name: SERVICE }, spec });
  await send(API_SERVICE.slice(0, API_SERVICE.lastIndexOf('/')), {
    metadata: { name: API_SERVICE.split('/').at(-1) },
    spec: {
      ...{ group: SUBRESOURCES_GROUP, version: 'v1alpha1', groupPriorityMinimum: 1000, versionPriority: 15 },
      service: { name: SERVICE, namespace: SYSTEM, port },
    },
  });
  await send('/api/v1/nodes', { metadata: { name: 'node-a' } });
  const addresses = [{ type: 'InternalIP', address: '127.0.0.1' }];
  await send('/api/v1/nodes/node-a/status', { status: { addresses } }, 'PATCH');
  const objects = '/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes';
  await send(objects, sandboxDocument('box'));
  await send(`${objects}/box/status`, { status: { nodeName: 'node-a' } }, 'PATCH');
  const subject = (name: string) => ({ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name });
  const resources = ['sandboxes/exec'];
  await role('exec', subject('ann'), [{ apiGroups: [SUBRESOURCES_GROUP], resources, verbs: ['get'] }]);

  const parts = { namespace: SYSTEM, clock: systemClock, log };
  const client = await clientOf(server.token);
  const store = clusterStore(
    client,
    { part: 'test', instance: 'test' },
    { CertificateSigningRequest: { fields: OUR_REQUESTS } },
  );
  const address = `127.0.0.1:${port}`;
  const agentAccount = 'bulkhead-node';
  controller = new Subresources(
    { address, service: SERVICE, agentPort, agentAccount },
    { client, store, ...parts },
  );
  controller.start();
  signer = controller.signer(new ControllerMetrics('test'));
  for (const each of signer) await each.start(() => undefined);

  guests = await startHarness();
  await guests.store.create({ ...sandboxDocument('box'), metadata: { name: 'box', namespace: 'default' } });
  const token = await agentToken();
  const agentClient = await clientOf(token);
  const agentStore = clusterStore(agentClient, { part: 'test', instance: 'agent' });
  const followed = new FollowedObjects({ source: agentStore });
  let listens = false;
  running = keepAgentCertificate(
    {
      ...{ client: agentClient, followed, nodeName: 'node-a', ...parts },
      changed: async (tls) => {
        if (listens) guests.server.forCluster.renew(tls);
        else await guests.server.forCluster.listen(`127.0.0.1:${agentPort}`, tls);
        listens = true;
      },
    },
    stop.signal,
  );
  close = () => {
    followed.close();
    return Promise.all([store.close(), agentStore.close()]);
  };
  await settled();
});

after(async () => {
  stop.abort();
  await running;
  for (const each of signer) await each.stop();
  await controller?.stop();
  await close();
  await guests?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

/** Of the account of agents, in a Pod on the node: the API server writes the node into it. */
async function agentToken(): Promise<string> {
  const accounts = `/api/v1/namespaces/${SYSTEM}/serviceaccounts`;
  await send(accounts, { metadata: { name: 'bulkhead-node' } });
  await role('agent', { kind: 'ServiceAccount', namespace: SYSTEM, name: 'bulkhead-node' }, [
    {
      apiGroups: ['certificates.k8s.io'],
      resources: ['certificatesigningrequests'],
      verbs: ['create', 'get'],
    },
    { apiGroups: [''], resources: ['configmaps'], verbs: ['list', 'watch'] },
  ]);
  const pod = (await send(`/api/v1/namespaces/${SYSTEM}/pods`, {
    metadata: { name: 'agent' },
    spec: {
      nodeName: 'node-a',
      serviceAccountName: 'bulkhead-node',
      containers: [{ name: 'a', image: 'a' }],
    },
  })) as { metadata: { uid: string } };
  const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: 'agent', uid: pod.metadata.uid };
  const made = await send(`${accounts}/bulkhead-node/token`, { spec: { boundObjectRef } });
  return (made as { status: { token: string } }).status.token;
}

it('answers by the API server what the agent answers', async () => {
  const stat = await server.request(`${BOX}/files/stat?path=/`);
  assert.deepEqual([stat.status, (stat.body as { kind: string }).kind], [200, 'directory']);
  const gone = await server.request(`${BOX}/files/stat?path=/gone`);
  assert.deepEqual([gone.status, (gone.body as Status).reason], [404, 'NotFound']);
  const listed = await server.request(`/apis/${SUBRESOURCES_GROUP_VERSION}`);
  assert.equal((listed.body as { kind: string }).kind, 'APIResourceList');
});

it('lets run a command whom RBAC lets, and nobody else', async () => {
  const ca = await server.certificateAuthority();
  const open = ({ token }: TestUser) =>
    new WebSocket(
      `${server.url.replace('https', 'wss')}${BOX}/exec?command=echo&command=hello`,
      'v5.channel.k8s.io',
      {
        ...{ ca, headers: { authorization: `Bearer ${token}` } },
      },
    );
  const socket = open(ANN);
  const pieces: string[] = [];
  socket.on('message', (data: Buffer) => {
    if (data[0] === 1) pieces.push(data.subarray(1).toString());
  });
  await once(socket, 'close');
  assert.equal(pieces.join(''), 'hello\n');
  const [, answer] = await once(open(BOB), 'unexpected-response');
  assert.equal(answer.statusCode, 403);
  answer.resume();
  for (const name of ['log', 'files/stat?path=/', 'attach'])
    assert.equal((await server.request(`${BOX}/${name}`, { token: ANN.token })).status, 403, name);
});

it('goes on with other authorities when the Secret is gone', async () => {
  const bundle = async () =>
    ((await server.request(API_SERVICE)).body as { spec: { caBundle: string } }).spec.caBundle;
  const former = await bundle();
  const secret = `/api/v1/namespaces/${SYSTEM}/secrets/bulkhead-authorities`;
  assert.equal((await server.request(secret, { method: 'DELETE' })).status, 200);
  const deadline = Date.now() + SETTLED_MS;
  while ((await bundle()) === former) {
    assert.ok(Date.now() < deadline, 'the APIService has its former authority');
    await delay(200);
  }
  await settled();
});
