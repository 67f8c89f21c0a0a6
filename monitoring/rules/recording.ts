// Recording rules: what boards and alerts ask for again and again. Names are level:metric:operations.
import type { Times } from './times.ts';

export interface RecordingRule {
  record: string;
  expr: string;
}

/** Starts that take longer than this are slow: the objective is that 99 % of them do not. A bound of the histogram. */
export const SLOW_START_SECONDS = 10;

const TOTAL = 'stage="total"';

/** Part of the starts of a window that were slow; empty where nothing was started. */
function slowStarts(window: string): string {
  const count = `sum(increase(sandbox_start_duration_seconds_count{${TOTAL}}[${window}]))`;
  const quick = `sum(increase(sandbox_start_duration_seconds_bucket{${TOTAL},le="${SLOW_START_SECONDS}"}[${window}]))`;
  return `(1 - ${quick} / ${count}) and ${count} > 0`;
}

export function recordingRules({ minutes }: Times): RecordingRule[] {
  return [
    {
      record: 'node:sandbox_status_phase:count',
      expr: 'count by (node, phase) (sandbox_status_phase)',
    },
    {
      record: 'node:sandbox_cpu_usage_seconds:rate5m',
      expr: `sum by (node) (rate(sandbox_cpu_usage_seconds_total[${minutes(5)}]))`,
    },
    {
      record: 'node:sandbox_memory_resident_bytes:sum',
      expr: 'sum by (node) (sandbox_memory_resident_bytes)',
    },
    {
      record: 'instance:node_sandbox_memory:allocated_ratio',
      expr: 'node_sandbox_allocated_memory_bytes / node_sandbox_allocatable_memory_bytes',
    },
    {
      record: 'instance_controller:controller_runtime_reconcile_errors:ratio_rate5m',
      expr:
        `sum by (instance, controller) (rate(controller_runtime_reconcile_errors_total[${minutes(5)}]))` +
        ` / (sum by (instance, controller) (rate(controller_runtime_reconcile_total[${minutes(5)}])) > 0)`,
    },
    {
      record: 'launch:sandbox_start_duration_seconds:p99_30m',
      // Of a launch that did not happen it is NaN.
      expr: `histogram_quantile(0.99, sum by (launch, le) (rate(sandbox_start_duration_seconds_bucket{${TOTAL}}[${minutes(30)}]))) >= 0`,
    },
    { record: 'job:sandbox_starts_slow:ratio_5m', expr: slowStarts(minutes(5)) },
    { record: 'job:sandbox_starts_slow:ratio_1h', expr: slowStarts(minutes(60)) },
  ];
}
