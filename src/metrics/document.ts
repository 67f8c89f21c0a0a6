// Writes docs/metrics.md from the definitions. Run by tools/generate.sh.
import { writeFileSync } from 'node:fs';
import { METRICS, type MetricDefinition } from './definitions.ts';
import { Metrics } from './registry.ts';
import { MAX_SERIES_PER_SANDBOX } from './sandbox-collector.ts';

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function code(words: readonly string[]): string {
  return words.map((word) => `\`${word}\``).join(' ');
}

/** The page about all metrics, in Markdown. */
export async function metricsPage(): Promise<string> {
  const metrics = new Metrics();
  metrics.collectProcessMetrics();
  const own: [string, MetricDefinition][] = Object.entries(METRICS);
  const names = new Set(own.map(([name]) => name));
  const process = (await metrics.describe())
    .filter(({ name }) => !names.has(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const histograms = own.filter(([, { buckets }]) => buckets !== undefined);
  return `${[
    '# Metrics',
    '',
    '<!-- Generated from src/metrics/definitions.ts by `make generate`; changes belong there. -->',
    '',
    'Served at `/metrics` on the socket, and on TCP with `bulkhead daemon --metrics-address 127.0.0.1:9464`.',
    `A sandbox has at most ${MAX_SERIES_PER_SANDBOX} series; they are collected at each scrape from the last samples, and go`,
    'with the sandbox. Values of `reason`, `stage` and `condition` come from fixed lists.',
    '',
    row(['Name', 'Type', 'Labels', 'Meaning']),
    row(['---', '---', '---', '---']),
    ...own.map(([name, { type, labels, help }]) => row([code([name]), type, code(labels), help])),
    '',
    '## Buckets',
    '',
    ...histograms.map(([name, { buckets }]) => `- ${code([name])}: ${buckets?.join(', ')}`),
    '',
    '## About the process',
    '',
    row(['Name', 'Type', 'Meaning']),
    row(['---', '---', '---']),
    ...process.map(({ name, type, help }) => row([code([name]), type, help])),
  ].join('\n')}\n`;
}

if (import.meta.main) {
  const page = new URL('../../docs/metrics.md', import.meta.url);
  writeFileSync(page, await metricsPage());
}
