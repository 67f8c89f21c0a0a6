// The controller runtime's figures under controller-runtime's names. The shapes are those of src/controller/metrics.ts.
import type { Metrics } from './registry.ts';

type ReconcileResult = 'success' | 'error' | 'requeue' | 'requeue_after';

const RESULTS: readonly ReconcileResult[] = ['success', 'error', 'requeue', 'requeue_after'];

/** Figures of one controller. Its counters exist from the start, at 0, so that rates see the first increase. */
export class ControllerMetricsRecorder {
  readonly #metrics: Metrics;
  readonly #controller: { controller: string };

  constructor(metrics: Metrics, controller: string) {
    this.#metrics = metrics;
    this.#controller = { controller };
    for (const result of RESULTS) {
      metrics.counter('controller_runtime_reconcile_total').inc({ controller, result }, 0);
    }
    for (const name of [
      'controller_runtime_reconcile_errors_total',
      'controller_runtime_terminal_reconcile_errors_total',
      'controller_runtime_reconcile_panics_total',
      'controller_runtime_reconcile_timeouts_total',
    ] as const) {
      metrics.counter(name).inc(this.#controller, 0);
    }
    this.activeWorkers(0);
  }

  maxConcurrentReconciles(workers: number): void {
    this.#metrics.gauge('controller_runtime_max_concurrent_reconciles').set(this.#controller, workers);
  }

  activeWorkers(workers: number): void {
    this.#metrics.gauge('controller_runtime_active_workers').set(this.#controller, workers);
  }

  reconciled(result: ReconcileResult, seconds: number): void {
    this.#metrics.counter('controller_runtime_reconcile_total').inc({ ...this.#controller, result });
    this.#metrics.histogram('controller_runtime_reconcile_time_seconds').observe(this.#controller, seconds);
    if (result === 'error') {
      this.#metrics.counter('controller_runtime_reconcile_errors_total').inc(this.#controller);
    }
  }

  terminalError(): void {
    this.#metrics.counter('controller_runtime_terminal_reconcile_errors_total').inc(this.#controller);
  }

  panic(): void {
    this.#metrics.counter('controller_runtime_reconcile_panics_total').inc(this.#controller);
  }

  timeout(): void {
    this.#metrics.counter('controller_runtime_reconcile_timeouts_total').inc(this.#controller);
  }
}

/** Figures of one work queue. */
export class QueueMetricsRecorder {
  readonly #metrics: Metrics;
  readonly #name: { name: string };

  constructor(metrics: Metrics, name: string) {
    this.#metrics = metrics;
    this.#name = { name };
    this.depth(0);
    metrics.counter('workqueue_adds_total').inc(this.#name, 0);
    metrics.counter('workqueue_retries_total').inc(this.#name, 0);
  }

  depth(keys: number): void {
    this.#metrics.gauge('workqueue_depth').set(this.#name, keys);
  }

  added(): void {
    this.#metrics.counter('workqueue_adds_total').inc(this.#name);
  }

  waited(seconds: number): void {
    this.#metrics.histogram('workqueue_queue_duration_seconds').observe(this.#name, seconds);
  }

  worked(seconds: number): void {
    this.#metrics.histogram('workqueue_work_duration_seconds').observe(this.#name, seconds);
  }

  retried(): void {
    this.#metrics.counter('workqueue_retries_total').inc(this.#name);
  }

  observeUnfinished(read: () => { totalSeconds: number; longestSeconds: number }): void {
    this.#metrics.onScrape(() => {
      const { totalSeconds, longestSeconds } = read();
      this.#metrics.gauge('workqueue_unfinished_work_seconds').set(this.#name, totalSeconds);
      this.#metrics.gauge('workqueue_longest_running_processor_seconds').set(this.#name, longestSeconds);
    });
  }
}
