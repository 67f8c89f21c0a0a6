// The one registry: makes prom-client's metrics from the list of definitions, by name and with checked labels. Series of
// objects are no matter of prom-client's, see object-series.ts.
import {
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type OpenMetricsContentType,
  Registry,
} from 'prom-client';
import {
  type ExemplarName,
  isObjectMetric,
  type LabelsOf,
  METRICS,
  type MetricDefinition,
  type MetricName,
  type NamesOf,
  type ObjectMetricName,
} from './definitions.ts';
import { CONTENT_TYPES, ending, type Format, familiesText } from './formats.ts';
import { blockHeading, ObjectSeries, type SeriesBlock } from './object-series.ts';

/** Gauges of prom-client's with a counter's name, which Prometheus' lint refuses; the same without `_total` break them down. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
] as const;

/** More characters than these, names and values together, OpenMetrics forbids in one exemplar. */
const MOST_EXEMPLAR_CHARACTERS = 128;

/** What an exemplar says about its observation. */
export type ExemplarLabels = Readonly<Record<string, string>>;

/** All metrics in one format. */
export interface Exposition {
  contentType: string;
  body: Buffer;
}

type Plain<Name extends MetricName> = Exclude<Name, ObjectMetricName>;

export class Metrics {
  readonly #registry = new Registry<OpenMetricsContentType>();
  readonly #counters = new Map<string, Counter>();
  readonly #gauges = new Map<string, Gauge>();
  readonly #histograms = new Map<string, Histogram>();
  readonly #collectors: (() => void | Promise<void>)[] = [];
  /** What each collector of objects wrote last. */
  readonly #blocks: SeriesBlock[][] = [];
  /** The collection under way: scrapes at the same time share one, as collectors rewrite what they fill. */
  #collection: Promise<void> | undefined;

  /** `names`: the metrics that this program has; those without labels would else be there as 0. */
  constructor(names = /./) {
    // prom-client wants it for exemplars; the text is ours, see formats.ts.
    this.#registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    for (const [name, definition] of Object.entries(METRICS)) {
      if (names.test(name) && !isObjectMetric(name)) this.#register(name, definition);
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

  histogram<Name extends Exclude<NamesOf<'histogram'>, ExemplarName>>(name: Name): Histogram<LabelsOf<Name>> {
    return this.#find(this.#histograms, name);
  }

  /** An observation in a histogram with exemplars. One that is too long for its format is left out. */
  observe<Name extends ExemplarName>(
    name: Name,
    labels: Partial<Record<LabelsOf<Name>, string>>,
    value: number,
    exemplar: ExemplarLabels,
  ): void {
    const characters = Object.entries(exemplar).reduce((sum, pair) => sum + pair.join('').length, 0);
    const exemplarLabels = characters > MOST_EXEMPLAR_CHARACTERS ? {} : exemplar;
    this.#find(this.#histograms, name).observe({ labels, value, exemplarLabels });
  }

  /** Series of a histogram with exemplars from before its first observation, which else would be no increase. */
  zero<Name extends ExemplarName>(name: Name, labels: Record<LabelsOf<Name>, string>): void {
    this.#find(this.#histograms, name).zero(labels);
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

  /** Reads everything anew. Collectors that fail leave their metrics as they were. */
  collect(): Promise<void> {
    this.#collection ??= this.#collect().finally(() => {
      this.#collection = undefined;
    });
    return this.#collection;
  }

  /** All metrics as they were collected last. */
  async write(format: Format): Promise<Exposition> {
    const own = familiesText(format, await this.#registry.getMetricsAsJSON());
    const blocks = this.#blocks
      .flat()
      .flatMap(({ name, lines }) => [Buffer.from(blockHeading(format, name)), lines]);
    const body = Buffer.concat([Buffer.from(own), ...blocks, Buffer.from(ending(format))]);
    return { contentType: CONTENT_TYPES[format], body };
  }

  /** Both: all metrics as they are now. */
  async scrape(format: Format = 'text'): Promise<string> {
    await this.collect();
    return (await this.write(format)).body.toString();
  }

  /** Name, type and help of what prom-client holds, the process's own included. */
  async describe(): Promise<{ name: string; type: string; help: string }[]> {
    const all = await this.#registry.getMetricsAsJSON();
    return all.map(({ name, type, help }) => ({ name, type: String(type), help }));
  }

  async #collect(): Promise<void> {
    await Promise.allSettled(this.#collectors.map(async (collect) => collect()));
  }

  #register(name: string, { type, help, labels, buckets, exemplars }: MetricDefinition): void {
    const configuration = { name, help, labelNames: [...labels], registers: [this.#registry] };
    if (type === 'counter') this.#counters.set(name, new Counter(configuration));
    else if (type === 'gauge') this.#gauges.set(name, new Gauge(configuration));
    else {
      const enableExemplars = exemplars === true;
      const histogram = new Histogram({ ...configuration, buckets: [...(buckets ?? [])], enableExemplars });
      this.#histograms.set(name, histogram);
    }
  }

  #find<M>(metrics: ReadonlyMap<string, M>, name: MetricName): M {
    const metric = metrics.get(name);
    if (metric === undefined) throw new Error(`${name} is not registered as this type of metric.`);
    return metric;
  }
}
