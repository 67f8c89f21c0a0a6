import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { REASONS, SANDBOX_CONDITIONS } from '../api/conditions.ts';
import { ERRORS } from '../api/errors.ts';
import { Controller } from '../controller/controller.ts';
import { silentLog } from '../controller/log.ts';
import type { Outcome } from '../controller/reconciler.ts';
import { FakeClock } from '../controller/testing/fake-clock.ts';
import { ControllerMetricsRecorder, QueueMetricsRecorder } from './controller-metrics.ts';
import { METRICS, type MetricDefinition } from './definitions.ts';
import { metricsPage } from './document.ts';
import { collectImageCache, collectSource, reportBuild, type SourceFigures } from './host-collectors.ts';
import { LifecycleMetrics } from './lifecycle-metrics.ts';
import { collectNode } from './node-collector.ts';
import { OTHER, reasonLabel } from './reasons.ts';
import { Metrics } from './registry.ts';
import {
  collectSandboxes,
  MAX_SERIES_PER_SANDBOX,
  MAX_SERIES_PER_SANDBOX_IN_DETAIL,
  type SandboxFigures,
} from './sandbox-collector.ts';

/** An exemplar. */
const OF_APPLE = { namespace: 'default', name: 'apple' };

/** The scrape's series, without comments. */
async function series(metrics: Metrics, prefix = ''): Promise<string[]> {
  const text = await metrics.scrape();
  return text.split('\n').filter((line) => line.startsWith(prefix) && line !== '' && !line.startsWith('#'));
}

/** A sandbox about which everything is known that can be. */
function fullFigures(name: string): SandboxFigures {
  return {
    namespace: 'default',
    name,
    node: 'n1',
    image: 'busybox',
    driver: 'software',
    phase: 'Running',
    conditions: Object.keys(SANDBOX_CONDITIONS).map((type) => ({ type, status: 'True' })),
    restarts: 2,
    vm: {
      cpuSeconds: 1.5,
      memoryBytes: 1000,
      memoryLimitBytes: 2000,
      diskReadBytes: 3,
      diskWriteBytes: 4,
      networkReceiveBytes: 5,
      networkTransmitBytes: 6,
      networkReceivePackets: 7,
      networkTransmitPackets: 8,
    },
    vmStartSeconds: 1_700_000_000,
    egress: {
      denied: 9,
      decisions: { 'Flow/Allowed': 4, 'Flow/Denied': 9, 'DNS/Answered': 2 },
      connections: 1,
    },
    guest: {
      memoryUsedBytes: 500,
      memoryAvailableBytes: 400,
      fileSystem: { usedBytes: 30, limitBytes: 90, inodesUsed: 5, inodes: 10 },
      detail: {
        cpuSeconds: { user: 1, system: 2, idle: 3, iowait: 4, steal: 5 },
        memoryCachedBytes: 50,
        pressure: { cpu: 0.5, memory: 0, io: 1 },
        load: { '1m': 0.1, '5m': 0.2, '15m': 0.3 },
        processes: 7,
        uptimeSeconds: 60,
      },
    },
  };
}

const DEFINITIONS: [string, MetricDefinition][] = Object.entries(METRICS);

for (const [name, { type, labels, help, buckets }] of DEFINITIONS) {
  test(`${name} follows Prometheus' conventions`, () => {
    assert.match(name, /^[a-z][a-z0-9_]*$/);
    assert.equal(name.endsWith('_total'), type === 'counter', 'counters, and only they, end in _total');
    assert.doesNotMatch(name, /_(ms|milliseconds|kb|mb|kib|mib)(_|$)/, 'base units');
    if (type === 'histogram') assert.match(name, /_seconds$/);
    assert.equal(buckets !== undefined, type === 'histogram');
    assert.deepEqual(
      buckets?.toSorted((a, b) => a - b),
      buckets,
    );
    const unbounded = ['uid', 'command', 'error', 'message', 'host'];
    // As Kubernetes' own clients name it; there is one API server.
    const bounded = name === 'rest_client_requests_total' ? ['host'] : [];
    for (const label of labels) assert.ok(!unbounded.includes(label) || bounded.includes(label), label);
    assert.match(help, /^[A-Z].*\.$/s);
  });
}

test('per-sandbox series are named by namespace, name and node', () => {
  for (const [name, { labels }] of DEFINITIONS) {
    if (!labels.includes('namespace')) continue;
    assert.deepEqual(labels.slice(0, 3), ['namespace', 'name', 'node'], name);
  }
});

test('VMs that stand still are counted by reason, and no longer once they go on', async () => {
  const metrics = new Metrics();
  let stalledFor: string | undefined = 'DiskFull';
  collectSandboxes(metrics, () => [
    { ...fullFigures('a'), ...(stalledFor === undefined ? {} : { stalledFor }) },
    { ...fullFigures('b'), stalledFor: 'DiskFull' },
    fullFigures('c'),
  ]);
  assert.deepEqual(await series(metrics, 'sandbox_vms_stalled'), [
    'sandbox_vms_stalled{reason="DiskFull"} 2',
  ]);
  stalledFor = undefined;
  assert.deepEqual(await series(metrics, 'sandbox_vms_stalled'), [
    'sandbox_vms_stalled{reason="DiskFull"} 1',
  ]);
});

test('a sandbox has its figures, in at most 25 series', async () => {
  const metrics = new Metrics();
  collectSandboxes(metrics, () => [fullFigures('apple')]);
  const own = await series(metrics, 'sandbox_');
  const ofApple = own.filter((line) => line.includes('name="apple"'));
  assert.ok(ofApple.length <= MAX_SERIES_PER_SANDBOX, `${ofApple.length} series`);
  const labels = '{namespace="default",name="apple",node="n1"}';
  for (const line of [
    `sandbox_cpu_usage_seconds_total${labels} 1.5`,
    `sandbox_memory_resident_bytes${labels} 1000`,
    `sandbox_memory_limit_bytes${labels} 2000`,
    `sandbox_memory_guest_used_bytes${labels} 500`,
    `sandbox_memory_guest_available_bytes${labels} 400`,
    `sandbox_fs_guest_used_bytes${labels} 30`,
    `sandbox_fs_guest_limit_bytes${labels} 90`,
    `sandbox_vm_start_time_seconds${labels} 1700000000`,
    `sandbox_fs_reads_bytes_total${labels} 3`,
    `sandbox_fs_writes_bytes_total${labels} 4`,
    `sandbox_network_receive_bytes_total${labels} 5`,
    `sandbox_network_transmit_bytes_total${labels} 6`,
    `sandbox_network_receive_packets_total${labels} 7`,
    `sandbox_network_transmit_packets_total${labels} 8`,
    `sandbox_restarts_total${labels} 2`,
    `sandbox_egress_denied_total${labels} 9`,
    'sandbox_info{namespace="default",name="apple",node="n1",image="busybox",driver="software"} 1',
    'sandbox_status_phase{namespace="default",name="apple",node="n1",phase="Running"} 1',
    'sandbox_status_condition{namespace="default",name="apple",node="n1",condition="Ready",status="true"} 1',
  ]) {
    assert.ok(ofApple.includes(line), line);
  }
});

test('with detail a sandbox has every condition and all that its guest tells, in at most 65 series', async () => {
  const metrics = new Metrics();
  collectSandboxes(metrics, () => [fullFigures('apple')], { detail: true });
  const own = await series(metrics, 'sandbox_');
  const ofApple = own.filter((line) => line.includes('name="apple"'));
  assert.ok(ofApple.length <= MAX_SERIES_PER_SANDBOX_IN_DETAIL, `${ofApple.length} series`);
  const names = new Set(ofApple.map((line) => line.slice(0, line.indexOf('{'))));
  const defined = DEFINITIONS.filter(
    ([name, { labels }]) => name.startsWith('sandbox_') && labels.length > 2,
  );
  assert.deepEqual([...names].sort(), defined.map(([name]) => name).sort());
  const labels = '{namespace="default",name="apple",node="n1"';
  for (const line of [
    `sandbox_cpu_guest_seconds_total${labels},mode="steal"} 5`,
    `sandbox_pressure_guest_ratio${labels},resource="cpu"} 0.5`,
    `sandbox_load_guest${labels},period="15m"} 0.3`,
    `sandbox_status_condition${labels},condition="Suspended",status="true"} 1`,
  ]) {
    assert.ok(ofApple.includes(line), line);
  }
});

test('what every sandbox that runs has is told only where it is missing, or in detail', async () => {
  const told = async (status: 'True' | 'False', detail: boolean) => {
    const metrics = new Metrics();
    const conditions = ['ImageReady', 'VolumesReady', 'AgentConnected'].map((type) => ({ type, status }));
    collectSandboxes(metrics, () => [{ ...fullFigures('apple'), conditions }], { detail });
    return (await series(metrics, 'sandbox_status_condition')).map(
      (line) => /condition="(\w+)"/.exec(line)?.[1],
    );
  };
  assert.deepEqual(await told('True', false), ['AgentConnected']);
  assert.deepEqual(await told('False', false), ['ImageReady', 'VolumesReady', 'AgentConnected']);
  assert.deepEqual(await told('True', true), ['ImageReady', 'VolumesReady', 'AgentConnected']);
});

test('counters are what was sampled, not a sum over scrapes', async () => {
  const metrics = new Metrics();
  collectSandboxes(metrics, () => [fullFigures('apple')]);
  await metrics.scrape();
  const [cpu] = await series(metrics, 'sandbox_cpu_usage_seconds_total');
  assert.match(cpu ?? '', / 1\.5$/);
});

test('the series of a sandbox go with it, and those of a VM with the VM', async () => {
  const metrics = new Metrics();
  let all: SandboxFigures[] = [fullFigures('apple'), fullFigures('banana')];
  collectSandboxes(metrics, () => all);
  assert.ok((await series(metrics)).some((line) => line.includes('apple')));
  const { vm: _vm, guest: _guest, vmStartSeconds: _start, ...stopped } = fullFigures('banana');
  all = [{ ...stopped, phase: 'Suspended' }];
  const left = await series(metrics, 'sandbox_');
  assert.ok(!left.some((line) => line.includes('apple')));
  assert.ok(left.some((line) => line.includes('phase="Suspended"')));
  assert.ok(!left.some((line) => line.includes('phase="Running"')));
  assert.ok(!left.some((line) => line.startsWith('sandbox_cpu')));
});

test('broken figures and unknown conditions of one sandbox cost nothing but themselves', async () => {
  const metrics = new Metrics();
  const broken = fullFigures('broken');
  if (broken.vm) Object.assign(broken.vm, { cpuSeconds: Number.NaN, diskReadBytes: -1 });
  broken.conditions = [{ type: 'Invented', status: 'True' }];
  collectSandboxes(metrics, () => [broken, fullFigures('sound')]);
  const lines = await series(metrics, 'sandbox_');
  assert.ok(!lines.some((line) => /Invented|sandbox_cpu.*broken|sandbox_fs_reads.*broken/.test(line)));
  assert.ok(lines.some((line) => /sandbox_memory_resident_bytes.*broken/.test(line)));
  assert.ok(lines.some((line) => /sandbox_cpu.*sound/.test(line)));
});

test('label values cannot break out of the text format', async () => {
  const metrics = new Metrics();
  collectSandboxes(metrics, () => [{ ...fullFigures('apple'), image: 'a"} 1\nevil_metric 2' }]);
  assert.ok(!(await series(metrics)).some((line) => line.startsWith('evil_metric')));
});

test('a collector that fails leaves the other figures alone', async () => {
  const metrics = new Metrics();
  metrics.onScrape(() => {
    throw new Error('defect');
  });
  metrics.onScrape(() => Promise.reject(new Error('defect')));
  reportBuild(metrics, '1.2.3');
  assert.match((await series(metrics, 'bulkhead_build_info'))[0] ?? '', /version="1\.2\.3".* 1$/);
});

test('scrapes at the same time each see every series', async () => {
  const metrics = new Metrics();
  collectSandboxes(metrics, () => [fullFigures('apple')]);
  metrics.onScrape(() => new Promise((resolve) => setImmediate(resolve)));
  const scrapes = await Promise.all([metrics.scrape(), metrics.scrape(), metrics.scrape()]);
  for (const text of scrapes) {
    assert.equal(text.match(/^sandbox_info\{/gm)?.length, 1);
    assert.match(text, /^sandbox_restarts_total\{.* 2$/m);
  }
});

test('reasons of the product are labels as they are, all others are one', () => {
  for (const reason of [...Object.values(REASONS), ...Object.values(ERRORS).map((row) => row.reason)]) {
    assert.equal(reasonLabel(reason), reason);
  }
  for (const reason of ['', 'x'.repeat(1000), 'constructor', 'whatever a guest says']) {
    assert.equal(reasonLabel(reason), OTHER);
  }
});

test('starts are counted by result and measured by stage, in seconds', async () => {
  const metrics = new Metrics();
  const lifecycle = new LifecycleMetrics(metrics);
  lifecycle.started('warm', { restore: 30, connect: 20, invented: 50 }, OF_APPLE);
  lifecycle.startFailed('ImageNotFound');
  lifecycle.startFailed('said by a registry');
  lifecycle.terminated('Completed');
  lifecycle.firstExec('warm', 0.2, OF_APPLE);
  const lines = await series(metrics, 'sandbox_');
  for (const line of [
    'sandbox_starts_total{result="success",reason=""} 1',
    'sandbox_starts_total{result="failure",reason="ImageNotFound"} 1',
    'sandbox_starts_total{result="failure",reason="Other"} 1',
    'sandbox_terminations_total{reason="Completed"} 1',
    'sandbox_start_duration_seconds_sum{launch="warm",stage="restore"} 0.03',
    'sandbox_start_duration_seconds_sum{launch="warm",stage="other"} 0.05',
    'sandbox_start_duration_seconds_sum{launch="warm",stage="total"} 0.1',
    'sandbox_time_to_first_exec_seconds_count{launch="warm"} 1',
  ]) {
    assert.ok(lines.includes(line), line);
  }
});

test("a controller's work shows under controller-runtime's names", async () => {
  const metrics = new Metrics();
  const clock = new FakeClock();
  const outcomes: Record<string, Outcome> = {
    done: { type: 'done' },
    requeue: { type: 'requeue', afterMs: 3_600_000 },
    transient: { type: 'transient', error: new Error('later') },
    terminal: { type: 'terminal', error: new Error('never') },
  };
  const held = Promise.withResolvers<void>();
  const controller = new Controller({
    reconciler: {
      name: 'sandbox',
      kind: 'Sandbox',
      async reconcile({ name }) {
        if (name === 'held') await held.promise;
        const outcome = outcomes[name];
        if (outcome === undefined) throw new TypeError('defect');
        return outcome;
      },
    },
    clock,
    log: silentLog,
    workers: 3,
    timeoutMs: 60_000,
    backoff: { baseMs: 3_600_000, maxMs: 3_600_000, jitter: 0 },
    metrics: new ControllerMetricsRecorder(metrics, 'sandbox'),
    queueMetrics: new QueueMetricsRecorder(metrics, 'sandbox'),
  });
  await controller.start();
  for (const name of [...Object.keys(outcomes), 'defect', 'held']) {
    controller.enqueue({ kind: 'Sandbox', namespace: 'default', name });
  }
  await clock.advance(90_000);
  const during = await series(metrics);
  for (const line of [
    'controller_runtime_reconcile_total{controller="sandbox",result="success"} 1',
    'controller_runtime_reconcile_total{controller="sandbox",result="requeue_after"} 1',
    'controller_runtime_reconcile_total{controller="sandbox",result="error"} 3',
    'controller_runtime_reconcile_total{controller="sandbox",result="requeue"} 0',
    'controller_runtime_reconcile_errors_total{controller="sandbox"} 3',
    'controller_runtime_terminal_reconcile_errors_total{controller="sandbox"} 1',
    'controller_runtime_reconcile_timeouts_total{controller="sandbox"} 1',
    'controller_runtime_reconcile_panics_total{controller="sandbox"} 1',
    'controller_runtime_max_concurrent_reconciles{controller="sandbox"} 3',
    'controller_runtime_active_workers{controller="sandbox"} 1',
    'controller_runtime_reconcile_time_seconds_count{controller="sandbox"} 5',
    'workqueue_depth{name="sandbox"} 0',
    'workqueue_adds_total{name="sandbox"} 6',
    'workqueue_retries_total{name="sandbox"} 2',
    'workqueue_unfinished_work_seconds{name="sandbox"} 90',
    'workqueue_longest_running_processor_seconds{name="sandbox"} 90',
    'workqueue_queue_duration_seconds_count{name="sandbox"} 6',
    'workqueue_work_duration_seconds_count{name="sandbox"} 5',
  ]) {
    assert.ok(during.includes(line), line);
  }
  held.resolve();
  await controller.stop();
  const after = await series(metrics);
  assert.ok(after.includes('workqueue_unfinished_work_seconds{name="sandbox"} 0'));
});

test('the figures of the manifest folder and the image cache are read at each scrape', async () => {
  const metrics = new Metrics();
  let source: SourceFigures = {
    objects: { Applied: 3, Invalid: 1 },
    syncs: { success: 5 },
    invalidDocuments: 1,
    lastSuccessTimestampSeconds: 1_700_000_000,
  };
  let images = [{ sizeBytes: 10 }, { sizeBytes: 20 }];
  collectSource(metrics, () => source);
  collectImageCache(metrics, async () => images);
  const first = await series(metrics);
  for (const line of [
    'source_objects{state="Applied"} 3',
    'source_sync_total{result="success"} 5',
    'source_invalid_documents 1',
    'source_last_success_timestamp_seconds 1700000000',
    'image_cache_images 2',
    'image_cache_bytes 30',
  ]) {
    assert.ok(first.includes(line), line);
  }
  source = { objects: { Applied: 4 }, syncs: { success: 6 }, invalidDocuments: 0 };
  images = [];
  const second = await series(metrics);
  assert.ok(second.includes('source_sync_total{result="success"} 6'));
  assert.ok(!second.some((line) => line.includes('Invalid"')));
  assert.ok(second.includes('image_cache_bytes 0'));
});

test("the node's figures are read at each scrape, and a file system that does not answer has none", async () => {
  const metrics = new Metrics();
  collectNode(metrics, async () => ({
    capacity: { memoryBytes: 60 },
    allocatable: { memoryBytes: 100, vcpus: 4 },
    allocated: { memoryBytes: 30, vcpus: 6 },
    storage: { state: { sizeBytes: 9, availableBytes: 3 }, volumes: undefined },
    failedCalls: new Map([['bh_spawn', 2]]),
  }));
  await metrics.scrape();
  const lines = await series(metrics);
  for (const line of [
    'node_sandbox_capacity_memory_bytes 60',
    'node_sandbox_allocatable_memory_bytes 100',
    'node_sandbox_allocated_vcpus 6',
    'node_sandbox_storage_available_bytes{store="state"} 3',
    'shim_ffi_errors_total{call="bh_spawn"} 2',
  ]) {
    assert.ok(lines.includes(line), line);
  }
  assert.ok(!lines.some((line) => line.includes('store="volumes"')));
});

test("the process's own figures are there", async () => {
  const metrics = new Metrics();
  metrics.collectProcessMetrics();
  const lines = await series(metrics);
  for (const name of [
    'process_cpu_seconds_total',
    'process_resident_memory_bytes',
    'nodejs_eventloop_lag_seconds',
  ]) {
    assert.ok(
      lines.some((line) => line.startsWith(name)),
      name,
    );
  }
});

test('the text is clean to promtool', async () => {
  const metrics = new Metrics();
  metrics.collectProcessMetrics();
  reportBuild(metrics, '1.2.3');
  new LifecycleMetrics(metrics).started('warm', { restore: 30 }, OF_APPLE);
  collectSandboxes(metrics, () => [fullFigures('apple'), fullFigures('banana')], { detail: true });
  const { status, stdout, stderr, error } = spawnSync('promtool', ['check', 'metrics'], {
    input: await metrics.scrape(),
    encoding: 'utf8',
  });
  assert.equal(error, undefined);
  assert.equal(`${stdout}${stderr}`, '');
  assert.equal(status, 0);
});

test('docs/metrics.md is what the definitions say', async () => {
  const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  assert.equal(page, await metricsPage());
});
