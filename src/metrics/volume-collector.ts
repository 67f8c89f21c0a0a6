// Series of each volume, made anew at each scrape: a volume that is gone has none.
import type { ObjectMetricName } from './definitions.ts';
import { objectLabels, withLabel } from './object-series.ts';
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
} as const satisfies Partial<Record<ObjectMetricName, keyof VolumeFigures>>;

const entries = Object.entries(GAUGES) as [keyof typeof GAUGES, (typeof GAUGES)[keyof typeof GAUGES]][];

/** Writes the series of all volumes from `provider` at each scrape. */
export function collectVolumes(metrics: Metrics, provider: () => Iterable<VolumeFigures>): void {
  metrics.collectObjects((series) => {
    for (const figures of provider()) {
      const { namespace, name, node, accessMode, reclaimPolicy, phase } = figures;
      const labels = objectLabels(namespace, name, node);
      const modes = withLabel(withLabel(labels, 'access_mode', accessMode), 'reclaim_policy', reclaimPolicy);
      series.add('volume_info', withLabel(modes, 'phase', phase), 1);
      for (const [metric, field] of entries) series.add(metric, labels, figures[field]);
    }
  });
}

const CHECK_RESULTS = ['Clean', 'Recovered', 'Repaired', 'Damaged'] as const;
type CheckResult = (typeof CHECK_RESULTS)[number];

/** What happens to volumes, as it happens. */
export class VolumeMetricsRecorder {
  readonly #metrics: Metrics;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
    metrics.counter('volume_quota_exceeded_total').inc(0);
    for (const result of CHECK_RESULTS) metrics.counter('volume_checks_total').inc({ result }, 0);
  }

  checked(result: CheckResult): void {
    this.#metrics.counter('volume_checks_total').inc({ result });
  }

  quotaExceeded(): void {
    this.#metrics.counter('volume_quota_exceeded_total').inc();
  }
}
