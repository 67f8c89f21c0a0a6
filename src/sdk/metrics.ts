// Figures of a running sandbox, measured on the host.
import { setTimeout as delay } from 'node:timers/promises';
import { asBulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { SandboxStats } from '../api/wire.ts';
import { type CallOptions, type Connection, connectionOf } from './connection.ts';
import { withDaemon } from './daemon.ts';
import { typed, withTypedErrors } from './errors.ts';
import { sandboxStatusOf } from './objects.ts';
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

  static open(
    connection: Connection,
    name: string,
    intervalMs: number,
    signal: AbortSignal | undefined,
  ): MetricsStream {
    const stop = new AbortController();
    const ended = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
    return new MetricsStream(figuresOf(connection, name, intervalMs, ended), stop);
  }

  /** `stop` ends the wait for the next figures. */
  private constructor(source: AsyncGenerator<SandboxMetrics, void>, stop: AbortController) {
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

async function* figuresOf(
  { client, namespace }: Connection,
  name: string,
  intervalMs: number,
  signal: AbortSignal,
): AsyncGenerator<SandboxMetrics, void> {
  let former: CpuMark | undefined;
  while (!signal.aborted) {
    try {
      const { metrics, mark } = toMetrics(await client.stats(namespace, name, signal), former);
      former = mark;
      yield metrics;
    } catch (error) {
      if (signal.aborted) return;
      if (['NOT_FOUND', 'SANDBOX_NOT_RUNNING'].includes(asBulkheadError(error).code)) return;
      throw typed(error);
    }
    await delay(intervalMs, undefined, { signal }).catch(() => {}); // whoever stops it waits for nothing
  }
}

/** Figures of every running sandbox, by name. */
export async function allSandboxMetrics(options: CallOptions = {}): Promise<Record<string, SandboxMetrics>> {
  const connection = await withTypedErrors(() => connectionOf(options));
  const { client, namespace } = connection;
  return withTypedErrors(async () => {
    const { signal } = options;
    const query = { namespace, ...(signal === undefined ? {} : { signal }) };
    const { items } = await withDaemon(connection, () => client.list(SANDBOX_KIND, query), signal);
    const running = items.filter((object) => sandboxStatusOf(object) === 'running');
    const figures = await Promise.all(
      running.map(async ({ metadata: { name } }) => {
        try {
          return [[name, toMetrics(await client.stats(namespace, name, signal)).metrics] as const];
        } catch (error) {
          // It ended meanwhile.
          if (['NOT_FOUND', 'SANDBOX_NOT_RUNNING', 'AGENT_UNREACHABLE'].includes(asBulkheadError(error).code))
            return [];
          throw error;
        }
      }),
    );
    return Object.fromEntries(figures.flat());
  });
}
