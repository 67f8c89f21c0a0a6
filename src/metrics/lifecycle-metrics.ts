// Starts and ends of sandboxes, as they happen. All but `firstExec` are what the Sandbox reconciler asks for.
import { reasonLabel, stageLabel } from './reasons.ts';
import type { Metrics } from './registry.ts';

export type Launch = 'cold' | 'warm';

export class LifecycleMetrics {
  readonly #metrics: Metrics;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
    metrics.counter('sandbox_starts_total').inc({ result: 'success', reason: '' }, 0);
    metrics.gauge('shim_orphans').set(0);
  }

  /** A start succeeded; milliseconds by stage, which follow one another. */
  started(launch: Launch, stages: Readonly<Record<string, number>>): void {
    this.#metrics.counter('sandbox_starts_total').inc({ result: 'success', reason: '' });
    const durations = this.#metrics.histogram('sandbox_start_duration_seconds');
    let total = 0;
    for (const [stage, milliseconds] of Object.entries(stages)) {
      durations.observe({ launch, stage: stageLabel(stage) }, milliseconds / 1000);
      total += milliseconds;
    }
    durations.observe({ launch, stage: 'total' }, total / 1000);
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
  firstExec(launch: Launch, seconds: number): void {
    this.#metrics.histogram('sandbox_time_to_first_exec_seconds').observe({ launch }, seconds);
  }
}
