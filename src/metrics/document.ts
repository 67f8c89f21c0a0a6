// Writes docs/metrics.md from the definitions. Run by tools/generate.sh.
import { writeFileSync } from 'node:fs';
import { METRICS, type MetricDefinition } from './definitions.ts';
import { Metrics } from './registry.ts';
import { MAX_SERIES_PER_SANDBOX, MAX_SERIES_PER_SANDBOX_IN_DETAIL } from './sandbox-collector.ts';

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
    'Who asks for OpenMetrics in the header `Accept`, as Prometheus does, gets it: the same series, and in the buckets of starts and',
    'first commands the last of each as an exemplar: `trace_id` where the daemon has a `--trace-endpoint`, else `namespace` and `name`.',
    'Prometheus keeps exemplars with `--enable-feature=exemplar-storage`.',
    '',
    `A sandbox has at most ${MAX_SERIES_PER_SANDBOX} series (${MAX_SERIES_PER_SANDBOX_IN_DETAIL} with \`--metrics-detail\`); they are written at each scrape, and go with the`,
    'sandbox. Values of `reason`, `stage` and `condition` come from fixed lists.',
    '',
    'Figures of sandboxes have three sources, and the text of each names its own:',
    '',
    "- the VMM's process and its cgroup, as the host's kernel counts them. No guest can change what they say;",
    "- the TAP of the VM, on the host's side;",
    '- the guest agent. These are claims of the guest, asked for every 15 s. Those that cannot be true (more memory than it',
    '  was given) or are older than a minute have no series. A scrape never waits for a guest.',
    '',
    'Figures of the host outlive the daemon: a new one goes on where the former stopped. What counts events in the daemon',
    'itself (`sandbox_starts_total`, the histograms, `controller_runtime_*`) starts at 0 with `process_start_time_seconds`.',
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
