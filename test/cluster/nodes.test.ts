// Two nodes: what happens to sandboxes when one is drained, when it dies, and when somebody has its credentials.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { field, install, onNode, SYSTEM, startCluster } from './bulkhead-cluster.ts';
import type { TestCluster } from './cluster.ts';

const PORT = 21_445;

let cluster: TestCluster;

before(async () => {
  cluster = await startCluster({ port: PORT, nodes: 2 });
  await install(cluster, 2);
});

after(() => cluster?.[Symbol.asyncDispose]());

function sandbox(name: string, nodeName?: string, more: Record<string, unknown> = {}): string {
  const scheduling =
    nodeName === undefined ? {} : { scheduling: { nodeSelector: { 'kubernetes.io/hostname': nodeName } } };
  return JSON.stringify({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name },
    spec: {
      image: 'bulkhead.local/busybox:latest',
      resources: { memory: '128Mi', disk: '1Gi' },
      terminationGracePeriodSeconds: 1,
      ...scheduling,
      ...more,
    },
  });
}

const ready = (name: string) =>
  cluster.ask('wait', '--for=condition=Ready', `sandbox/${name}`, '--timeout=180s');
const nodeOf = (name: string) => field(cluster, `sandbox ${name}`, '.status.nodeName');
const unpin = (name: string) =>
  cluster.ask('patch', 'sandbox', name, '--type=merge', '-p', '{"spec":{"scheduling":null}}');

/** kubectl with a token of one of Bulkhead's service accounts alone, as somebody has it who took it. */
async function withTokenOf(account: string, ...bound: string[]) {
  const token = await cluster.ask('-n', SYSTEM, 'create', 'token', account, ...bound);
  // Not with the kubeconfig of an administrator, whose certificate would come first.
  const server = ['--kubeconfig', '/dev/null', '--server', `https://127.0.0.1:${PORT}`];
  return (...args: string[]) =>
    cluster.kubectl([...server, '--insecure-skip-tls-verify', '--token', token.trim(), ...args]);
}

/** Directories of sandboxes on a node. */
async function kept(node: number): Promise<string[]> {
  const { stdout } = await cluster.inNode(node, 'ls', '/var/lib/bulkhead/sandboxes');
  return stdout.split('\n').filter((name) => name !== '');
}

describe('two nodes', { concurrency: false }, () => {
  it('place a sandbox where its spec wants it', async () => {
    await cluster.ask('create', 'secret', 'generic', 'keys', '--from-literal=value=first');
    await cluster.ask('create', 'secret', 'generic', 'others', '--from-literal=value=theirs');
    const files = {
      volumes: [{ name: 'keys', secret: { name: 'keys' } }],
      volumeMounts: [{ name: 'keys', mountPath: '/keys' }],
    };
    await cluster.apply(sandbox('mover', 'node1', files));
    await ready('mover');
    assert.equal(await nodeOf('mover'), 'node1');
  });

  it('bring a changed Secret to a sandbox that runs', async () => {
    const value = JSON.stringify({ stringData: { value: 'second' } });
    await cluster.ask('patch', 'secret', 'keys', '--type=merge', '-p', value);
    const { code, stderr } = await onNode(
      cluster,
      1,
      ...['exec', 'mover', '--', 'timeout', '20', 'sh', '-c'],
      'until grep -qx second /keys/value; do sleep 0.1; done',
    );
    assert.equal(code, 0, stderr);
  });

  it("refuse an agent's credentials what belongs to another node", async () => {
    const agent = await cluster.ask(
      ...['-n', SYSTEM, 'get', 'pods', '-l', 'app.kubernetes.io/component=node'],
      ...['--field-selector', 'spec.nodeName=node0', '-o', 'jsonpath={.items[0].metadata.name}'],
    );
    const asAgent = await withTokenOf(
      'bulkhead-node',
      '--bound-object-kind',
      'Pod',
      '--bound-object-name',
      agent,
    );
    for (const asked of [
      ['label', 'sandbox', 'mover', 'x=y'],
      ['label', 'node', 'node1', 'x=y'],
      ['-n', SYSTEM, 'create', 'token', 'node-node1'],
      ['-n', SYSTEM, 'create', 'token', 'bulkhead-controller'],
    ])
      assert.match((await asAgent(...asked)).stderr, /an agent may change only what belongs to its own node/);
    for (const asked of [
      ['get', 'secrets', '-A'],
      ['get', 'secret', 'keys'],
      ['create', 'configmap', 'x'],
    ])
      assert.match((await asAgent(...asked)).stderr, /forbidden/i);
  });

  it('refuse an agent to give its sandboxes other references', async () => {
    const agent = await cluster.ask(
      ...['-n', SYSTEM, 'get', 'pods', '-l', 'app.kubernetes.io/component=node'],
      ...['--field-selector', 'spec.nodeName=node1', '-o', 'jsonpath={.items[0].metadata.name}'],
    );
    const asAgent = await withTokenOf(
      'bulkhead-node',
      '--bound-object-kind',
      'Pod',
      '--bound-object-name',
      agent,
    );
    const reference = JSON.stringify({ spec: { imagePullSecrets: [{ name: 'others' }] } });
    const referred = await asAgent('patch', 'sandbox', 'mover', '--type=merge', '-p', reference);
    assert.match(referred.stderr, /an agent may not change what a sandbox refers to/);
    const labelled = await asAgent('label', 'sandbox', 'mover', 'x=y');
    assert.match(labelled.stderr, /an agent may not change what a sandbox refers to/);
  });

  it('let a node read what its sandboxes refer to, and nothing else', async () => {
    const asNode = await withTokenOf('node-node1');
    const read = (name: string) =>
      asNode('get', 'secrets', '--field-selector', `metadata.name=${name}`, '-o', 'name');
    assert.equal((await read('keys')).stdout.trim(), 'secret/keys');
    assert.match((await read('others')).stderr, /forbidden/i);
    assert.match((await asNode('get', 'secrets')).stderr, /forbidden/i);
    assert.match((await asNode('get', 'sandboxes')).stderr, /forbidden/i);
  });

  it('move a sandbox off a node that is drained, whose VM has ended when the drain returns', async () => {
    await unpin('mover');
    const uid = await field(cluster, 'sandbox mover', '.metadata.uid');
    const drained = await cluster.kubectl([
      'drain',
      'node1',
      '--ignore-daemonsets',
      '--force',
      '--timeout=120s',
    ]);
    assert.equal(drained.code, 0, drained.stderr);
    assert.ok(!(await kept(1)).includes(uid), 'nothing of it is left there');
    await ready('mover');
    assert.equal(await nodeOf('mover'), 'node0');
    const { code, stdout, stderr } = await onNode(cluster, 0, 'exec', 'mover', '--', 'cat', '/keys/value');
    assert.deepEqual([code, stdout], [0, 'second'], stderr);
    const asFormer = await withTokenOf('node-node1');
    const { stderr: refused } = await asFormer('get', 'secrets', '--field-selector', 'metadata.name=keys');
    assert.match(refused, /forbidden/i);
    await cluster.ask('uncordon', 'node1');
    // The nodes share the machine's two processors, of which each sandbox asks for one.
    await cluster.ask('delete', 'sandbox', 'mover', '--timeout=60s');
  });

  it('keep a sandbox for a node that died, until the cluster says that it is gone', async () => {
    await cluster.apply(sandbox('stranded', 'node1'));
    await ready('stranded');
    await unpin('stranded');
    process.kill(await cluster.nodePid(1), 'SIGKILL');
    await cluster.ask(
      ...['wait', '--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=NodeLost'],
      ...['sandbox/stranded', '--timeout=120s'],
    );
    assert.equal(await nodeOf('stranded'), 'node1');
    await cluster.ask('delete', 'node', 'node1', '--wait=false');
    await cluster.ask(
      ...['wait', '--for=jsonpath={.status.nodeName}=node0', 'sandbox/stranded', '--timeout=120s'],
    );
    await ready('stranded');
  });
});
