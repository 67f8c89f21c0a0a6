// Starts and ends of sandboxes, as they happen.
import { reasonLabel, stageLabel } from './reasons.ts';
import type { ExemplarLabels, Metrics } from './registry.ts';

const LAUNCHES = ['cold', 'warm'] as const;
export type Launch = (typeof LAUNCHES)[number];

export class LifecycleMetrics {
  readonly #metrics: Metrics;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
    metrics.counter('sandbox_starts_total').inc({ result: 'success', reason: '' }, 0);
    metrics.gauge('shim_orphans').set(0);
    // From the beginning: a series that comes with its first start has no increase of that one.
    for (const launch of LAUNCHES) {
      metrics.zero('sandbox_start_duration_seconds', { launch, stage: 'total' });
    }
  }

  /** A start succeeded; milliseconds by stage, which follow one another. `exemplar` says which start it was. */
  started(launch: Launch, stages: Readonly<Record<string, number>>, exemplar: ExemplarLabels): void {
    this.#metrics.counter('sandbox_starts_total').inc({ result: 'success', reason: '' });
    const observe = (stage: string, milliseconds: number): void =>
      this.#metrics.observe(
        'sandbox_start_duration_seconds',
        { launch, stage },
        milliseconds / 1000,
        exemplar,
      );
    for (const [stage, milliseconds] of Object.entries(stages)) observe(stageLabel(stage), milliseconds);
    observe(
      'total',
      Object.values(stages).reduce((sum, milliseconds) => sum + milliseconds, 0),
    );
  }

  startFailed(reason: string): void {
    this.#metrics.counter('sandbox_starts_total').inc({ result: 'failure', reason: reasonLabel(reason) });
  }

  terminated(reason: string): void {
    this.#metrics.counter('sandbox_terminations_total').inc({ reason: reasonLabel(reason) });
  }

  /** Directories without an object that the last sweep could not clean up. */
  orphans(count: number): void {
    this.#metrics.gauge('shim_orphans').set(count);
  }

  /** The first command of a sandbox runs, so long after the sandbox was started. */
  firstExec(launch: Launch, seconds: number, exemplar: ExemplarLabels): void {
    this.#metrics.observe('sandbox_time_to_first_exec_seconds', { launch }, seconds, exemplar);
  }
}
