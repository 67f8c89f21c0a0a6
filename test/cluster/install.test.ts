// From nothing to a running sandbox in a real cluster, as its users go: helm install, kubectl apply, and what follows.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
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
import { ClusterPrometheus } from './cluster-prometheus.ts';
import { healthOf } from './health.ts';

const PORT = 21_444;

let cluster: TestCluster;

interface EndpointSlice {
  metadata: { name: string; labels: Record<string, string> };
  endpoints: { conditions: { ready: boolean } }[];
}

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
    const optional = ['tlsSecret=some', 'serviceMonitor.enabled=true', 'prometheusRule.enabled=true'];
    const settings = ['enabled=true', 'dashboards.enabled=true', ...optional].flatMap((value) => [
      '--set',
      `metrics.${value}`,
    ]);
    await helm(cluster, 'lint', CHART, ...settings);
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

  it('serves metrics to a Prometheus whose account may get them, and to nobody else', async () => {
    await using prometheus = await ClusterPrometheus.start(cluster);
    const { scraper, stranger } = prometheus.tokens;
    for (const target of prometheus.targets) {
      const codes = [];
      for (const token of ['', 'invented', stranger]) codes.push((await prometheus.get(target, token)).code);
      assert.deepEqual(codes, [401, 401, 403], target);
      const { code, text } = await prometheus.get(target, scraper);
      assert.equal(code, 200, target);
      assert.equal(execFileSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' }), '');
    }
    // Two controllers, of which one leads, and the agent.
    await prometheus.until('sum(up{job="bulkhead"})', 3);
    await prometheus.until('sum(leader_election_master_status)', 1);
    await prometheus.until(
      'sandbox_status_phase{namespace="default",name="idle",node="node0",phase="Running"}',
      1,
    );
    await prometheus.until(
      'sum(controller_runtime_reconcile_total{controller="placement",result="success"}) > bool 0',
      1,
    );
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

  it('leaves nothing of a sandbox that is deleted', async () => {
    await cluster.ask('delete', 'sandbox', 'idle', '--timeout=60s');
    await cluster.ask('wait', '--for=delete', 'pod', '--all', '--timeout=60s');
    const { stdout } = await cluster.inNode(0, 'pgrep', '-c', 'qemu-system');
    const templates = Number(stdout.trim());
    const state = await cluster.inNode(0, 'ls', '/var/lib/bulkhead/sandboxes');
    assert.equal(state.stdout.trim(), '', `a directory is left; ${templates} QEMU processes`);
  });

  it('is reached by a Service once its probe passes', async () => {
    const serve = 'mkdir /www && echo served >/www/index.html && exec httpd -f -p 8000 -h /www';
    const web = JSON.parse(
      sandbox('web', {
        image: 'bulkhead.local/busybox:latest',
        resources: { memory: '128Mi', disk: '1Gi' },
        terminationGracePeriodSeconds: 1,
        main: { command: ['sh', '-c', serve] },
        ports: [{ name: 'http', port: 8000, hostIP: '0.0.0.0' }],
        readinessProbe: { exec: { command: ['test', '-e', '/tmp/ready'] }, periodSeconds: 1 },
      }),
    );
    web.metadata.labels = { app: 'web' };
    const annotations = { 'bulkhead.dev/sandbox-selector': 'app=web' };
    const service = (name: string, more: object) => ({
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { name, annotations } },
      spec: { ports: [{ port: 80, targetPort: 'http' }], ...more },
    });
    const items = [web, service('web', {}), service('headless', { clusterIP: 'None' })];
    using seen = cluster.watch('/apis/discovery.k8s.io/v1/namespaces/default/endpointslices');
    const states = () =>
      seen.versions.flatMap((slice) => {
        const { metadata, endpoints } = slice as EndpointSlice;
        return metadata.labels['kubernetes.io/service-name'] === 'web'
          ? endpoints.map(({ conditions }) => conditions.ready)
          : [];
      });
    await cluster.apply(JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
    await seen.until(() => states().at(-1) === false, 120_000);
    const { code, stderr } = await onNode(cluster, 0, 'exec', 'web', '--', 'touch', '/tmp/ready');
    assert.equal(code, 0, stderr);
    await seen.until(() => states().at(-1) === true, 30_000);
    const address = await field(cluster, 'service web', '.spec.clusterIP');
    // The cluster's proxy learns of it a moment later.
    const fetch = `curl -sS --max-time 5 --retry 20 --retry-connrefused --retry-delay 1 http://${address}/`;
    const fetched = await cluster.inNode(0, 'sh', '-c', fetch);
    assert.equal(fetched.stdout, 'served\n', fetched.stderr);
    const headless = ['-l', 'kubernetes.io/service-name=headless', '-o', 'yaml'];
    const named = await cluster.ask('get', 'endpointslices', ...headless);
    assert.match(named, /hostname: web/);
    await cluster.ask('delete', 'sandbox', 'web', '--timeout=60s');
    await seen.until(() => seen.gone.size === 2, 30_000);
    await cluster.ask('delete', 'service', 'web', 'headless');
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

  it('says that a quota has no room for a sandbox, and places it when there is some', async () => {
    await cluster.ask('create', 'namespace', 'tight');
    await cluster.ask('-n', 'tight', 'create', 'quota', 'small', '--hard=requests.memory=128Mi');
    const spec = { image: 'bulkhead.local/busybox:latest', resources: { memory: '128Mi' } };
    const applied = await cluster.kubectl(['-n', 'tight', 'apply', '-f', '-'], sandbox('refused', spec));
    assert.equal(applied.code, 0, applied.stderr);
    const scheduled = (reason: string) =>
      cluster.ask(
        ...['-n', 'tight', 'wait', 'sandbox/refused', '--timeout=90s'],
        `--for=jsonpath={.status.conditions[?(@.type=="Scheduled")].reason}=${reason}`,
      );
    await scheduled('QuotaExceeded');
    const message = '{.status.conditions[?(@.type=="Ready")].message}';
    const told = await cluster.ask('-n', 'tight', 'get', 'sandbox', 'refused', '-o', `jsonpath=${message}`);
    assert.match(told, /exceeded quota: small, requested: requests\.memory=192Mi, used: requests\.memory=0/);
    await cluster.ask('-n', 'tight', 'delete', 'quota', 'small');
    await scheduled('Scheduled');
    await cluster.ask('delete', 'namespace', 'tight', '--timeout=60s');
  });

  it('gives way to a sandbox of a higher priority, and says so', async () => {
    const cpus = Math.floor(Number(await field(cluster, 'node node0', '.status.allocatable.cpu'))) - 1;
    await cluster.ask('create', 'priorityclass', 'urgent', '--value=1000');
    const spec = {
      image: 'bulkhead.local/busybox:latest',
      resources: { memory: '128Mi', disk: '1Gi', cpus },
      terminationGracePeriodSeconds: 1,
    };
    await cluster.apply(sandbox('patient', spec));
    const isPlaced = '--for=jsonpath={.status.nodeName}=node0';
    await cluster.ask('wait', isPlaced, 'sandbox/patient', '--timeout=60s');
    await cluster.apply(sandbox('urgent', { ...spec, scheduling: { priorityClassName: 'urgent' } }));
    await cluster.ask('wait', isPlaced, 'sandbox/urgent', '--timeout=90s');
    assert.match(await cluster.ask('events', '--for', 'sandbox/patient'), /PreemptionByScheduler.*preempt/i);
    await cluster.ask(
      ...['wait', '--for=jsonpath={.status.conditions[?(@.type=="Scheduled")].reason}=Unschedulable'],
      ...['sandbox/patient', '--timeout=60s'],
    );
    await cluster.ask('delete', 'sandbox', 'patient', 'urgent', '--timeout=60s');
  });

  it('is judged rightly by kstatus, Argo CD and Flux over the whole life of sandboxes', async () => {
    using seen = cluster.watch('/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes');
    const image = 'bulkhead.local/busybox:latest';
    const resources = { memory: '128Mi', disk: '1Gi' };
    await cluster.apply(sandbox('broken', { image: 'nowhere.invalid/none:1', imagePullPolicy: 'Never' }));
    await cluster.ask('wait', '--for=condition=Stalled', 'sandbox/broken', '--timeout=60s');
    await cluster.ask('delete', 'sandbox', 'broken', '--timeout=60s');
    await cluster.apply(sandbox('life', { image, resources, terminationGracePeriodSeconds: 1 }));
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
    // Whether a status is still written between the deletion and the end of what failed is a matter of moments.
    const broken = (await lifeOf('broken'))
      .filter((told) => told !== 'Terminating Degraded Failed')
      .filter((told, at, all) => told !== all[at - 1]);
    assert.deepEqual(broken, [
      'InProgress Progressing InProgress',
      'Failed Degraded Failed',
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
