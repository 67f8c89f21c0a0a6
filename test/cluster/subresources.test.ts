// exec, logs, files and port-forward of a sandbox by the cluster's API server, as users with and without rights have them, while
// certificates, agents and controllers are replaced.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { load } from 'js-yaml';
import { Agent, type Dispatcher, request } from 'undici';
import { WebSocket } from 'ws';
import { PORT_FORWARD_PROTOCOL, PortForwardStream } from '../../src/api/port-forward.ts';
import type { Status } from '../../src/api/status.ts';
import { SUBRESOURCE_VERBS, SUBRESOURCES_GROUP_VERSION } from '../../src/api/subresources.ts';
import { field, install, onNode, rolledOut, SYSTEM, startCluster } from './bulkhead-cluster.ts';
import type { TestCluster } from './cluster.ts';

const PORT = 21_447;
const URL_ROOT = `https://127.0.0.1:${PORT}`;
const BOX = `/apis/${SUBRESOURCES_GROUP_VERSION}/namespaces/default/sandboxes/box`;
const API_SERVICE = 'apiservice v1alpha1.subresources.bulkhead.dev';
/** What follows a change may take so long here; most of it is the machine's slowness. */
const SETTLED_MS = 90_000;
const METHODS: Readonly<Record<string, Dispatcher.HttpMethod>> = {
  get: 'GET',
  create: 'POST',
  update: 'PUT',
};

let cluster: TestCluster;
let ca: string;
let agent: Agent;
/** Bearer tokens, by what their accounts may do. */
const tokens = new Map<string, string>();

interface Answer {
  status: number;
  text: string;
}

interface KubeConfig {
  clusters: { cluster: { 'certificate-authority-data': string } }[];
}

async function ask(
  user: string,
  path: string,
  method: Dispatcher.HttpMethod = 'GET',
  body?: string | Buffer,
): Promise<Answer> {
  const answer = await request(`${URL_ROOT}${path}`, {
    ...{ method, dispatcher: agent, body: body ?? null },
    headers: { authorization: `Bearer ${tokens.get(user)}`, 'content-type': 'application/octet-stream' },
  });
  return { status: answer.statusCode, text: await answer.body.text() };
}

function stream(user: string, path: string, protocol: string): WebSocket {
  const headers = { authorization: `Bearer ${tokens.get(user)}` };
  return new WebSocket(`${URL_ROOT.replace('https', 'wss')}${path}`, protocol, { ca, headers });
}

/** Of a command: what it wrote and how it ended. Fails where the stream is refused. */
async function exec(user: string, command: string[], input = ''): Promise<{ output: string; exit: Status }> {
  const query = new URLSearchParams(command.map((word): [string, string] => ['command', word]));
  const socket = stream(user, `${BOX}/exec?stdin=true&${query}`, 'v5.channel.k8s.io');
  const pieces: string[] = [];
  let exit: Status | undefined;
  socket.on('message', (data: Buffer) => {
    if (data[0] === 1) pieces.push(data.subarray(1).toString());
    if (data[0] === 3) exit = JSON.parse(data.subarray(1).toString()) as Status;
  });
  await once(socket, 'open');
  if (input !== '') socket.send(Buffer.concat([Buffer.of(0), Buffer.from(input)]));
  socket.send(Buffer.of(255, 0));
  await once(socket, 'close');
  assert.ok(exit, 'the stream ended without a word');
  return { output: pieces.join(''), exit };
}

/** The first answer that is as it should be; fails with the last one that was not. */
async function settled(path: string): Promise<Answer> {
  const deadline = Date.now() + SETTLED_MS;
  for (;;) {
    const answer = await ask('exec', path);
    if (answer.status === 200) return answer;
    // Whoever asks meanwhile is told that it passes.
    assert.ok(answer.status === 503 && Date.now() < deadline, `${answer.status} ${answer.text}`);
    await delay(500);
  }
}

before(async () => {
  cluster = await startCluster({ port: PORT });
  const config = load(await readFile(cluster.kubeconfig, 'utf8')) as KubeConfig;
  ca = Buffer.from(config.clusters[0]?.cluster['certificate-authority-data'] ?? '', 'base64').toString();
  agent = new Agent({ connect: { ca } });
  await install(cluster, 1, ['subresources.enabled=true']);
  const serve = 'echo started; mkdir /www && echo served >/www/index.html && exec httpd -f -p 8000 -h /www';
  await cluster.apply(
    JSON.stringify({
      ...{ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox', metadata: { name: 'box' } },
      spec: {
        image: 'bulkhead.local/busybox:latest',
        resources: { memory: '128Mi', disk: '1Gi' },
        terminationGracePeriodSeconds: 1,
        main: { command: ['sh', '-c', serve] },
      },
    }),
  );
  // By Kubernetes' own roles, which the chart adds to, but for the first and the last.
  for (const [user, role] of Object.entries({
    nobody: '',
    view: 'view',
    edit: 'edit',
    exec: 'bulkhead-exec',
  })) {
    await cluster.ask('create', 'serviceaccount', user);
    if (role !== '')
      await cluster.ask(
        'create',
        'rolebinding',
        user,
        `--clusterrole=${role}`,
        `--serviceaccount=default:${user}`,
      );
    tokens.set(user, (await cluster.ask('create', 'token', user, '--duration=2h')).trim());
  }
  await cluster.ask('wait', '--for=condition=Available', ...API_SERVICE.split(' '), '--timeout=120s');
  await cluster.ask('wait', '--for=condition=Ready', 'sandbox/box', '--timeout=180s');
});

after(async () => {
  await agent?.close();
  await cluster?.[Symbol.asyncDispose]();
});

describe('the API of subresources', { concurrency: false }, () => {
  it('reaches a sandbox through the API server', async () => {
    await settled(`${BOX}/files/stat?path=/`);
    const log = await ask('view', `${BOX}/log`);
    assert.deepEqual([log.status, log.text], [200, 'started\n']);
    const stats = await ask('view', `${BOX}/stats`);
    assert.ok(JSON.parse(stats.text).vm.memoryBytes > 0, stats.text);

    const content = Buffer.alloc(4_000_000, 'content ');
    const put = await ask('exec', `${BOX}/files/content?path=/tmp/f`, 'PUT', content);
    assert.equal(put.status, 200, put.text);
    const counted = await exec('exec', ['sh', '-c', 'wc -c </tmp/f; cat; exit 3'], 'input');
    assert.equal(counted.output, '4000000\ninput');
    assert.deepEqual(counted.exit.details?.causes, [{ reason: 'ExitCode', message: '3' }]);
    assert.equal((await ask('exec', `${BOX}/files/content?path=/tmp/f`)).text, content.toString());

    const forward = stream('exec', `${BOX}/portforward?port=8000`, PORT_FORWARD_PROTOCOL);
    await once(forward, 'open');
    const connection = new PortForwardStream(forward);
    connection.end('GET / HTTP/1.0\r\n\r\n');
    assert.match((await connection.toArray()).join(''), /^HTTP\/1\.[01] 200 .*served\n$/s);
  });

  it('answers in the words of the daemon what cannot be', async () => {
    const { status, text } = await ask('exec', `${BOX}/files/content?path=/nowhere`);
    const failure = JSON.parse(text) as Status;
    assert.deepEqual([status, failure.reason, failure.kind], [404, 'NotFound', 'Status']);

    const gone = await ask('view', BOX.replace(/box$/, 'gone/log'));
    assert.deepEqual(
      [gone.status, (JSON.parse(gone.text) as Status).message],
      [404, 'sandboxes.bulkhead.dev "gone" not found'],
    );
    const listed = await cluster.ask('get', '--raw', `/apis/${SUBRESOURCES_GROUP_VERSION}`);
    assert.equal(JSON.parse(listed).resources.length, Object.keys(SUBRESOURCE_VERBS).length);
  });

  it('is open to those whom RBAC lets, subresource by subresource', async () => {
    const reads = ['log', 'stats', 'effectivepolicy', 'flows'];
    const reaches = ['exec', 'attach', 'portforward', 'files'];
    const allowed: Record<string, string[]> = {
      ...{ nobody: [], view: reads, exec: reaches },
      edit: Object.keys(SUBRESOURCE_VERBS),
    };
    for (const [user, names] of Object.entries(allowed))
      for (const [name, verbs] of Object.entries(SUBRESOURCE_VERBS)) {
        // An answer that does not end would hold the test.
        if (name === 'hold' && names.includes(name)) continue;
        for (const verb of verbs) {
          const { status } = await ask(user, `${BOX}/${name}`, METHODS[verb]);
          assert.equal(status !== 403, names.includes(name), `${user} ${verb} ${name}: ${status}`);
        }
      }
    for (const path of ['exec?command=true', 'attach', 'portforward?port=8000']) {
      const [, answer] = await once(
        stream('view', `${BOX}/${path}`, 'v5.channel.k8s.io'),
        'unexpected-response',
      );
      assert.equal(answer.statusCode, 403, path);
      answer.resume();
    }
    assert.equal((await ask('edit', BOX.replace('/default/', '/kube-system/').concat('/log'))).status, 403);
  });

  it('is closed to whoever goes past the API server', async () => {
    const curl = (url: string, ...more: string[]) =>
      cluster.inNode(0, 'curl', '-ksS', '--max-time', '10', '-w', ' %{http_code}', ...more, url);
    const forged = ['-H', 'X-Remote-User: admin', '-H', 'X-Remote-Group: system:masters'];
    const controllers = ['-n', SYSTEM, 'get', 'pods', '-l', 'app.kubernetes.io/component=controller'];
    const addresses = (await cluster.ask(...controllers, '-o', 'jsonpath={.items[*].status.podIP}')).split(
      ' ',
    );
    assert.equal(addresses.length, 2);
    for (const address of addresses) {
      const refused = await curl(`https://${address}:8443${BOX}/log`, ...forged);
      assert.match(refused.stdout, /"Unauthorized".* 401$/, refused.stderr);
      assert.match((await curl(`https://${address}:8443/readyz`)).stdout, / 200$/);
    }
    const node = await field(cluster, 'node node0', '.status.addresses[?(@.type=="InternalIP")].address');
    const path = BOX.replace('subresources.', '');
    const refused = await curl(`https://${node}:9466${path}/log`, ...forged);
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /certificate required|alert|SSL/i);
  });

  it('gives each node its certificate and no other', async () => {
    const token = (await cluster.ask('-n', SYSTEM, 'create', 'token', 'bulkhead-node')).trim();
    const issued = JSON.parse(await cluster.ask('get', 'csr', '-o', 'json')).items as {
      metadata: { name: string };
      spec: { request: string; signerName: string };
      status: { certificate: string };
    }[];
    const [first] = issued.filter(({ spec }) => spec.signerName === 'bulkhead.dev/node-agent');
    assert.ok(first);
    const leaf = new X509Certificate(Buffer.from(first.status.certificate, 'base64'));
    assert.deepEqual([leaf.subjectAltName, leaf.keyUsage], ['DNS:node0', ['1.3.6.1.5.5.7.3.1']]);
    // The same account with a token that was made for no node, as whoever stole it elsewhere has it.
    tokens.set('stolen', token);
    const { signerName } = first.spec;
    const spec = { request: first.spec.request, signerName, usages: ['digital signature', 'server auth'] };
    const made = await request(`${URL_ROOT}/apis/certificates.k8s.io/v1/certificatesigningrequests`, {
      ...{ method: 'POST', dispatcher: agent },
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ metadata: { name: 'stolen' }, spec }),
    });
    assert.equal(made.statusCode, 201, await made.body.text());
    await cluster.ask('wait', '--for=condition=Denied', 'csr/stolen', '--timeout=60s');
    assert.equal(await field(cluster, 'csr stolen', '.status.certificate'), '');
    const secret = await ask('stolen', `/api/v1/namespaces/${SYSTEM}/secrets/bulkhead-authorities`);
    assert.equal(secret.status, 403);
  });

  it('goes on when its authorities are replaced', async () => {
    const bundle = () => field(cluster, API_SERVICE, '.spec.caBundle');
    const former = await bundle();
    await cluster.ask('-n', SYSTEM, 'delete', 'secret', 'bulkhead-authorities');
    const deadline = Date.now() + SETTLED_MS;
    while ((await bundle()) === former) {
      assert.ok(Date.now() < deadline, 'the APIService has its former authority');
      await delay(500);
    }
    await settled(`${BOX}/files/stat?path=/`);
    assert.equal((await exec('exec', ['echo', 'again'])).output, 'again\n');
  });

  it('cuts what an agent or controller carried that is replaced, and goes on with the next', async () => {
    const open = async () => {
      const socket = stream('exec', `${BOX}/exec?command=cat&stdin=true`, 'v5.channel.k8s.io');
      await once(socket, 'open');
      // Whether it is told as an error depends on where it was cut.
      socket.on('error', () => undefined);
      const { promise: isCut, resolve } = Promise.withResolvers<void>();
      socket.once('close', () => resolve());
      return { isCut };
    };
    const pid = await field(cluster, 'sandbox box', '.status.vm.pid');
    const first = await open();
    await cluster.ask('-n', SYSTEM, 'rollout', 'restart', 'daemonset/bulkhead-node');
    await first.isCut;
    await rolledOut(cluster);
    await settled(`${BOX}/files/stat?path=/`);
    const second = await open();
    await cluster.ask('-n', SYSTEM, 'rollout', 'restart', 'deployment/bulkhead-controller');
    await cluster.ask('-n', SYSTEM, 'rollout', 'status', 'deployment/bulkhead-controller', '--timeout=180s');
    await second.isCut;
    await settled(`${BOX}/files/stat?path=/`);
    assert.equal((await exec('exec', ['echo', 'still'])).output, 'still\n');
    assert.equal(await field(cluster, 'sandbox box', '.status.vm.pid'), pid);
    assert.equal((await onNode(cluster, 0, 'exec', 'box', '--', 'true')).code, 0);
  });
});
