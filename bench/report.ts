// How a bench shows its figures: min, median, max and n of each, then ratios beside what is aimed at.
import { argv, stdout } from 'node:process';

/** `max`: at most so much; `min`: at least. */
export type Aim = { max: number } | { min: number };

interface Summary {
  name: string;
  unit: string;
  min: number;
  median: number;
  max: number;
  n: number;
  aim?: Aim;
}

interface Ratio {
  name: string;
  value: number;
  aim?: Aim;
}

const NAME_WIDTH = 50;
const FIGURE_WIDTH = 10;

/** Mean of the middle two where the count is even. NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** The value that so many percent of all do not exceed. NaN of nothing. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil((sorted.length * percent) / 100) - 1] ?? Number.NaN;
}

/** The first argument that is no flag as a count, or `fallback`. */
export function countArgument(fallback: number): number {
  const given = argv.slice(2).find((word) => !word.startsWith('--'));
  const count = Number(given ?? fallback);
  if (!Number.isInteger(count) || count < 1) throw new Error(`expected a count, found "${given}"`);
  return count;
}

/** Collects figures and prints them once: a table, or one JSON document with `--json` among the arguments. */
export class Report {
  readonly #title: string;
  readonly #summaries: Summary[] = [];
  readonly #ratios: Ratio[] = [];
  readonly #notes: string[] = [];

  constructor(title: string) {
    this.#title = title;
  }

  /** A series of measurements of one thing; an aim applies to its median. */
  series(name: string, unit: string, values: readonly number[], aim?: Aim): void {
    if (values.length === 0) throw new Error(`nothing was measured: ${name}`);
    const [min, max] = [Math.min(...values), Math.max(...values)];
    const summary = { name, unit, min, median: median(values), max, n: values.length };
    this.#summaries.push(aim === undefined ? summary : { ...summary, aim });
  }

  /** The ratio of two medians. */
  ratio(name: string, of: readonly number[], to: readonly number[], aim?: Aim): void {
    const ratio = { name, value: median(of) / median(to) };
    this.#ratios.push(aim === undefined ? ratio : { ...ratio, aim });
  }

  /** What a reader has to know beside the figures. */
  note(text: string): void {
    this.#notes.push(text);
  }

  print(): void {
    stdout.write(argv.includes('--json') ? this.#json() : this.#table());
  }

  #json(): string {
    return `${JSON.stringify({ title: this.#title, series: this.#summaries, ratios: this.#ratios, notes: this.#notes }, undefined, 2)}\n`;
  }

  #table(): string {
    const head = ['min', 'median', 'max', 'n'].map((word) => word.padStart(FIGURE_WIDTH)).join('');
    const lines = [`${this.#title.padEnd(NAME_WIDTH)}${head}`];
    for (const { name, unit, min, median: middle, max, n, aim } of this.#summaries) {
      const figures = [figure(min), figure(middle), figure(max), String(n)];
      const columns = figures.map((text) => text.padStart(FIGURE_WIDTH)).join('');
      lines.push(`${`${name}, ${unit}`.padEnd(NAME_WIDTH)}${columns}${verdict(middle, aim)}`);
    }
    for (const { name, value, aim } of this.#ratios) {
      const column = value.toFixed(2).padStart(2 * FIGURE_WIDTH);
      lines.push(`${`ratio of medians: ${name}`.padEnd(NAME_WIDTH)}${column}${verdict(value, aim)}`);
    }
    return `${[...lines, ...this.#notes].join('\n')}\n`;
  }
}

function figure(value: number): string {
  return value.toFixed(value < 1000 ? 1 : 0);
}

function verdict(value: number, aim: Aim | undefined): string {
  if (aim === undefined) return '';
  const [met, text] =
    'max' in aim ? [value <= aim.max, `at most ${aim.max}`] : [value >= aim.min, `at least ${aim.min}`];
  return `   aim ${text}: ${met ? 'met' : 'MISSED'}`;
}
