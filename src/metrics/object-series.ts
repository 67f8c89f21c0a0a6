// Series of objects (sandboxes, volumes), written as text at each scrape. prom-client keeps every series in maps of its own,
// which takes several times as long with the thousands of them that the objects of one node have.
import { setImmediate as turn } from 'node:timers/promises';
import { METRICS, type MetricDefinition, type ObjectMetricName } from './definitions.ts';
import { escapeLabel, type Format, heading } from './formats.ts';

/** With fewer it is not worth a turn of the event loop. */
const LINES_PER_TURN = 100;

/** The labels that every series of one object begins with, as text. */
export function objectLabels(namespace: string, name: string, node: string): string {
  return `namespace="${escapeLabel(namespace)}",name="${escapeLabel(name)}",node="${escapeLabel(node)}"`;
}

/** One more label behind others. */
export function withLabel(labels: string, name: string, value: string): string {
  return `${labels},${name}="${escapeLabel(value)}"`;
}

/** Negative and broken figures are left out: they could only be misread. */
export function isFigure(value: number | undefined): value is number {
  return value !== undefined && Number.isFinite(value) && value >= 0;
}

/** The series of one scrape, by metric. */
export class ObjectSeries {
  readonly #lines = new Map<ObjectMetricName, string[]>();

  /** `labels` as `objectLabels` and `withLabel` give them. Figures that are none have no series. */
  add(name: ObjectMetricName, labels: string, value: number | undefined): void {
    if (!isFigure(value)) return;
    const line = `${name}{${labels}} ${value}`;
    const lines = this.#lines.get(name);
    if (lines === undefined) this.#lines.set(name, [line]);
    else lines.push(line);
  }

  /** One block of text per metric that has series. */
  async blocks(): Promise<SeriesBlock[]> {
    const blocks: SeriesBlock[] = [];
    for (const [name, lines] of this.#lines) {
      blocks.push({ name, text: `${lines.join('\n')}\n` });
      // Thousands of lines are a millisecond of work: others have their turn between two metrics.
      if (lines.length > LINES_PER_TURN) await turn();
    }
    return blocks;
  }
}

/** All series of one metric, as text: the same in each format. */
export interface SeriesBlock {
  name: ObjectMetricName;
  text: string;
}

/** A block with what stands before it. */
export function blockText(format: Format, { name, text }: SeriesBlock): string {
  const { help, type }: MetricDefinition = METRICS[name];
  return heading(format, name, type, help) + text;
}
