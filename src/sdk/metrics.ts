// Figures of a running sandbox, measured on the host.
import type { SandboxStats } from '../api/wire.ts';
import { webReadable } from './web.ts';

export interface SandboxMetrics {
  /** 100 is one CPU; since the figures before, or since the start for the first ones. */
  cpuPercent: number;
  memoryBytes: number;
  memoryLimitBytes: number;
  diskReadBytes: number;
  diskWriteBytes: number;
  netRxBytes: number;
  netTxBytes: number;
  uptimeMs: number;
  timestampMs: number;
}

/** CPU time at an instant, from which the next percentage counts. */
export interface CpuMark {
  seconds: number;
  atMs: number;
}

export function toMetrics(stats: SandboxStats, former?: CpuMark): { metrics: SandboxMetrics; mark: CpuMark } {
  const { vm } = stats;
  const atMs = Date.parse(stats.timestamp);
  const startedMs = Date.parse(stats.startedAt);
  const from = former ?? { seconds: 0, atMs: startedMs };
  const elapsedMs = atMs - from.atMs;
  const metrics = {
    cpuPercent: elapsedMs > 0 ? Math.max(0, ((vm.cpuSeconds - from.seconds) * 100_000) / elapsedMs) : 0,
    memoryBytes: vm.memoryBytes,
    memoryLimitBytes: vm.memoryLimitBytes,
    diskReadBytes: vm.diskReadBytes,
    diskWriteBytes: vm.diskWriteBytes,
    netRxBytes: vm.networkReceiveBytes,
    netTxBytes: vm.networkTransmitBytes,
    uptimeMs: Math.max(0, atMs - startedMs),
    timestampMs: atMs,
  };
  return { metrics, mark: { seconds: vm.cpuSeconds, atMs } };
}

/** Figures at an interval, for as long as they are asked for. */
export class MetricsStream implements AsyncIterable<SandboxMetrics> {
  readonly #source: AsyncGenerator<SandboxMetrics, void>;

  readonly #stop: AbortController;

  /** `stop` ends the wait for the next figures. */
  constructor(source: AsyncGenerator<SandboxMetrics, void>, stop: AbortController) {
    this.#source = source;
    this.#stop = stop;
  }

  /** The next figures; `null` once the sandbox has ended. */
  async recv(): Promise<SandboxMetrics | null> {
    const next = await this.#source.next();
    return next.done ? null : next.value;
  }

  [Symbol.asyncIterator](): AsyncIterator<SandboxMetrics> {
    return this.#source;
  }

  /** As a web stream. */
  toWeb(): ReadableStream<SandboxMetrics> {
    return webReadable<SandboxMetrics>(this);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#source.return();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
