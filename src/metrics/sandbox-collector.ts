// Series of each sandbox, made anew at each scrape: a sandbox that is gone has none.
import { SANDBOX_CONDITIONS, type SandboxConditionType } from '../api/conditions.ts';
import { ERRORS } from '../api/errors.ts';
import type { VmFigures } from '../api/wire.ts';
import type { NamesOf } from './definitions.ts';
import { reasonLabel } from './reasons.ts';
import type { Metrics } from './registry.ts';

/** More would make one scrape of many sandboxes costly; a test counts them. */
export const MAX_SERIES_PER_SANDBOX = 25;
/** The folder source has figures of its own for broken manifests; with one more series here the bound would be passed. */
const UNCOUNTED_CONDITION: SandboxConditionType = 'SourceInvalid';

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
  /** As the guest said last. */
  guestMemoryUsedBytes?: number;
  /** Why the host keeps its VM from running now. */
  stalledFor?: string;
}

/** Gives the last samples of all sandboxes. Called at each scrape: it must not wait for a guest or a VM. */
export type SandboxFiguresProvider = () => Iterable<SandboxFigures>;

const VM_COUNTERS = {
  sandbox_cpu_usage_seconds_total: 'cpuSeconds',
  sandbox_network_receive_bytes_total: 'networkReceiveBytes',
  sandbox_network_transmit_bytes_total: 'networkTransmitBytes',
  sandbox_network_receive_packets_total: 'networkReceivePackets',
  sandbox_network_transmit_packets_total: 'networkTransmitPackets',
  sandbox_fs_reads_bytes_total: 'diskReadBytes',
  sandbox_fs_writes_bytes_total: 'diskWriteBytes',
} as const satisfies Partial<Record<NamesOf<'counter'>, keyof VmFigures>>;

const VM_GAUGES = {
  sandbox_memory_resident_bytes: 'memoryBytes',
  sandbox_memory_limit_bytes: 'memoryLimitBytes',
} as const satisfies Partial<Record<NamesOf<'gauge'>, keyof VmFigures>>;

const OWN_GAUGES = [
  'sandbox_info',
  'sandbox_status_phase',
  'sandbox_status_condition',
  'sandbox_memory_guest_used_bytes',
] as const;

function entries<Name extends string, Field>(table: Readonly<Record<Name, Field>>): [Name, Field][] {
  return Object.entries(table) as [Name, Field][];
}

/** A negative or broken figure would make prom-client throw and take the whole scrape with it. */
function isFigure(value: number | undefined): value is number {
  return value !== undefined && Number.isFinite(value) && value >= 0;
}

/** Fills the per-sandbox metrics from `provider` at each scrape. */
export function collectSandboxes(metrics: Metrics, provider: SandboxFiguresProvider): void {
  metrics.onScrape(() => {
    // Read before anything is dropped: should it fail, the former figures stay.
    const all = [...provider()];
    reset(metrics);
    for (const figures of all) report(metrics, figures);
    reportStalls(metrics, all);
  });
}

function reset(metrics: Metrics): void {
  for (const name of OWN_GAUGES) metrics.gauge(name).reset();
  for (const [name] of entries(VM_GAUGES)) metrics.gauge(name).reset();
  for (const [name] of entries(VM_COUNTERS)) metrics.counter(name).reset();
  metrics.counter('sandbox_restarts_total').reset();
}

/** One series for each reason, not for each sandbox: none stalls without a condition of its own. */
function reportStalls(metrics: Metrics, all: readonly SandboxFigures[]): void {
  const gauge = metrics.gauge('sandbox_vms_stalled');
  gauge.reset();
  // Always there, so that an alert on it has something to look at.
  gauge.set({ reason: ERRORS.DISK_FULL.reason }, 0);
  for (const { stalledFor } of all)
    if (stalledFor !== undefined) gauge.inc({ reason: reasonLabel(stalledFor) });
}

function report(metrics: Metrics, figures: SandboxFigures): void {
  const { namespace, name, node, vm } = figures;
  const labels = { namespace, name, node };
  metrics.gauge('sandbox_info').set({ ...labels, image: figures.image, driver: figures.driver }, 1);
  metrics.gauge('sandbox_status_phase').set({ ...labels, phase: figures.phase }, 1);
  for (const { type, status } of figures.conditions) {
    if (!Object.hasOwn(SANDBOX_CONDITIONS, type) || type === UNCOUNTED_CONDITION) continue;
    metrics
      .gauge('sandbox_status_condition')
      .set({ ...labels, condition: type, status: status.toLowerCase() }, 1);
  }
  if (isFigure(figures.restarts)) metrics.counter('sandbox_restarts_total').inc(labels, figures.restarts);
  if (isFigure(figures.guestMemoryUsedBytes)) {
    metrics.gauge('sandbox_memory_guest_used_bytes').set(labels, figures.guestMemoryUsedBytes);
  }
  if (vm === undefined) return;
  for (const [metric, field] of entries(VM_GAUGES)) {
    if (isFigure(vm[field])) metrics.gauge(metric).set(labels, vm[field]);
  }
  for (const [metric, field] of entries(VM_COUNTERS)) {
    if (isFigure(vm[field])) metrics.counter(metric).inc(labels, vm[field]);
  }
}
