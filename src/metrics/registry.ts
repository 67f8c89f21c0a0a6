// The one registry: makes prom-client's metrics from the list of definitions, by name and with checked labels.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import {
  type LabelsOf,
  METRICS,
  type MetricDefinition,
  type MetricName,
  type NamesOf,
} from './definitions.ts';

export class Metrics {
  readonly #registry = new Registry();
  readonly #counters = new Map<string, Counter>();
  readonly #gauges = new Map<string, Gauge>();
  readonly #histograms = new Map<string, Histogram>();
  readonly #collectors: (() => void | Promise<void>)[] = [];
  /** The scrape under way: scrapes at the same time share one, as collectors rewrite what they fill. */
  #scrape: Promise<string> | undefined;

  constructor() {
    for (const [name, definition] of Object.entries(METRICS)) this.#register(name, definition);
  }

  /** Adds prom-client's process_* and nodejs_*. They keep an event-loop monitor running until the process ends. */
  collectProcessMetrics(): void {
    collectDefaultMetrics({ register: this.#registry });
  }

  counter<Name extends NamesOf<'counter'>>(name: Name): Counter<LabelsOf<Name>> {
    return this.#find(this.#counters, name);
  }

  gauge<Name extends NamesOf<'gauge'>>(name: Name): Gauge<LabelsOf<Name>> {
    return this.#find(this.#gauges, name);
  }

  histogram<Name extends NamesOf<'histogram'>>(name: Name): Histogram<LabelsOf<Name>> {
    return this.#find(this.#histograms, name);
  }

  /** Calls `collect` before each scrape. One that fails leaves its metrics as they were and the others alone. */
  onScrape(collect: () => void | Promise<void>): void {
    this.#collectors.push(collect);
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

  /** Name, type and help of everything registered, the process's own included. */
  async describe(): Promise<{ name: string; type: string; help: string }[]> {
    const all = await this.#registry.getMetricsAsJSON();
    return all.map(({ name, type, help }) => ({ name, type: String(type), help }));
  }

  async #collect(): Promise<string> {
    await Promise.allSettled(this.#collectors.map(async (collect) => collect()));
    return this.#registry.metrics();
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
