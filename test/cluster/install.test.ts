// From nothing to a running sandbox in a real cluster, as its users go: helm install, kubectl apply, and what follows.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { clusterProgram, command, TestCluster } from './cluster.ts';

const PORT = 21_444;
const PROJECT = resolve(import.meta.dirname, '..', '..');
const CHART = join(PROJECT, 'helm', 'bulkhead');
const SYSTEM = 'bulkhead-system';

const VALUES = [
  'image.pullPolicy=Never',
  'reservationImage=localhost/pause:1',
  'node.driver=software',
  'controller.replicas=2',
];

let cluster: TestCluster;
let scratch: string;

function helm(...args: string[]) {
  return command(clusterProgram('helm'), ['--kubeconfig', cluster.kubeconfig, '-n', SYSTEM, ...args]);
}

async function helmOk(...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await helm(...args);
  assert.equal(code, 0, `helm ${args.join(' ')}: ${stdout}${stderr}`);
}

const sets = (values: readonly string[]): string[] => values.flatMap((value) => ['--set', value]);

async function manifest(name: string): Promise<void> {
  await cluster.ask('apply', '-f', join(PROJECT, 'manifests', name));
}

async function field(resource: string, path: string): Promise<string> {
  return cluster.ask('get', ...resource.split(' '), '-o', `jsonpath={${path}}`);
}

/** The command line as somebody on node0 has it, who talks to the node's agent. */
function onNode(...args: string[]) {
  const [name = '', ...rest] = args;
  const socket = ['--socket', '/var/lib/bulkhead/bulkhead.sock'];
  return cluster.inNode(0, join(PROJECT, 'bin', 'bulkhead'), name, ...socket, ...rest);
}

async function loadImage(): Promise<void> {
  const archive = join(scratch, 'busybox.tar');
  execFileSync(process.execPath, [join(PROJECT, 'tools', 'builtin-image.ts'), archive]);
  const load = 'exec "$0" image load --socket /var/lib/bulkhead/bulkhead.sock - <"$1"';
  const { code, stderr } = await cluster.inNode(
    0,
    'sh',
    '-c',
    load,
    join(PROJECT, 'bin', 'bulkhead'),
    archive,
  );
  assert.equal(code, 0, stderr);
}

async function rolledOut(): Promise<void> {
  await cluster.ask('-n', SYSTEM, 'rollout', 'status', 'daemonset/bulkhead-node', '--timeout=120s');
}

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'bulkhead-install-'));
  cluster = await TestCluster.start({ port: PORT, images: [join(PROJECT, 'build/cluster/bulkhead.tar')] });
});

after(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

describe('a cluster', { concurrency: false }, () => {
  it('takes the chart', async () => {
    await helmOk('lint', CHART);
    await helmOk(
      'install',
      'bulkhead',
      CHART,
      '--create-namespace',
      '--wait',
      '--timeout',
      '3m',
      ...sets(VALUES),
    );
    // Helm is content with a DaemonSet that has as many Pods as it may lack.
    await rolledOut();
    await loadImage();
  });

  it('runs a sandbox that kubectl applied, placed by the scheduler', async () => {
    await manifest('idle.yaml');
    await cluster.ask('wait', '--for=condition=Ready', 'sandbox/idle', '--timeout=180s');
    assert.equal(await field('sandbox idle', '.status.nodeName'), 'node0');
    assert.equal(await field('sandbox idle', '.status.vm.driver'), 'software');
    const reservation = await field('sandbox idle', '.status.reservation');
    assert.equal(await field(`pod ${reservation}`, '.spec.nodeName'), 'node0');
    assert.equal(await field(`pod ${reservation}`, '.status.qosClass'), 'Guaranteed');
    const wide = await cluster.ask('get', 'sandboxes', '-o', 'wide');
    assert.match(wide, /READY\s+STATUS\s+IMAGE\s+NODE\s+AGE/);
    assert.match(wide, /idle\s+True\s+Running\s+bulkhead\.local\/busybox:latest\s+node0/);
    const { code, stdout, stderr } = await onNode('exec', 'idle', '--', 'uname', '-n');
    assert.deepEqual([code, stdout.trim()], [0, 'idle'], stderr);
  });

  it('explains the fields, and refuses what is wrong with the words of the schema', async () => {
    assert.match(await cluster.ask('explain', 'sandbox.spec.image'), /OCI/);
    const wrong = await cluster.kubectl(
      ['apply', '--dry-run=server', '-f', '-'],
      JSON.stringify({
        apiVersion: 'bulkhead.dev/v1alpha1',
        kind: 'Sandbox',
        metadata: { name: 'wrong' },
        spec: { image: 'busybox', operatingMode: 'Sleeping' },
      }),
    );
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /spec\.operatingMode/);
  });

  it('tells what happened as events, and describes', async () => {
    assert.match(await cluster.ask('events', '--for', 'sandbox/idle'), /Scheduled/);
    assert.match(await cluster.ask('describe', 'sandbox', 'idle'), /Placed on node0/);
  });

  it('keeps the VM when the agent is replaced', async () => {
    const pid = await field('sandbox idle', '.status.vm.pid');
    await cluster.ask('-n', SYSTEM, 'rollout', 'restart', 'daemonset/bulkhead-node');
    await rolledOut();
    await cluster.ask('wait', '--for=condition=AgentConnected', 'sandbox/idle', '--timeout=60s');
    const { code, stderr } = await onNode('exec', 'idle', '--', 'true');
    assert.equal(code, 0, stderr);
    assert.equal(await field('sandbox idle', '.status.vm.pid'), pid);
    assert.equal(await field('sandbox idle', '.status.restarts'), '0');
  });

  it('stops and places a sandbox anew whose reservation is evicted', async () => {
    const reservation = await field('sandbox idle', '.status.reservation');
    const uid = await field(`pod ${reservation}`, '.metadata.uid');
    // Returns when the Pod is gone, which is when the VM has ended.
    await cluster.ask('delete', 'pod', reservation, '--timeout=60s');
    await cluster.ask('wait', '--for=condition=Ready', 'sandbox/idle', '--timeout=120s');
    assert.notEqual(
      await field(`pod ${await field('sandbox idle', '.status.reservation')}`, '.metadata.uid'),
      uid,
    );
    assert.match(await cluster.ask('events', '--for', 'sandbox/idle'), /ReservationDeleted/);
  });

  it('says why a sandbox has no place', async () => {
    await cluster.apply(
      JSON.stringify({
        apiVersion: 'bulkhead.dev/v1alpha1',
        kind: 'Sandbox',
        metadata: { name: 'large' },
        spec: { image: 'bulkhead.local/busybox:latest', resources: { memory: '512Gi' } },
      }),
    );
    await cluster.ask(
      'wait',
      '--for=jsonpath={.status.conditions[?(@.type=="Scheduled")].reason}=Unschedulable',
      'sandbox/large',
      '--timeout=60s',
    );
    const message = await field('sandbox large', '.status.conditions[?(@.type=="Scheduled")].message');
    assert.match(message, /Insufficient memory/);
    await cluster.ask('delete', 'sandbox', 'large', '--timeout=30s');
  });

  it('leaves nothing of a sandbox that is deleted', async () => {
    await cluster.ask('delete', 'sandbox', 'idle', '--timeout=60s');
    await cluster.ask('wait', '--for=delete', 'pod', '--all', '--timeout=60s');
    const { stdout } = await cluster.inNode(0, 'pgrep', '-c', 'qemu-system');
    const templates = Number(stdout.trim());
    const state = await cluster.inNode(0, 'ls', '/var/lib/bulkhead/sandboxes');
    assert.equal(state.stdout.trim(), '', `a directory is left; ${templates} QEMU processes`);
  });

  it('goes with the chart, but for the objects that people made', async () => {
    await helmOk('uninstall', 'bulkhead', '--wait', '--timeout', '2m');
    const left = await cluster.ask(
      'get',
      'all,roles,rolebindings,serviceaccounts',
      '-n',
      SYSTEM,
      '-o',
      'name',
    );
    assert.deepEqual(
      left.split('\n').filter((name) => name !== '' && name !== 'serviceaccount/default'),
      [],
    );
    assert.match(await cluster.ask('get', 'crd', '-o', 'name'), /sandboxes\.bulkhead\.dev/);
  });
});
