// What each alert is tried with: series minute by minute, when it has to fire and when it must not, before and after.

export interface AlertCase {
  alert: string;
  /** Why there is this case. */
  when: string;
  /** Values by series, one a minute. A daemon that is up is there in every case. */
  series: Readonly<Record<string, readonly number[]>>;
  /** Minutes at which it fires, and no other alert. */
  fires: readonly number[];
  /** Minutes at which no alert fires. */
  quiet: readonly number[];
}

const UP = 'up{job="bulkhead",instance="i"}';
const THIS = 'namespace="default",name="a",node="n"';

/** The same value for so many minutes. */
function hold(value: number, minutes: number): number[] {
  return Array.from({ length: minutes }, () => value);
}

/** A counter that grows by so much each minute. */
function grow(from: number, perMinute: number, minutes: number): number[] {
  return Array.from({ length: minutes }, (_, minute) => from + perMinute * minute);
}

/** A condition that does not hold, then does, then does not. */
function pulse(off: number, on: number, before: number, during: number, after: number): number[] {
  return [...hold(off, before), ...hold(on, during), ...hold(off, after)];
}

/** A series that is there only for a while, as those of phases and conditions are. */
function there(before: number, during: number, after: number): number[] {
  return pulse(Number.NaN, 1, before, during, after);
}

export const CASES: readonly AlertCase[] = [
  {
    alert: 'BulkheadControllerDown',
    when: 'the daemon does not answer for ten minutes',
    series: { [UP]: pulse(1, 0, 5, 10, 10) },
    quiet: [4, 6, 16],
    fires: [8, 14],
  },
  {
    alert: 'BulkheadNoLeader',
    when: 'the one that leads ends, and the other cannot take over for ten minutes',
    series: {
      'leader_election_master_status{instance="i",name="bulkhead-controller"}': [
        ...hold(1, 5),
        ...hold(Number.NaN, 20),
      ],
      'leader_election_master_status{instance="j",name="bulkhead-controller"}': [
        ...hold(0, 15),
        ...hold(1, 10),
      ],
    },
    quiet: [4, 6, 16],
    fires: [8, 14],
  },
  {
    alert: 'BulkheadReconcileErrorBurst',
    when: 'ten reconciles a minute fail, one of sixteen',
    series: {
      'controller_runtime_reconcile_errors_total{instance="i",controller="sandbox"}': [
        ...hold(0, 10),
        ...grow(0, 10, 10),
        ...hold(90, 20),
      ],
      'controller_runtime_reconcile_total{instance="i",controller="sandbox",result="error"}': [
        ...hold(0, 10),
        ...grow(0, 10, 10),
        ...hold(90, 20),
      ],
      'controller_runtime_reconcile_total{instance="i",controller="sandbox",result="success"}': grow(
        0,
        150,
        40,
      ),
    },
    quiet: [9, 30],
    fires: [16],
  },
  {
    alert: 'BulkheadReconcileErrorBurst',
    when: 'few reconciles fail, though they are most of all',
    series: {
      'controller_runtime_reconcile_errors_total{instance="i",controller="sandbox"}': grow(0, 1, 40),
      'controller_runtime_reconcile_total{instance="i",controller="sandbox",result="error"}': grow(0, 1, 40),
    },
    quiet: [10, 20, 30],
    fires: [],
  },
  {
    alert: 'BulkheadQueueStuck',
    when: 'a reconcile hangs for twenty minutes',
    series: {
      'workqueue_longest_running_processor_seconds{instance="i",name="sandbox"}': [
        ...hold(0, 5),
        ...grow(0, 60, 20),
        ...hold(0, 10),
      ],
    },
    quiet: [5, 12, 26],
    fires: [18, 24],
  },
  {
    alert: 'BulkheadSandboxStuckStarting',
    when: 'a sandbox starts for twenty minutes',
    series: {
      [`sandbox_status_phase{${THIS},phase="Starting"}`]: there(5, 20, 10),
      [`sandbox_status_phase{${THIS},phase="Running"}`]: [...hold(Number.NaN, 25), ...hold(1, 10)],
    },
    quiet: [4, 14, 26],
    fires: [16, 24],
  },
  {
    alert: 'BulkheadSandboxStalled',
    when: 'an image does not exist, until the spec is corrected; that it is Pending says nothing more',
    series: {
      [`sandbox_status_condition{${THIS},condition="Stalled",status="true"}`]: there(5, 20, 10),
      [`sandbox_status_phase{${THIS},phase="Pending"}`]: there(5, 20, 10),
    },
    quiet: [4, 9, 26],
    fires: [11, 24],
  },
  {
    alert: 'BulkheadSandboxRestartLoop',
    when: 'a sandbox restarts every five minutes, then stays up',
    series: {
      [`sandbox_restarts_total{${THIS}}`]: [
        ...hold(0, 10),
        ...hold(1, 5),
        ...hold(2, 5),
        ...hold(3, 5),
        ...hold(4, 60),
      ],
    },
    quiet: [9, 14, 70],
    fires: [24, 30],
  },
  {
    alert: 'BulkheadSandboxAgentUnreachable',
    when: 'the agent of a running sandbox is silent',
    series: {
      [`sandbox_status_phase{${THIS},phase="Running"}`]: hold(1, 40),
      [`sandbox_status_condition{${THIS},condition="AgentConnected",status="false"}`]: there(5, 15, 20),
    },
    quiet: [4, 9, 21],
    fires: [11, 19],
  },
  {
    alert: 'BulkheadSandboxAgentUnreachable',
    when: 'a suspended sandbox has no agent',
    series: {
      [`sandbox_status_phase{${THIS},phase="Suspended"}`]: hold(1, 40),
      [`sandbox_status_condition{${THIS},condition="AgentConnected",status="false"}`]: hold(1, 40),
    },
    quiet: [10, 39],
    fires: [],
  },
  {
    alert: 'BulkheadSandboxMemoryNearlyFull',
    when: 'a guest has 4 % of its memory left for a while',
    series: {
      [`sandbox_memory_guest_used_bytes{${THIS}}`]: pulse(50, 96, 5, 15, 20),
      [`sandbox_memory_guest_available_bytes{${THIS}}`]: pulse(50, 4, 5, 15, 20),
    },
    quiet: [4, 9, 21],
    fires: [11, 19],
  },
  {
    alert: 'BulkheadSandboxDiskNearlyFull',
    when: 'the root disk of a guest is 95 % full for a while',
    series: {
      [`sandbox_fs_guest_used_bytes{${THIS}}`]: pulse(50, 95, 5, 15, 20),
      [`sandbox_fs_guest_limit_bytes{${THIS}}`]: hold(100, 40),
    },
    quiet: [4, 9, 21],
    fires: [11, 19],
  },
  {
    alert: 'BulkheadStartLatencySLOBurn',
    when: 'half of the starts are slow for an hour',
    series: {
      'sandbox_start_duration_seconds_count{launch="cold",stage="total"}': grow(0, 10, 180),
      'sandbox_start_duration_seconds_bucket{launch="cold",stage="total",le="10"}': [
        ...grow(0, 10, 30),
        ...grow(300, 5, 60),
        ...grow(600, 10, 90),
      ],
    },
    quiet: [29, 32, 100],
    fires: [60, 88],
  },
  {
    alert: 'BulkheadStartLatencySLOBurn',
    when: 'all of a few starts are slow',
    series: {
      'sandbox_start_duration_seconds_count{launch="cold",stage="total"}': [...hold(0, 10), ...hold(4, 60)],
      'sandbox_start_duration_seconds_bucket{launch="cold",stage="total",le="10"}': hold(0, 70),
    },
    quiet: [12, 60],
    fires: [],
  },
  {
    alert: 'BulkheadNodeOutOfCapacity',
    when: 'sandboxes are given 95 % of the memory for a while',
    series: {
      'node_sandbox_allocated_memory_bytes{instance="i"}': pulse(50, 95, 5, 15, 20),
      'node_sandbox_allocatable_memory_bytes{instance="i"}': hold(100, 40),
    },
    quiet: [4, 9, 21],
    fires: [12, 19],
  },
  {
    alert: 'BulkheadNodeStorageNearlyFull',
    when: 'the file system of the state has 5 % left for a while',
    series: {
      'node_sandbox_storage_available_bytes{instance="i",store="state"}': pulse(50, 5, 5, 15, 20),
      'node_sandbox_storage_size_bytes{instance="i",store="state"}': hold(100, 40),
    },
    quiet: [4, 9, 21],
    fires: [11, 19],
  },
  {
    alert: 'BulkheadVmsStalled',
    when: 'three VMs find no room on the host',
    series: { 'sandbox_vms_stalled{instance="i",reason="DiskFull"}': pulse(0, 3, 5, 5, 10) },
    quiet: [4, 5, 11],
    fires: [7, 9],
  },
  {
    alert: 'BulkheadVmmOrphaned',
    when: 'a directory cannot be removed for twenty minutes',
    series: { 'shim_orphans{instance="i"}': pulse(0, 1, 5, 20, 10) },
    quiet: [4, 14, 26],
    fires: [16, 24],
  },
  {
    alert: 'BulkheadVolumeNearlyFull',
    when: 'a volume is 95 % full, then grows',
    series: {
      [`volume_used_bytes{${THIS}}`]: pulse(50, 95, 5, 15, 20),
      [`volume_available_bytes{${THIS}}`]: pulse(50, 5, 5, 15, 20),
    },
    quiet: [4, 9, 21],
    fires: [11, 19],
  },
  {
    alert: 'BulkheadVolumeDamaged',
    when: 'one check finds a damaged volume',
    series: {
      'volume_checks_total{instance="i",result="Damaged"}': [...hold(0, 10), ...hold(1, 80)],
      'volume_checks_total{instance="i",result="Clean"}': grow(0, 1, 90),
    },
    quiet: [9, 75],
    fires: [11, 40],
  },
  {
    alert: 'BulkheadGatewayDown',
    when: 'the gateway is gone for twenty minutes',
    series: { 'gateway_up{instance="i"}': pulse(1, 0, 5, 20, 10) },
    quiet: [4, 6, 26],
    fires: [9, 24],
  },
  {
    alert: 'BulkheadEgressDeniedSpike',
    when: 'ten connections a second are refused for twenty minutes',
    series: {
      [`sandbox_egress_denied_total{${THIS}}`]: [...hold(0, 5), ...grow(0, 600, 20), ...hold(11_400, 20)],
    },
    quiet: [4, 9, 36],
    fires: [16, 24],
  },
  {
    alert: 'BulkheadSourceSyncFailing',
    when: 'a document is broken for twenty minutes',
    series: { 'source_invalid_documents{instance="i"}': pulse(0, 2, 5, 20, 10) },
    quiet: [4, 14, 26],
    fires: [16, 24],
  },
  {
    alert: 'BulkheadSourceSyncFailing',
    when: 'the folder cannot be read',
    series: {
      'source_invalid_documents{instance="i"}': hold(0, 70),
      'source_sync_total{instance="i",result="error"}': [...hold(0, 10), ...grow(1, 1, 20), ...hold(20, 40)],
    },
    quiet: [9, 60],
    fires: [25],
  },
];

/** Tests for `promtool test rules`, of a rules file beside them. */
export function promtoolTests(rulesFile: string, severities: ReadonlyMap<string, string>): object {
  return {
    rule_files: [rulesFile],
    evaluation_interval: '1m',
    tests: CASES.map(({ alert, when, series, fires, quiet }) => ({
      name: `${alert}: ${when}`,
      interval: '1m',
      input_series: Object.entries({ [UP]: hold(1, 240), ...series }).map(([name, values]) => ({
        series: name,
        // What is not there for a while is stale then, as Prometheus marks it.
        values: values.map((value) => (Number.isNaN(value) ? 'stale' : value)).join(' '),
      })),
      promql_expr_test: [...fires, ...quiet].map((minute) => ({
        expr: 'count by (alertname, severity) (ALERTS{alertstate="firing"})',
        eval_time: `${minute}m`,
        exp_samples: fires.includes(minute)
          ? [{ labels: `{alertname="${alert}",severity="${severities.get(alert)}"}`, value: 1 }]
          : [],
      })),
    })),
  };
}
