import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatFor } from './formats.ts';
import { LifecycleMetrics } from './lifecycle-metrics.ts';
import { Metrics } from './registry.ts';
import { collectVolumes } from './volume-collector.ts';

/** What Prometheus 2.42 and 3.0 send. */
const OF_PROMETHEUS = [
  'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
  'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1',
];

test('who asks for OpenMetrics gets it, everybody else the older text', () => {
  for (const accept of [
    ...OF_PROMETHEUS,
    'application/openmetrics-text',
    'Application/OpenMetrics-Text; q=0.2',
  ])
    assert.equal(formatFor(accept), 'openmetrics', accept);
  for (const accept of [
    undefined,
    '',
    '*/*',
    'text/html',
    'text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
    'application/openmetrics-text;version=0.0.1',
    'application/openmetrics-text;q=0',
    'application/openmetrics-text;q=0.3,text/plain',
    'application/openmetrics-text;q=many',
    ',;,=;q=;',
  ])
    assert.equal(formatFor(accept), 'text', accept);
});

const EXEMPLAR = { namespace: 'default', name: 'apple' };

function sample(): Metrics {
  const metrics = new Metrics();
  const lifecycle = new LifecycleMetrics(metrics);
  lifecycle.started('warm', { restore: 30 }, EXEMPLAR);
  lifecycle.firstExec('cold', 100, { trace_id: '0af7651916cd43dd8448eb211c80319c' });
  metrics.gauge('bulkhead_build_info').set({ version: 'a"b\\c\nd', node_version: '24' }, Number.NaN);
  const volume = { namespace: 'default', name: 'v', node: 'n', accessMode: 'ReadWriteOnce' };
  collectVolumes(metrics, () => [
    { ...volume, reclaimPolicy: 'Retain', phase: 'Bound', users: 1, capacityBytes: 7 },
  ]);
  return metrics;
}

test('OpenMetrics has the same series as the older text, and exemplars', async () => {
  const metrics = sample();
  const seriesOf = (text: string) =>
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.replace(/ # .*/, ''));
  const before = await metrics.scrape();
  const open = await metrics.scrape('openmetrics');
  assert.deepEqual(seriesOf(open), seriesOf(before));
  assert.equal(await metrics.scrape(), before, 'one format changes nothing in the other');
  assert.doesNotMatch(before, / # \{/, 'the older text has no exemplars');
  assert.match(
    open,
    /^sandbox_start_duration_seconds_bucket\{le="0\.03",launch="warm",stage="restore"\} 1 # \{namespace="default",name="apple"\} 0\.03 \d+(\.\d+)?$/m,
  );
  assert.match(
    open,
    /^sandbox_time_to_first_exec_seconds_bucket\{le="\+Inf",launch="cold"\} 1 # \{trace_id="0af7651916cd43dd8448eb211c80319c"\} 100 /m,
  );
});

test('OpenMetrics names families of counters without _total, has no empty line, and ends with its mark', async () => {
  const text = await sample().scrape('openmetrics');
  assert.match(text, /^# TYPE sandbox_starts counter\n# HELP sandbox_starts .*\nsandbox_starts_total\{/m);
  assert.match(text, /^# TYPE volume_capacity_bytes gauge\n# HELP .*\nvolume_capacity_bytes\{.*\} 7$/m);
  assert.doesNotMatch(text, /\n\n/);
  assert.match(text, /\n# EOF\n$/);
  assert.match(text, /^bulkhead_build_info\{version="a\\"b\\\\c\\nd",node_version="24"\} NaN$/m);
  assert.ok(!/^# HELP .*[^\\]"/m.test(text), 'quotes of help are escaped');
});

test('an exemplar that is longer than its format allows is left out, its observation counts', async () => {
  const metrics = new Metrics();
  new LifecycleMetrics(metrics).firstExec('warm', 0.1, { namespace: 'default', name: 'n'.repeat(253) });
  const text = await metrics.scrape('openmetrics');
  assert.match(text, /^sandbox_time_to_first_exec_seconds_count\{launch="warm"\} 1$/m);
  assert.doesNotMatch(text, / # \{/);
});
