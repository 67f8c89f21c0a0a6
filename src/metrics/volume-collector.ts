// Series of each volume, made anew at each scrape: a volume that is gone has none.
import type { NamesOf } from './definitions.ts';
import type { Metrics } from './registry.ts';

/** What is known of one volume. Figures that are absent have no series. */
export interface VolumeFigures {
  namespace: string;
  name: string;
  node: string;
  accessMode: string;
  reclaimPolicy: string;
  phase: string;
  users: number;
  capacityBytes?: number;
  usedBytes?: number;
  availableBytes?: number;
  inodes?: number;
  inodesUsed?: number;
  diskBytes?: number;
}

const GAUGES = {
  volume_capacity_bytes: 'capacityBytes',
  volume_used_bytes: 'usedBytes',
  volume_available_bytes: 'availableBytes',
  volume_inodes: 'inodes',
  volume_inodes_used: 'inodesUsed',
  volume_disk_bytes: 'diskBytes',
  volume_users: 'users',
} as const satisfies Partial<Record<NamesOf<'gauge'>, keyof VolumeFigures>>;

const entries = Object.entries(GAUGES) as [keyof typeof GAUGES, (typeof GAUGES)[keyof typeof GAUGES]][];

/** Fills the per-volume metrics from `provider` at each scrape. */
export function collectVolumes(metrics: Metrics, provider: () => Iterable<VolumeFigures>): void {
  metrics.onScrape(() => {
    // Read before anything is dropped: should it fail, the former figures stay.
    const all = [...provider()];
    metrics.gauge('volume_info').reset();
    for (const [name] of entries) metrics.gauge(name).reset();
    for (const figures of all) {
      const { namespace, name, node, accessMode, reclaimPolicy, phase } = figures;
      const labels = { namespace, name, node };
      metrics
        .gauge('volume_info')
        .set({ ...labels, access_mode: accessMode, reclaim_policy: reclaimPolicy, phase }, 1);
      for (const [metric, field] of entries) {
        const value = figures[field];
        if (value !== undefined) metrics.gauge(metric).set(labels, value);
      }
    }
  });
}

/** What happens to volumes, as it happens. */
export class VolumeMetricsRecorder {
  readonly #metrics: Metrics;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
    metrics.counter('volume_quota_exceeded_total').inc(0);
  }

  checked(result: 'Clean' | 'Recovered' | 'Repaired' | 'Damaged'): void {
    this.#metrics.counter('volume_checks_total').inc({ result });
  }

  quotaExceeded(): void {
    this.#metrics.counter('volume_quota_exceeded_total').inc();
  }
}
