// Series of objects (sandboxes, volumes), written as text at each scrape. prom-client keeps every series in maps of its own,
// which takes several times as long with the thousands of them that the objects of one node have.
import { setImmediate as turn } from 'node:timers/promises';
import { METRICS, type MetricDefinition, type ObjectMetricName } from './definitions.ts';
import { escapeLabel, type Format, heading } from './formats.ts';

/** Written in one turn of the event loop: about a millisecond of work. */
const LINES_PER_TURN = 2_000;
/** A metric with fewer is not worth a turn of its own. */
const FEW_LINES = 100;

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
  /** Labels and value, in turns: lines are put together when all are known, in a third of the time that strings for each take. */
  readonly #series = new Map<ObjectMetricName, (string | number)[]>();

  /** `labels` as `objectLabels` and `withLabel` give them. Figures that are none have no series. */
  add(name: ObjectMetricName, labels: string, value: number | undefined): void {
    if (!isFigure(value)) return;
    const series = this.#series.get(name);
    if (series === undefined) this.#series.set(name, [labels, value]);
    else series.push(labels, value);
  }

  /** One block of text per metric that has series. */
  async blocks(): Promise<SeriesBlock[]> {
    const blocks: SeriesBlock[] = [];
    for (const [name, series] of this.#series) {
      const parts: Buffer[] = [];
      for (let from = 0; from < series.length; from += 2 * LINES_PER_TURN) {
        parts.push(linesOf(name, series, from, Math.min(from + 2 * LINES_PER_TURN, series.length)));
        if (series.length > 2 * FEW_LINES) await turn();
      }
      blocks.push({
        name,
        lines: parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts),
      });
    }
    return blocks;
  }
}

function linesOf(name: string, series: readonly (string | number)[], from: number, to: number): Buffer {
  let text = '';
  for (let index = from; index < to; index += 2) text += `${name}{${series[index]}} ${series[index + 1]}\n`;
  return Buffer.from(text);
}

/** All series of one metric, as text: the same in each format. */
export interface SeriesBlock {
  name: ObjectMetricName;
  lines: Buffer;
}

/** What stands before a block. */
export function blockHeading(format: Format, name: ObjectMetricName): string {
  const { help, type }: MetricDefinition = METRICS[name];
  return heading(format, name, type, help);
}
