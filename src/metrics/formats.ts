// The two text formats that Prometheus reads, and which of them an asker wants. Prometheus itself asks for OpenMetrics first: it
// alone carries exemplars. The older text is for everybody else.
import type { MetricObjectWithValues, MetricValue } from 'prom-client';

export type Format = 'text' | 'openmetrics';

export const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

/** What prom-client gives, as far as it is written; its types leave out names of parts and exemplars. */
type Family = MetricObjectWithValues<MetricValue<string>>;
interface Value extends MetricValue<string> {
  metricName?: string;
  exemplar?: { labelSet: Readonly<Record<string, string | number>>; value: number; timestamp: number } | null;
}

/** By an HTTP header Accept: OpenMetrics where it is named and nothing that the text fits is preferred to it. */
export function formatFor(accept: string | undefined): Format {
  let [open, text] = [0, 0];
  for (const range of accept?.split(',') ?? []) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const given = new Map(parameters.map((part) => [part.split('=')[0], part.split('=')[1]] as const));
    const quality = Number(given.get('q') ?? 1);
    const weight = Number.isFinite(quality) ? quality : 0;
    const version = given.get('version');
    if (type === 'application/openmetrics-text' && (version ?? '1.0.0') === '1.0.0') {
      open = Math.max(open, weight);
    } else if (['text/plain', 'text/*', '*/*'].includes(type)) text = Math.max(text, weight);
  }
  return open > 0 && open >= text ? 'openmetrics' : 'text';
}

/** The lines that stand before the series of a metric. `name` as in the definitions, of a counter with `_total`. */
export function heading(format: Format, name: string, type: string, help: string): string {
  const escaped = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
  if (format === 'text') return `# HELP ${name} ${escaped}\n# TYPE ${name} ${type}\n`;
  const family = type === 'counter' ? name.replace(/_total$/, '') : name;
  return `# TYPE ${family} ${type}\n# HELP ${family} ${escaped.replaceAll('"', '\\"')}\n`;
}

/** What stands at the end of a whole text. */
export function ending(format: Format): string {
  return format === 'openmetrics' ? '# EOF\n' : '';
}

/**
 * What prom-client holds, as text. Its registry writes text too, but one format alone, and renames its counters for good as it
 * writes OpenMetrics. Bounds of buckets are written as in the older text (`le="1"`): a series must not change its name with the
 * format.
 */
export function familiesText(format: Format, families: readonly Family[]): string {
  return families.map((family) => familyText(format, family)).join('');
}

function familyText(format: Format, { name, type, help, values }: Family): string {
  const lines = (values as readonly Value[]).map(({ metricName, labels, value, exemplar }) => {
    const line = `${metricName ?? name}${braced(labels)} ${numberText(value)}`;
    if (format === 'text' || exemplar === undefined || exemplar === null) return `${line}\n`;
    const { labelSet, value: seen, timestamp } = exemplar;
    return `${line} # ${braced(labelSet) || '{}'} ${numberText(seen)} ${timestamp}\n`;
  });
  return heading(format, name, String(type), help) + lines.join('');
}

function braced(labels: Readonly<Record<string, string | number | undefined>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(String(value))}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function numberText(value: number): string {
  if (Number.isFinite(value) || Number.isNaN(value)) return String(value);
  return value < 0 ? '-Inf' : '+Inf';
}

/** The rule of both formats: backslash, quote and line break are escaped, everything else stands for itself. */
export function escapeLabel(value: string): string {
  return /["\\\n]/.test(value)
    ? value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
    : value;
}
