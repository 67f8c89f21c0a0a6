import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DefaultedSandbox } from '../api/sandbox.ts';
import { LifecycleMetrics } from '../metrics/lifecycle-metrics.ts';
import { Metrics } from '../metrics/registry.ts';
import type { FinishedStart } from '../tracing/start-traces.ts';
import type { VmHandle } from '../vmm/driver.ts';
import { Starts } from './starts.ts';

const SANDBOX = {
  metadata: { namespace: 'default', name: 'apple', uid: 'uid-1' },
  spec: { image: 'busybox', env: [{ name: 'TOKEN', value: 'hunter2' }] },
} as unknown as DefaultedSandbox;
const START = { sandbox: SANDBOX, stages: { restore: 30, connect: 20 }, driver: 'software', run: 2 };
const PLACE = { namespace: 'default', name: 'apple' };

function vm(): VmHandle {
  return { launch: 'warm' } as VmHandle;
}

function exemplarsOf(text: string, metric: string): string[] {
  return [...text.matchAll(new RegExp(`^${metric}_bucket.* # (\\{.*\\}) `, 'gm'))].map(
    ([, labels = '']) => labels,
  );
}

test('with traces, figures of a start refer to its trace, and the trace has nothing of the environment', async () => {
  const metrics = new Metrics();
  const recorded: FinishedStart[] = [];
  const traces = {
    record: (start: FinishedStart) => `trace-${recorded.push(start)}`,
    close: async () => {},
  };
  const starts = new Starts(new LifecycleMetrics(metrics), traces, () => 1000);
  const handle = vm();
  starts.started(START, handle);
  starts.firstExec(handle, PLACE, 0.3);
  starts.startFailed({ sandbox: SANDBOX, stages: { spawn: 5 } }, 'DriverUnavailable');
  assert.deepEqual(recorded, [
    {
      ...{ namespace: 'default', name: 'apple', uid: 'uid-1', image: 'busybox', endedAt: 1000 },
      ...{ stages: START.stages, driver: 'software', run: 2, launch: 'warm' },
    },
    {
      ...{ namespace: 'default', name: 'apple', uid: 'uid-1', image: 'busybox', endedAt: 1000 },
      ...{ stages: { spawn: 5 }, failure: 'DriverUnavailable' },
    },
  ]);
  const text = await metrics.scrape('openmetrics');
  for (const metric of ['sandbox_start_duration_seconds', 'sandbox_time_to_first_exec_seconds'])
    assert.deepEqual([...new Set(exemplarsOf(text, metric))], ['{trace_id="trace-1"}'], metric);
});

test('without traces, and for VMs that another daemon started, they name the sandbox', async () => {
  const metrics = new Metrics();
  const starts = new Starts(new LifecycleMetrics(metrics), undefined, () => 0);
  starts.started(START, vm());
  starts.firstExec(vm(), PLACE, 0.3);
  const text = await metrics.scrape('openmetrics');
  for (const metric of ['sandbox_start_duration_seconds', 'sandbox_time_to_first_exec_seconds'])
    assert.deepEqual([...new Set(exemplarsOf(text, metric))], ['{namespace="default",name="apple"}'], metric);
});
