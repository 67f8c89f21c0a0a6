// The one registry: makes prom-client's metrics from the list of definitions, by name and with checked labels. Series of
// objects are no matter of prom-client's, see object-series.ts.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import {
  isObjectMetric,
  type LabelsOf,
  METRICS,
  type MetricDefinition,
  type MetricName,
  type NamesOf,
  type ObjectMetricName,
} from './definitions.ts';
import { ObjectSeries } from './object-series.ts';

/** Gauges of prom-client's with a counter's name, which Prometheus' lint refuses; the same without `_total` break them down. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
] as const;

type Plain<Name extends MetricName> = Exclude<Name, ObjectMetricName>;

export class Metrics {
  readonly #registry = new Registry();
  readonly #counters = new Map<string, Counter>();
  readonly #gauges = new Map<string, Gauge>();
  readonly #histograms = new Map<string, Histogram>();
  readonly #collectors: (() => void | Promise<void>)[] = [];
  /** What each collector of objects wrote last. */
  readonly #blocks: string[][] = [];
  /** The scrape under way: scrapes at the same time share one, as collectors rewrite what they fill. */
  #scrape: Promise<string> | undefined;

  constructor() {
    for (const [name, definition] of Object.entries(METRICS)) {
      if (!isObjectMetric(name)) this.#register(name, definition);
    }
  }

  /** Adds prom-client's process_* and nodejs_*. They keep an event-loop monitor running until the process ends. */
  collectProcessMetrics(): void {
    collectDefaultMetrics({ register: this.#registry });
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
  }

  counter<Name extends Plain<NamesOf<'counter'>>>(name: Name): Counter<LabelsOf<Name>> {
    return this.#find(this.#counters, name);
  }

  gauge<Name extends Plain<NamesOf<'gauge'>>>(name: Name): Gauge<LabelsOf<Name>> {
    return this.#find(this.#gauges, name);
  }

  histogram<Name extends NamesOf<'histogram'>>(name: Name): Histogram<LabelsOf<Name>> {
    return this.#find(this.#histograms, name);
  }

  /** Calls `collect` before each scrape. One that fails leaves its metrics as they were and the others alone. */
  onScrape(collect: () => void | Promise<void>): void {
    this.#collectors.push(collect);
  }

  /** The same for series of objects, which `collect` adds anew each time: an object that is gone has none. */
  collectObjects(collect: (series: ObjectSeries) => void | Promise<void>): void {
    const index = this.#blocks.push([]) - 1;
    this.onScrape(async () => {
      const series = new ObjectSeries();
      await collect(series);
      this.#blocks[index] = await series.blocks();
    });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All metrics in Prometheus' text format. */
  scrape(): Promise<string> {
    this.#scrape ??= this.#collect().finally(() => {
      this.#scrape = undefined;
    });
    return this.#scrape;
  }

  /** Name, type and help of what prom-client holds, the process's own included. */
  async describe(): Promise<{ name: string; type: string; help: string }[]> {
    const all = await this.#registry.getMetricsAsJSON();
    return all.map(({ name, type, help }) => ({ name, type: String(type), help }));
  }

  async #collect(): Promise<string> {
    await Promise.allSettled(this.#collectors.map(async (collect) => collect()));
    return [await this.#registry.metrics(), ...this.#blocks.flat()].join('');
  }

  #register(name: string, { type, help, labels, buckets }: MetricDefinition): void {
    const configuration = { name, help, labelNames: [...labels], registers: [this.#registry] };
    if (type === 'counter') this.#counters.set(name, new Counter(configuration));
    else if (type === 'gauge') this.#gauges.set(name, new Gauge(configuration));
    else this.#histograms.set(name, new Histogram({ ...configuration, buckets: [...(buckets ?? [])] }));
  }

  #find<M>(metrics: ReadonlyMap<string, M>, name: MetricName): M {
    const metric = metrics.get(name);
    if (metric === undefined) throw new Error(`${name} is not registered as this type of metric.`);
    return metric;
  }
}
