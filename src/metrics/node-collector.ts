// What the node has, what sandboxes were given of it, and what the layer between Node.js and the host reports.
import type { Metrics } from './registry.ts';

export interface NodeFigures {
  /** Of the host. */
  capacity: { memoryBytes: number };
  /** To all sandboxes together. */
  allocatable: { memoryBytes: number; vcpus: number };
  /** To VMs that run. */
  allocated: { memoryBytes: number; vcpus: number };
  /** File systems that the daemon writes to, by what it keeps there. Absent where one did not answer. */
  storage: Readonly<Record<string, { sizeBytes: number; availableBytes: number } | undefined>>;
  /** Calls of libvmm that failed since the daemon started, by call. */
  failedCalls: ReadonlyMap<string, number>;
}

/** Sets the node's metrics from `read` at each scrape. */
export function collectNode(metrics: Metrics, read: () => Promise<NodeFigures>): void {
  metrics.onScrape(async () => {
    const { capacity, allocatable, allocated, storage, failedCalls } = await read();
    metrics.gauge('node_sandbox_capacity_memory_bytes').set(capacity.memoryBytes);
    metrics.gauge('node_sandbox_allocatable_memory_bytes').set(allocatable.memoryBytes);
    metrics.gauge('node_sandbox_allocatable_vcpus').set(allocatable.vcpus);
    metrics.gauge('node_sandbox_allocated_memory_bytes').set(allocated.memoryBytes);
    metrics.gauge('node_sandbox_allocated_vcpus').set(allocated.vcpus);
    for (const [store, figures] of Object.entries(storage)) {
      if (figures === undefined) continue;
      metrics.gauge('node_sandbox_storage_size_bytes').set({ store }, figures.sizeBytes);
      metrics.gauge('node_sandbox_storage_available_bytes').set({ store }, figures.availableBytes);
    }
    const failures = metrics.counter('shim_ffi_errors_total');
    failures.reset();
    for (const [call, count] of failedCalls) failures.inc({ call }, count);
  });
}
