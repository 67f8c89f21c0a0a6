// Every metric that this program defines, in one list: registration and docs/metrics.md both come from it.
// Names of the machinery are controller-runtime's, so that its dashboards work; the tails of per-sandbox names are
// cAdvisor's. What prom-client adds about the process (process_*, nodejs_*) is not listed here.

export interface MetricDefinition {
  type: 'counter' | 'gauge' | 'histogram';
  /** One sentence. */
  help: string;
  labels: readonly string[];
  /** Upper bounds of a histogram's buckets, in the metric's unit. */
  buckets?: readonly number[];
  /** Of a histogram: each bucket names the last sandbox that fell into it, or the trace of its start. Only in OpenMetrics. */
  exemplars?: true;
}

/** Every series of a sandbox or a volume has these, besides what tells several series of one object apart. */
const PER_OBJECT = ['namespace', 'name', 'node'] as const;

/** Seconds. Starts from a template take tens of milliseconds, cold ones under emulation seconds: dense below 0.5 s. */
const START_BUCKETS = [
  0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5,
  10, 15, 20, 30,
] as const;

/** Seconds; controller-runtime's buckets for `controller_runtime_reconcile_time_seconds`. */
const RECONCILE_BUCKETS = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5,
  1.75, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60,
] as const;

/** Seconds, by powers of ten from 10 ns to 1,000 s; controller-runtime's for its work queues. */
const QUEUE_BUCKETS = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 100, 1000] as const;

export const METRICS = {
  bulkhead_build_info: {
    type: 'gauge',
    help: 'Always 1; the version that runs is in the labels.',
    labels: ['version', 'node_version'],
  },

  controller_runtime_reconcile_total: {
    type: 'counter',
    help: 'Reconciles by controller and result (success, error, requeue, requeue_after).',
    labels: ['controller', 'result'],
  },
  controller_runtime_reconcile_errors_total: {
    type: 'counter',
    help: 'Reconciles that ended with an error, terminal ones included.',
    labels: ['controller'],
  },
  controller_runtime_terminal_reconcile_errors_total: {
    type: 'counter',
    help: 'Reconciles that ended with an error which no retry can help.',
    labels: ['controller'],
  },
  controller_runtime_reconcile_panics_total: {
    type: 'counter',
    help: 'Reconciles that ended by a defect of the reconciler; the key is tried again.',
    labels: ['controller'],
  },
  controller_runtime_reconcile_timeouts_total: {
    type: 'counter',
    help: 'Reconciles that were aborted because they took too long.',
    labels: ['controller'],
  },
  controller_runtime_reconcile_time_seconds: {
    type: 'histogram',
    help: 'Duration of reconciles.',
    labels: ['controller'],
    buckets: RECONCILE_BUCKETS,
  },
  controller_runtime_max_concurrent_reconciles: {
    type: 'gauge',
    help: 'Most reconciles that run at once.',
    labels: ['controller'],
  },
  controller_runtime_active_workers: {
    type: 'gauge',
    help: 'Reconciles that run now.',
    labels: ['controller'],
  },

  workqueue_depth: {
    type: 'gauge',
    help: 'Keys that could be worked on now.',
    labels: ['name'],
  },
  workqueue_adds_total: {
    type: 'counter',
    help: 'Keys that were added, not counting those that were queued already.',
    labels: ['name'],
  },
  workqueue_queue_duration_seconds: {
    type: 'histogram',
    help: 'How long keys stayed in the queue before they were worked on.',
    labels: ['name'],
    buckets: QUEUE_BUCKETS,
  },
  workqueue_work_duration_seconds: {
    type: 'histogram',
    help: 'How long keys were worked on.',
    labels: ['name'],
    buckets: QUEUE_BUCKETS,
  },
  workqueue_unfinished_work_seconds: {
    type: 'gauge',
    help: 'Time spent so far on keys being worked on, all together; growth without end means stuck workers.',
    labels: ['name'],
  },
  workqueue_longest_running_processor_seconds: {
    type: 'gauge',
    help: 'Time spent so far on the key that is being worked on longest.',
    labels: ['name'],
  },
  workqueue_retries_total: {
    type: 'counter',
    help: 'Keys that were put back after a failure.',
    labels: ['name'],
  },

  rest_client_requests_total: {
    type: 'counter',
    help: "Requests to the cluster's API server by status (<error> where no answer came), method and host.",
    labels: ['code', 'method', 'host'],
  },
  leader_election_master_status: {
    type: 'gauge',
    help: 'Is 1 in the controller of a cluster that leads, and 0 in those that wait to.',
    labels: ['name'],
  },

  sandbox_start_duration_seconds: {
    type: 'histogram',
    help: 'Duration of starts that succeeded, by launch (cold, warm) and stage; stage "total" is the whole.',
    labels: ['launch', 'stage'],
    buckets: START_BUCKETS,
    exemplars: true,
  },
  sandbox_time_to_first_exec_seconds: {
    type: 'histogram',
    help: "Time from the start of a sandbox to the first command's start in it.",
    labels: ['launch'],
    buckets: START_BUCKETS,
    exemplars: true,
  },
  sandbox_starts_total: {
    type: 'counter',
    help: 'Starts by result (success, failure) and, for failures, reason.',
    labels: ['result', 'reason'],
  },
  sandbox_terminations_total: {
    type: 'counter',
    help: 'VMs that ended, by reason.',
    labels: ['reason'],
  },

  sandbox_vms_stalled: {
    type: 'gauge',
    help: 'VMs that the host keeps from running now, by reason: DiskFull ones are paused in a write until there is room.',
    labels: ['reason'],
  },

  sandbox_info: {
    type: 'gauge',
    help: 'Always 1; image and driver are in the labels, to join with the other series of the sandbox.',
    labels: [...PER_OBJECT, 'image', 'driver'],
  },
  sandbox_status_phase: {
    type: 'gauge',
    help: 'Always 1, for the phase that the sandbox is in; other phases have no series.',
    labels: [...PER_OBJECT, 'phase'],
  },
  sandbox_status_condition: {
    type: 'gauge',
    help: 'Always 1, for the status (true, false, unknown) that the condition has; other statuses have no series. ImageReady and VolumesReady have none while they are true, unless with --metrics-detail.',
    labels: [...PER_OBJECT, 'condition', 'status'],
  },
  sandbox_restarts_total: {
    type: 'counter',
    help: "Restarts of the sandbox's main process by its restart policy, from its status.",
    labels: PER_OBJECT,
  },
  sandbox_vm_start_time_seconds: {
    type: 'gauge',
    help: 'When the VM was started, in Unix time.',
    labels: PER_OBJECT,
  },
  sandbox_cpu_usage_seconds_total: {
    type: 'counter',
    help: "CPU time on the host of the VMM's process, the guest's included; starts again with each start of the VM.",
    labels: PER_OBJECT,
  },
  sandbox_memory_resident_bytes: {
    type: 'gauge',
    help: "Memory on the host of the VMM's process, the guest's included; what it shares with others counts by its part.",
    labels: PER_OBJECT,
  },
  sandbox_memory_limit_bytes: {
    type: 'gauge',
    help: "Limit of the memory of the VMM's cgroup.",
    labels: PER_OBJECT,
  },
  sandbox_fs_reads_bytes_total: {
    type: 'counter',
    help: "Bytes that the VMM's process had read from the host's storage for the disks of the guest; what the host had in memory does not count; starts again with each start of the VM.",
    labels: PER_OBJECT,
  },
  sandbox_fs_writes_bytes_total: {
    type: 'counter',
    help: "Bytes that the VMM's process wrote for the disks of the guest; starts again with each start of the VM.",
    labels: PER_OBJECT,
  },
  sandbox_network_receive_bytes_total: {
    type: 'counter',
    help: "Bytes that the guest received, from the host's side of its TAP; starts again with each start of the VM.",
    labels: PER_OBJECT,
  },
  sandbox_network_receive_packets_total: {
    type: 'counter',
    help: "Packets that the guest received, from the host's side of its TAP; starts again with each start of the VM.",
    labels: PER_OBJECT,
  },
  sandbox_network_transmit_bytes_total: {
    type: 'counter',
    help: "Bytes that the guest sent, from the host's side of its TAP; starts again with each start of the VM.",
    labels: PER_OBJECT,
  },
  sandbox_network_transmit_packets_total: {
    type: 'counter',
    help: "Packets that the guest sent, from the host's side of its TAP; starts again with each start of the VM.",
    labels: PER_OBJECT,
  },
  sandbox_memory_guest_used_bytes: {
    type: 'gauge',
    help: 'Memory in use as the guest agent says: total less available.',
    labels: PER_OBJECT,
  },
  sandbox_memory_guest_available_bytes: {
    type: 'gauge',
    help: 'Memory that work in the guest can still get, as the guest agent says.',
    labels: PER_OBJECT,
  },
  sandbox_fs_guest_used_bytes: {
    type: 'gauge',
    help: "Space in use on the guest's root file system, as the guest agent says.",
    labels: PER_OBJECT,
  },
  sandbox_fs_guest_limit_bytes: {
    type: 'gauge',
    help: "Size of the guest's root file system, as the guest agent says.",
    labels: PER_OBJECT,
  },
  sandbox_cpu_guest_seconds_total: {
    type: 'counter',
    help: 'CPU time by mode (user, system, idle, iowait, steal), as the guest agent says. Only with --metrics-detail.',
    labels: [...PER_OBJECT, 'mode'],
  },
  sandbox_memory_guest_cached_bytes: {
    type: 'gauge',
    help: "Files in the guest's memory, as the guest agent says. Only with --metrics-detail.",
    labels: PER_OBJECT,
  },
  sandbox_pressure_guest_ratio: {
    type: 'gauge',
    help: 'Part of the last 10 s in which some work in the guest waited for the resource (cpu, memory, io), as the guest agent says. Only with --metrics-detail.',
    labels: [...PER_OBJECT, 'resource'],
  },
  sandbox_load_guest: {
    type: 'gauge',
    help: 'Load average of the period (1m, 5m, 15m), as the guest agent says. Only with --metrics-detail.',
    labels: [...PER_OBJECT, 'period'],
  },
  sandbox_fs_guest_inodes: {
    type: 'gauge',
    help: "Files and folders that the guest's root file system has room for, as the guest agent says. Only with --metrics-detail.",
    labels: PER_OBJECT,
  },
  sandbox_fs_guest_inodes_used: {
    type: 'gauge',
    help: "Inodes in use on the guest's root file system, as the guest agent says. Only with --metrics-detail.",
    labels: PER_OBJECT,
  },
  sandbox_processes_guest: {
    type: 'gauge',
    help: 'Tasks of the work in the guest, as the guest agent says. Only with --metrics-detail.',
    labels: PER_OBJECT,
  },
  sandbox_uptime_guest_seconds: {
    type: 'gauge',
    help: "Time since the guest's kernel started, as the guest agent says. Only with --metrics-detail.",
    labels: PER_OBJECT,
  },

  sandbox_egress_denied_total: {
    type: 'counter',
    help: 'Connections and questions of the guest that were refused or cut by policy, as the gateway decided.',
    labels: PER_OBJECT,
  },
  sandbox_egress_decisions_total: {
    type: 'counter',
    help: 'Connections (layer Flow), TLS that was opened (TLS), secrets (Secret) and questions (DNS) of the guest by result, as the gateway decided. Only with --metrics-detail.',
    labels: [...PER_OBJECT, 'layer', 'result'],
  },
  sandbox_egress_connections: {
    type: 'gauge',
    help: 'Connections of the guest that are open through the gateway, sessions of UDP and ICMP among them. Only with --metrics-detail.',
    labels: PER_OBJECT,
  },

  volume_info: {
    type: 'gauge',
    help: 'Always 1; access mode, reclaim policy and phase are in the labels, to join with the other series of the volume.',
    labels: [...PER_OBJECT, 'access_mode', 'reclaim_policy', 'phase'],
  },
  volume_capacity_bytes: {
    type: 'gauge',
    help: 'Size of the disk of the volume.',
    labels: PER_OBJECT,
  },
  volume_used_bytes: {
    type: 'gauge',
    help: 'Space that files use, as measured when no sandbox last wrote to the volume.',
    labels: PER_OBJECT,
  },
  volume_available_bytes: {
    type: 'gauge',
    help: 'Space that files can still use, as measured when no sandbox last wrote to the volume.',
    labels: PER_OBJECT,
  },
  volume_inodes: {
    type: 'gauge',
    help: 'Files and folders that the volume has room for.',
    labels: PER_OBJECT,
  },
  volume_inodes_used: {
    type: 'gauge',
    help: 'Inodes in use, as measured when no sandbox last wrote to the volume.',
    labels: PER_OBJECT,
  },
  volume_disk_bytes: {
    type: 'gauge',
    help: 'What the disk of the volume takes on the host.',
    labels: PER_OBJECT,
  },
  volume_users: {
    type: 'gauge',
    help: 'Sandboxes that have the volume.',
    labels: PER_OBJECT,
  },
  volume_checks_total: {
    type: 'counter',
    help: 'Integrity checks of volumes by result (Clean, Recovered, Repaired, Damaged).',
    labels: ['result'],
  },
  volume_quota_exceeded_total: {
    type: 'counter',
    help: 'Times that a volume was found full.',
    labels: [],
  },

  source_objects: {
    type: 'gauge',
    help: 'Objects of the manifest folder by state.',
    labels: ['state'],
  },
  source_sync_total: {
    type: 'counter',
    help: 'Readings of the manifest folder by result (success, partial, error).',
    labels: ['result'],
  },
  source_last_success_timestamp_seconds: {
    type: 'gauge',
    help: 'When the manifest folder was last read with success, in Unix time.',
    labels: [],
  },
  source_invalid_documents: {
    type: 'gauge',
    help: 'Documents of the manifest folder that cannot be applied.',
    labels: [],
  },

  gateway_up: {
    type: 'gauge',
    help: 'Is 1 while a gateway serves the networks of the sandboxes; without one all of them are closed.',
    labels: [],
  },
  gateway_decisions_total: {
    type: 'counter',
    help: 'Connections (layer Flow), TLS that was opened (TLS), secrets (Secret) and questions (DNS) of all sandboxes by result, since the gateway started.',
    labels: ['layer', 'result'],
  },
  gateway_egress_bytes_total: {
    type: 'counter',
    help: 'Bytes that sandboxes sent by connections and datagrams, those of published ports among them, since the gateway started; not what port-forward carries.',
    labels: [],
  },
  gateway_ingress_bytes_total: {
    type: 'counter',
    help: 'Bytes that sandboxes got, counted as gateway_egress_bytes_total.',
    labels: [],
  },
  gateway_connections: {
    type: 'gauge',
    help: 'Connections of sandboxes that are open through the gateway, sessions of UDP and ICMP among them.',
    labels: [],
  },

  node_sandbox_capacity_memory_bytes: {
    type: 'gauge',
    help: 'Memory of the host.',
    labels: [],
  },
  node_sandbox_allocatable_memory_bytes: {
    type: 'gauge',
    help: 'Memory that sandboxes may be given in all: that of the host, times --memory-overcommit.',
    labels: [],
  },
  node_sandbox_allocatable_vcpus: {
    type: 'gauge',
    help: 'CPUs of the host that the daemon may use.',
    labels: [],
  },
  node_sandbox_allocated_memory_bytes: {
    type: 'gauge',
    help: 'Memory of the specs of all sandboxes whose VM runs.',
    labels: [],
  },
  node_sandbox_allocated_vcpus: {
    type: 'gauge',
    help: 'Virtual CPUs of the specs of all sandboxes whose VM runs; they may be more than the host has CPUs.',
    labels: [],
  },
  node_sandbox_storage_size_bytes: {
    type: 'gauge',
    help: 'Size of the file system that holds the state or the volumes.',
    labels: ['store'],
  },
  node_sandbox_storage_available_bytes: {
    type: 'gauge',
    help: 'Space left on the file system that holds the state or the volumes.',
    labels: ['store'],
  },
  shim_orphans: {
    type: 'gauge',
    help: 'Directories of VMs without an object that the last sweep could not clean up.',
    labels: [],
  },
  shim_ffi_errors_total: {
    type: 'counter',
    help: 'Calls of libvmm that failed, by call; expected answers, such as that a process is gone, included.',
    labels: ['call'],
  },

  image_cache_bytes: {
    type: 'gauge',
    help: 'Size of all images in the cache.',
    labels: [],
  },
  image_cache_images: {
    type: 'gauge',
    help: 'Images in the cache.',
    labels: [],
  },
} as const satisfies Record<string, MetricDefinition>;

export type MetricName = keyof typeof METRICS;
/** Names of metrics that have series of objects. */
export type ObjectMetricName = {
  [Name in MetricName]: (typeof METRICS)[Name]['labels'] extends readonly [...typeof PER_OBJECT, ...string[]]
    ? Name
    : never;
}[MetricName];

/** Does the metric have series of objects? */
export function isObjectMetric(name: string): name is ObjectMetricName {
  const definition: MetricDefinition | undefined = METRICS[name as MetricName];
  return definition?.labels[0] === PER_OBJECT[0];
}

/** Names of one type of metric. */
export type NamesOf<Type extends MetricDefinition['type']> = {
  [Name in MetricName]: (typeof METRICS)[Name]['type'] extends Type ? Name : never;
}[MetricName];
/** Histograms with exemplars. */
export type ExemplarName = {
  [Name in MetricName]: (typeof METRICS)[Name] extends { exemplars: true } ? Name : never;
}[MetricName];
/** Label names of a metric. */
export type LabelsOf<Name extends MetricName> = (typeof METRICS)[Name]['labels'][number];
