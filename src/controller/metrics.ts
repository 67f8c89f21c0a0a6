// What the runtime measures, with the meaning that controller-runtime gives it. src/metrics implements these.

/** Work that was handed out and not finished yet. */
export interface UnfinishedWork {
  /** Sum over all keys being worked on. */
  totalSeconds: number;
  /** Of the key worked on longest. */
  longestSeconds: number;
}

export interface QueueMetrics {
  /** Keys that could be worked on now. */
  depth(keys: number): void;
  added(): void;
  /** A key was handed out after so long in the queue. */
  waited(seconds: number): void;
  /** A key was finished after so long. */
  worked(seconds: number): void;
  /** A key was put back after a failure. */
  retried(): void;
  /** Called once by the queue: how to read what is unfinished at the time of a scrape. */
  observeUnfinished(read: () => UnfinishedWork): void;
}

/** `result` label of `controller_runtime_reconcile_total`. */
export type ReconcileResult = 'success' | 'error' | 'requeue' | 'requeue_after';

export interface ControllerMetrics {
  maxConcurrentReconciles(workers: number): void;
  activeWorkers(workers: number): void;
  reconciled(result: ReconcileResult, seconds: number): void;
  /** Counted besides `reconciled('error')`. */
  terminalError(): void;
  /** The reconciler threw what is no error of ours: a defect. */
  panic(): void;
  timeout(): void;
}

const ignore = (): void => undefined;

export const noQueueMetrics: QueueMetrics = {
  depth: ignore,
  added: ignore,
  waited: ignore,
  worked: ignore,
  retried: ignore,
  observeUnfinished: ignore,
};

export const noControllerMetrics: ControllerMetrics = {
  maxConcurrentReconciles: ignore,
  activeWorkers: ignore,
  reconciled: ignore,
  terminalError: ignore,
  panic: ignore,
  timeout: ignore,
};
