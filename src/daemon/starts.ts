// What is told of starts: metrics, and a trace of each where traces are wanted. The trace of a start is what its observations in
// the histograms refer to; without traces they name the sandbox.
import type { LifecycleMetrics } from '../metrics/lifecycle-metrics.ts';
import type { ExemplarLabels } from '../metrics/registry.ts';
import type { SandboxMetrics, SandboxStart } from '../reconcilers/sandbox/dependencies.ts';
import type { FinishedStart, StartTraces } from '../tracing/start-traces.ts';
import type { VmHandle } from '../vmm/driver.ts';

interface Place {
  namespace: string;
  name: string;
}

export class Starts implements SandboxMetrics {
  readonly #metrics: LifecycleMetrics;
  readonly #traces: StartTraces | undefined;
  readonly #now: () => number;
  readonly #traceIds = new WeakMap<VmHandle, string>();

  /** `now` in Unix time, milliseconds. */
  constructor(metrics: LifecycleMetrics, traces: StartTraces | undefined, now: () => number) {
    this.#metrics = metrics;
    this.#traces = traces;
    this.#now = now;
  }

  started(start: SandboxStart, vm: VmHandle): void {
    const traceId = this.#traces?.record({ ...this.#finished(start), launch: vm.launch });
    if (traceId !== undefined) this.#traceIds.set(vm, traceId);
    this.#metrics.started(vm.launch, start.stages, this.#exemplar(vm, start.sandbox.metadata));
  }

  startFailed(start: SandboxStart, reason: string): void {
    this.#traces?.record({ ...this.#finished(start), failure: reason });
    this.#metrics.startFailed(reason);
  }

  terminated(reason: string): void {
    this.#metrics.terminated(reason);
  }

  orphans(count: number): void {
    this.#metrics.orphans(count);
  }

  /** The first command of a sandbox runs, so many seconds after its VM was started. */
  firstExec(vm: VmHandle, place: Place, seconds: number): void {
    this.#metrics.firstExec(vm.launch, seconds, this.#exemplar(vm, place));
  }

  #finished({ sandbox: { metadata, spec }, stages, driver, run }: SandboxStart): FinishedStart {
    return {
      namespace: metadata.namespace,
      name: metadata.name,
      uid: metadata.uid,
      image: spec.image,
      stages,
      endedAt: this.#now(),
      ...(driver === undefined ? {} : { driver }),
      ...(run === undefined ? {} : { run }),
    };
  }

  #exemplar(vm: VmHandle, { namespace, name }: Place): ExemplarLabels {
    const traceId = this.#traceIds.get(vm);
    return traceId === undefined ? { namespace, name } : { trace_id: traceId };
  }
}
