// From nothing to a running sandbox in a real cluster, as its users go: helm install, kubectl apply, and what follows.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  CHART,
  field,
  helm,
  install,
  onNode,
  PROJECT,
  rolledOut,
  SYSTEM,
  startCluster,
} from './bulkhead-cluster.ts';
import type { TestCluster } from './cluster.ts';
import { healthOf } from './health.ts';

const PORT = 21_444;

let cluster: TestCluster;

function sandbox(name: string, spec: Record<string, unknown>): string {
  return JSON.stringify({ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox', metadata: { name }, spec });
}

before(async () => {
  cluster = await startCluster({ port: PORT });
});

after(() => cluster?.[Symbol.asyncDispose]());

describe('a cluster', { concurrency: false }, () => {
  it('takes the chart', async () => {
    await helm(cluster, 'lint', CHART);
    await install(cluster);
  });

  it('runs a sandbox that kubectl applied, placed by the scheduler', async () => {
    await cluster.ask('apply', '-f', join(PROJECT, 'manifests', 'idle.yaml'));
    await cluster.ask('wait', '--for=condition=Ready', 'sandbox/idle', '--timeout=180s');
    assert.equal(await field(cluster, 'sandbox idle', '.status.nodeName'), 'node0');
    assert.equal(await field(cluster, 'sandbox idle', '.status.vm.driver'), 'software');
    const reservation = await field(cluster, 'sandbox idle', '.status.reservation');
    assert.equal(await field(cluster, `pod ${reservation}`, '.spec.nodeName'), 'node0');
    assert.equal(await field(cluster, `pod ${reservation}`, '.status.qosClass'), 'Guaranteed');
    const wide = await cluster.ask('get', 'sandboxes', '-o', 'wide');
    assert.match(wide, /READY\s+STATUS\s+IMAGE\s+NODE\s+AGE/);
    assert.match(wide, /idle\s+True\s+Running\s+bulkhead\.local\/busybox:latest\s+node0/);
    const { code, stdout, stderr } = await onNode(cluster, 0, 'exec', 'idle', '--', 'uname', '-n');
    assert.deepEqual([code, stdout.trim()], [0, 'idle'], stderr);
  });

  it('explains the fields, and refuses what is wrong with the words of the schema', async () => {
    assert.match(await cluster.ask('explain', 'sandbox.spec.image'), /OCI/);
    const wrong = await cluster.kubectl(
      ['apply', '--dry-run=server', '-f', '-'],
      sandbox('wrong', { image: 'busybox', operatingMode: 'Sleeping' }),
    );
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /spec\.operatingMode/);
  });

  it('tells what happened as events, and describes', async () => {
    assert.match(await cluster.ask('events', '--for', 'sandbox/idle'), /Scheduled/);
    assert.match(await cluster.ask('describe', 'sandbox', 'idle'), /Placed on node0/);
  });

  it('keeps the VM when the agent is replaced', async () => {
    const pid = await field(cluster, 'sandbox idle', '.status.vm.pid');
    await cluster.ask('-n', SYSTEM, 'rollout', 'restart', 'daemonset/bulkhead-node');
    await rolledOut(cluster);
    await cluster.ask('wait', '--for=condition=AgentConnected', 'sandbox/idle', '--timeout=60s');
    const { code, stderr } = await onNode(cluster, 0, 'exec', 'idle', '--', 'true');
    assert.equal(code, 0, stderr);
    assert.equal(await field(cluster, 'sandbox idle', '.status.vm.pid'), pid);
    assert.equal(await field(cluster, 'sandbox idle', '.status.restarts'), '0');
  });

  it('stops and places a sandbox anew whose reservation is evicted', async () => {
    const reservation = await field(cluster, 'sandbox idle', '.status.reservation');
    const uid = await field(cluster, `pod ${reservation}`, '.metadata.uid');
    // Returns when the Pod is gone, which is when the VM has ended.
    await cluster.ask('delete', 'pod', reservation, '--timeout=60s');
    await cluster.ask('wait', '--for=condition=Ready', 'sandbox/idle', '--timeout=120s');
    assert.notEqual(
      await field(
        cluster,
        `pod ${await field(cluster, 'sandbox idle', '.status.reservation')}`,
        '.metadata.uid',
      ),
      uid,
    );
    assert.match(await cluster.ask('events', '--for', 'sandbox/idle'), /ReservationDeleted/);
  });

  it('says why a sandbox has no place', async () => {
    await cluster.apply(
      sandbox('large', { image: 'bulkhead.local/busybox:latest', resources: { memory: '512Gi' } }),
    );
    await cluster.ask(
      'wait',
      '--for=jsonpath={.status.conditions[?(@.type=="Scheduled")].reason}=Unschedulable',
      'sandbox/large',
      '--timeout=60s',
    );
    const message = await field(
      cluster,
      'sandbox large',
      '.status.conditions[?(@.type=="Scheduled")].message',
    );
    assert.match(message, /Insufficient memory/);
    await cluster.ask('delete', 'sandbox', 'large', '--timeout=30s');
  });

  it('is judged rightly by kstatus, Argo CD and Flux over the whole life of sandboxes', async () => {
    using seen = cluster.watch('/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes');
    const image = 'bulkhead.local/busybox:latest';
    const resources = { memory: '128Mi', disk: '1Gi' };
    await cluster.apply(sandbox('life', { image, resources, terminationGracePeriodSeconds: 1 }));
    await cluster.apply(sandbox('broken', { image: 'nowhere.invalid/none:1', imagePullPolicy: 'Never' }));
    await cluster.ask('wait', '--for=condition=Stalled', 'sandbox/broken', '--timeout=60s');
    await cluster.ask('delete', 'sandbox', 'broken', '--timeout=60s');
    await cluster.ask('wait', '--for=condition=Ready', 'sandbox/life', '--timeout=180s');
    for (const [mode, condition] of [
      ['Suspended', 'Suspended'],
      ['Running', 'Ready'],
    ]) {
      await cluster.ask(
        'patch',
        'sandbox',
        'life',
        '--type=merge',
        '-p',
        `{"spec":{"operatingMode":"${mode}"}}`,
      );
      await cluster.ask('wait', `--for=condition=${condition}`, 'sandbox/life', '--timeout=60s');
    }
    await cluster.ask('delete', 'sandbox', 'life', '--timeout=60s');
    await seen.until(() => seen.gone.has('life') && seen.gone.has('broken'), 10_000);

    const lifeOf = async (name: string) => {
      const versions = seen.versions.filter(({ metadata }) => metadata.name === name);
      const told = (await healthOf(versions)).map(({ kstatus, argo, flux }) => `${kstatus} ${argo} ${flux}`);
      return told.filter((each, at) => each !== told[at - 1]);
    };
    assert.deepEqual(await lifeOf('broken'), [
      'InProgress Progressing InProgress',
      'Failed Degraded Failed',
      'Terminating Degraded Failed',
      'Terminating Progressing InProgress',
    ]);
    assert.deepEqual(await lifeOf('life'), [
      'InProgress Progressing InProgress',
      'Current Healthy Current',
      'InProgress Progressing InProgress',
      'InProgress Suspended Current',
      'InProgress Progressing InProgress',
      'Current Healthy Current',
      'Terminating Progressing InProgress',
    ]);
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
    await helm(cluster, 'uninstall', 'bulkhead', '--wait', '--timeout', '2m');
    await cluster.ask('-n', SYSTEM, 'wait', '--for=delete', 'pod', '--all', '--timeout=60s');
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
