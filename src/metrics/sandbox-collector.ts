// Series of each sandbox, made anew at each scrape: a sandbox that is gone has none.
import { setImmediate as turn } from 'node:timers/promises';
import { SANDBOX_CONDITIONS, type SandboxConditionType } from '../api/conditions.ts';
import { ERRORS } from '../api/errors.ts';
import type { VmFigures } from '../api/wire.ts';
import type { ObjectMetricName } from './definitions.ts';
import { type ObjectSeries, objectLabels, withLabel } from './object-series.ts';
import { reasonLabel } from './reasons.ts';
import type { Metrics } from './registry.ts';

/** More would make one scrape of many sandboxes costly; a test counts them. */
export const MAX_SERIES_PER_SANDBOX = 25;
/** With every condition and all that the guest tells. */
export const MAX_SERIES_PER_SANDBOX_IN_DETAIL = 65;
/** Written in one turn of the event loop: about 2 ms of work. */
const SANDBOXES_PER_TURN = 100;

/** What operators are woken for. The others say where in its life a sandbox is, as its phase does, and are details. */
const MAIN_CONDITIONS: readonly SandboxConditionType[] = [
  'Ready',
  'ImageReady',
  'VolumesReady',
  'AgentConnected',
  'Finished',
  'RestartRequired',
  'Stalled',
];

/** True in all that run, and said by their phase: not worth two of every twenty lines of a scrape. */
const UNTOLD_WHILE_TRUE: readonly string[] = ['ImageReady', 'VolumesReady'] satisfies SandboxConditionType[];

/** What the guest says of itself, as far as it can be true. */
export interface GuestFigures {
  memoryUsedBytes?: number;
  memoryAvailableBytes?: number;
  /** Of its root. */
  fileSystem?: { usedBytes: number; limitBytes: number; inodesUsed: number; inodes: number };
  detail: {
    cpuSeconds: Readonly<Record<'user' | 'system' | 'idle' | 'iowait' | 'steal', number>>;
    memoryCachedBytes: number;
    /** 0 to 1, over the last 10 s. */
    pressure: Readonly<Record<'cpu' | 'memory' | 'io', number>>;
    load: Readonly<Record<'1m' | '5m' | '15m', number>>;
    processes: number;
    uptimeSeconds: number;
  };
}

/** What is known of one sandbox. Figures that are absent have no series. */
export interface SandboxFigures {
  namespace: string;
  name: string;
  node: string;
  /** As in the spec. */
  image: string;
  /** Empty until one was chosen. */
  driver: string;
  phase: string;
  conditions: readonly { type: string; status: 'True' | 'False' | 'Unknown' }[];
  restarts: number;
  /** Of the host; absent while no VM runs. */
  vm?: VmFigures;
  /** Unix time; absent while no VM runs. */
  vmStartSeconds?: number;
  /** As the guest said last; absent when that is too long ago. */
  guest?: GuestFigures;
  /** As its gateway counts; absent while it has no network. */
  egress?: { denied: number; decisions: Readonly<Record<string, number>>; connections: number };
  /** Why the host keeps its VM from running now. */
  stalledFor?: string;
}

/** Gives the last samples of all sandboxes, read over several turns of the event loop. It must not wait for a guest or a VM. */
export type SandboxFiguresProvider = () => Iterable<SandboxFigures>;

const OF_VM = Object.entries({
  sandbox_cpu_usage_seconds_total: 'cpuSeconds',
  sandbox_memory_resident_bytes: 'memoryBytes',
  sandbox_memory_limit_bytes: 'memoryLimitBytes',
  sandbox_fs_reads_bytes_total: 'diskReadBytes',
  sandbox_fs_writes_bytes_total: 'diskWriteBytes',
  sandbox_network_receive_bytes_total: 'networkReceiveBytes',
  sandbox_network_transmit_bytes_total: 'networkTransmitBytes',
  sandbox_network_receive_packets_total: 'networkReceivePackets',
  sandbox_network_transmit_packets_total: 'networkTransmitPackets',
} as const satisfies Partial<Record<ObjectMetricName, keyof VmFigures>>) as [
  ObjectMetricName,
  keyof VmFigures,
][];

/** Writes the series of all sandboxes from `provider` at each scrape; `detail` adds what few boards need. */
export function collectSandboxes(
  metrics: Metrics,
  provider: SandboxFiguresProvider,
  { detail = false }: { detail?: boolean } = {},
): void {
  metrics.collectObjects(async (series) => {
    let written = 0;
    const stalls: string[] = [];
    for (const figures of provider()) {
      report(series, figures, detail);
      if (figures.stalledFor !== undefined) stalls.push(figures.stalledFor);
      written += 1;
      if (written % SANDBOXES_PER_TURN === 0) await turn();
    }
    reportStalls(metrics, stalls);
  });
}

/** One series for each reason, not for each sandbox: none stalls without a condition of its own. */
function reportStalls(metrics: Metrics, reasons: readonly string[]): void {
  const gauge = metrics.gauge('sandbox_vms_stalled');
  gauge.reset();
  // Always there, so that an alert on it has something to look at.
  gauge.set({ reason: ERRORS.DISK_FULL.reason }, 0);
  for (const reason of reasons) gauge.inc({ reason: reasonLabel(reason) });
}

function report(series: ObjectSeries, figures: SandboxFigures, detail: boolean): void {
  const { vm, guest } = figures;
  const labels = objectLabels(figures.namespace, figures.name, figures.node);
  const info = withLabel(withLabel(labels, 'image', figures.image), 'driver', figures.driver);
  series.add('sandbox_info', info, 1);
  series.add('sandbox_status_phase', withLabel(labels, 'phase', figures.phase), 1);
  for (const condition of figures.conditions) {
    if (!(detail ? Object.hasOwn(SANDBOX_CONDITIONS, condition.type) : isTold(condition))) continue;
    const labelled = withLabel(labels, 'condition', condition.type);
    series.add('sandbox_status_condition', withLabel(labelled, 'status', condition.status.toLowerCase()), 1);
  }
  series.add('sandbox_restarts_total', labels, figures.restarts);
  series.add('sandbox_vm_start_time_seconds', labels, figures.vmStartSeconds);
  if (vm !== undefined) for (const [metric, field] of OF_VM) series.add(metric, labels, vm[field]);
  series.add('sandbox_egress_denied_total', labels, figures.egress?.denied);
  if (detail && figures.egress !== undefined) reportEgress(series, labels, figures.egress);
  if (guest === undefined) return;
  series.add('sandbox_memory_guest_used_bytes', labels, guest.memoryUsedBytes);
  series.add('sandbox_memory_guest_available_bytes', labels, guest.memoryAvailableBytes);
  series.add('sandbox_fs_guest_used_bytes', labels, guest.fileSystem?.usedBytes);
  series.add('sandbox_fs_guest_limit_bytes', labels, guest.fileSystem?.limitBytes);
  if (detail) reportGuest(series, labels, guest);
}

function reportEgress(
  series: ObjectSeries,
  labels: string,
  { decisions, connections }: NonNullable<SandboxFigures['egress']>,
): void {
  for (const [key, count] of Object.entries(decisions)) {
    const [layer = '', result = ''] = key.split('/');
    series.add(
      'sandbox_egress_decisions_total',
      withLabel(withLabel(labels, 'layer', layer), 'result', result),
      count,
    );
  }
  series.add('sandbox_egress_connections', labels, connections);
}

function reportGuest(series: ObjectSeries, labels: string, { detail, fileSystem }: GuestFigures): void {
  for (const [mode, seconds] of Object.entries(detail.cpuSeconds)) {
    series.add('sandbox_cpu_guest_seconds_total', withLabel(labels, 'mode', mode), seconds);
  }
  for (const [resource, ratio] of Object.entries(detail.pressure)) {
    series.add('sandbox_pressure_guest_ratio', withLabel(labels, 'resource', resource), ratio);
  }
  for (const [period, load] of Object.entries(detail.load)) {
    series.add('sandbox_load_guest', withLabel(labels, 'period', period), load);
  }
  series.add('sandbox_memory_guest_cached_bytes', labels, detail.memoryCachedBytes);
  series.add('sandbox_fs_guest_inodes', labels, fileSystem?.inodes);
  series.add('sandbox_fs_guest_inodes_used', labels, fileSystem?.inodesUsed);
  series.add('sandbox_processes_guest', labels, detail.processes);
  series.add('sandbox_uptime_guest_seconds', labels, detail.uptimeSeconds);
}

function isTold({ type, status }: SandboxFigures['conditions'][number]): boolean {
  if (status === 'True' && UNTOLD_WHILE_TRUE.includes(type)) return false;
  return (MAIN_CONDITIONS as readonly string[]).includes(type);
}
