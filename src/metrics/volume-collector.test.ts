import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metrics } from './registry.ts';
import { collectVolumes, type VolumeFigures, VolumeMetricsRecorder } from './volume-collector.ts';

const figures = (name: string): VolumeFigures => ({
  namespace: 'default',
  name,
  node: 'n1',
  accessMode: 'ReadWriteOnce',
  reclaimPolicy: 'Retain',
  phase: 'Pending',
  users: 0,
});

async function series(metrics: Metrics): Promise<string[]> {
  return (await metrics.scrape()).split('\n').filter((line) => line.startsWith('volume_'));
}

test('a volume has series of what is known of it, and none when it is gone', async () => {
  const metrics = new Metrics();
  let volumes = [figures('new'), { ...figures('data'), phase: 'Bound', capacityBytes: 100, usedBytes: 0 }];
  collectVolumes(metrics, () => volumes);
  const all = await series(metrics);
  const of = (name: string) => all.filter((line) => line.includes(`name="${name}"`));
  assert.deepEqual(of('new'), [
    'volume_info{namespace="default",name="new",node="n1",access_mode="ReadWriteOnce",reclaim_policy="Retain",phase="Pending"} 1',
    'volume_users{namespace="default",name="new",node="n1"} 0',
  ]);
  assert.equal(of('data').length, 4);
  assert.ok(all.includes('volume_used_bytes{namespace="default",name="data",node="n1"} 0'));
  volumes = [];
  assert.deepEqual(
    (await series(metrics)).filter((line) => line.includes('name=')),
    [],
  );
});

test('checks and full volumes are counted', async () => {
  const metrics = new Metrics();
  const recorder = new VolumeMetricsRecorder(metrics);
  recorder.checked('Repaired');
  recorder.quotaExceeded();
  recorder.quotaExceeded();
  assert.deepEqual(await series(metrics), [
    'volume_checks_total{result="Clean"} 0',
    'volume_checks_total{result="Recovered"} 0',
    'volume_checks_total{result="Repaired"} 1',
    'volume_checks_total{result="Damaged"} 0',
    'volume_quota_exceeded_total 2',
  ]);
});
