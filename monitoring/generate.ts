// Writes the rules, boards and runbook pages from their definitions. Run by tools/generate.sh.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { boards } from './boards/boards.ts';
import { ALERTS, type Alert, LEFT_OUT } from './rules/alerts.ts';
import { recordingRules } from './rules/recording.ts';
import { renderRules, runbookPath } from './rules/render.ts';
import { timesAt } from './rules/times.ts';

const PROJECT = join(import.meta.dirname, '..');
const MARK = '<!-- Generated from monitoring/ by `make generate`; changes belong there. -->';

function runbook({
  name,
  severity,
  expr,
  forMinutes,
  summary,
  runbook: { meaning, diagnose, act },
}: Alert): string {
  return [
    `# ${name}`,
    '',
    MARK,
    '',
    `${summary} Severity: ${severity}.`,
    '',
    '## What it means',
    '',
    meaning,
    '',
    '## See what it is',
    '',
    ...diagnose.map((command) => `    ${command}`),
    '',
    '## What to do',
    '',
    ...act.map((step) => `- ${step}`),
    '',
    '## When it fires',
    '',
    `${forMinutes === 0 ? 'At once' : `After ${forMinutes} minutes`} of:`,
    '',
    `    ${expr(timesAt(1))}`,
    '',
  ].join('\n');
}

function overview(): string {
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [
    '# Monitoring',
    '',
    MARK,
    '',
    'The daemon serves its [metrics](metrics.md) at `/metrics`. `monitoring/` has what makes use of them:',
    '',
    '- `prometheus/bulkhead.rules.yaml`: recording rules and alerts, for `rule_files` of Prometheus. The job of the daemon has to',
    '  be named `bulkhead`.',
    '- `grafana/*.json`: boards, for import into Grafana or its folder of provisioned dashboards.',
    '',
    '```yaml',
    'rule_files: [bulkhead.rules.yaml]',
    'scrape_configs:',
    '  - job_name: bulkhead',
    '    scrape_interval: 15s',
    '    static_configs: [{ targets: ["127.0.0.1:9464"] }]',
    '```',
    '',
    'Without Prometheus, `bulkhead status` tells what runs, what does not and why, and what is near a limit; `bulkhead top --watch`',
    'shows who uses the node.',
    '',
    '## In a cluster',
    '',
    'With `metrics.enabled=true` the chart serves `/metrics` of controllers and agents at port 9465 over TLS, to those whom the RBAC of',
    'the cluster lets get that path. Each token goes to the API server, as a TokenReview and a SubjectAccessReview; a yes is kept for a',
    'minute, a no for ten seconds. Without a token that the cluster knows the answer is 401, without the right 403. Let Prometheus in:',
    '',
    '    kubectl create clusterrolebinding bulkhead-metrics --clusterrole bulkhead-system-bulkhead-metrics-reader \\',
    '      --serviceaccount NAMESPACE:ACCOUNT',
    '',
    'For the Prometheus operator there are `metrics.serviceMonitor.enabled` and `metrics.prometheusRule.enabled`, for the sidecar of Grafana',
    '`metrics.dashboards.enabled`; all are off by default. Another Prometheus finds both parts by their Services:',
    '',
    '```yaml',
    'scrape_configs:',
    '  - job_name: bulkhead',
    '    scheme: https',
    '    tls_config: { insecure_skip_verify: true } # or ca_file, with metrics.tlsSecret',
    '    authorization: { credentials_file: /var/run/secrets/kubernetes.io/serviceaccount/token }',
    '    kubernetes_sd_configs: [{ role: endpoints, namespaces: { names: [bulkhead-system] } }]',
    '    relabel_configs:',
    '      - { source_labels: [__meta_kubernetes_endpoint_port_name], regex: metrics, action: keep }',
    '```',
    '',
    'On the node itself the agent serves the same without TLS, on the loopback address alone, as `node.metricsAddress` says.',
    '',
    '`kubectl top` does not show sandboxes, and Bulkhead does not serve `metrics.k8s.io`: an API server has one server for that group, which',
    "is the cluster's own, and it knows Pods and Nodes alone. VMs run beside the Pods that hold their places, which use nothing. So who wants",
    'an autoscaler to look at sandboxes gives it `sandbox_cpu_usage_seconds_total` and the like from Prometheus, as `custom.metrics.k8s.io`.',
    '',
    '## Traces and logs',
    '',
    '`bulkhead daemon --trace-endpoint http://127.0.0.1:4318` sends a trace of each start to an OpenTelemetry collector (OTLP over HTTP,',
    'JSON): a span for the whole and one for each stage, as in `bulkhead describe`. They name sandbox, image, driver and, where a start',
    'fails, the reason; never a command, a variable or a message. Headers that the collector wants, such as a token, stand in the',
    'variable `OTEL_EXPORTER_OTLP_HEADERS`. While the collector does not answer, traces wait in a bounded queue, then are dropped.',
    '',
    'The log is JSON, a line each. What belongs to a reconcile has `reconcile` (the id of the attempt), `controller`, `object` and `uid`:',
    '',
    '    journalctl -u bulkhead -o cat | jq -c \'select(.object.name == "NAME")\'',
    '',
    '## Alerts',
    '',
    row(['Alert', 'Severity', 'After', 'Says']),
    row(['---', '---', '---', '---']),
    ...ALERTS.map(({ name, severity, forMinutes, summary }) =>
      row([
        `[${name}](runbooks/${name}.md)`,
        severity,
        forMinutes === 0 ? 'at once' : `${forMinutes} min`,
        summary,
      ]),
    ),
    '',
    'Not among them:',
    '',
    ...Object.entries(LEFT_OUT).map(([name, why]) => `- ${name}: ${why}.`),
    '',
    '## Recording rules',
    '',
    ...recordingRules(timesAt(1)).map(({ record }) => `- \`${record}\``),
    '',
    '## Boards',
    '',
    ...boards().map(({ title, description }) => `- ${title}: ${description}`),
    '',
    'Drawn by `tools/render-boards.ts` from the boards themselves and the data of a Prometheus that scraped a daemon with a few busy',
    'sandboxes for some minutes; in Grafana they look much the same.',
    '',
    ...boards().flatMap(({ file, title }) => [`![Board ${title}](${picturePath(file)})`, '']),
  ].join('\n');
}

/** Beside docs/monitoring.md. */
function picturePath(file: string): string {
  return `boards/${file.replace(/\.json$/, '.svg')}`;
}

function write(path: string, text: string): void {
  writeFileSync(join(PROJECT, path), text);
}

/** Removes generated files that have no source any more. */
function keepOnly(folder: string, names: readonly string[]): void {
  mkdirSync(join(PROJECT, folder), { recursive: true });
  for (const name of readdirSync(join(PROJECT, folder)))
    if (!names.includes(name)) rmSync(join(PROJECT, folder, name));
}

keepOnly(
  'docs/runbooks',
  ALERTS.map(({ name }) => `${name}.md`),
);
for (const alert of ALERTS) write(runbookPath(alert.name), runbook(alert));
write('docs/monitoring.md', overview());
write('monitoring/prometheus/bulkhead.rules.yaml', `# Generated from monitoring/rules.\n${renderRules()}`);
keepOnly(
  'monitoring/grafana',
  boards().map(({ file }) => file),
);
for (const { file, board } of boards())
  write(`monitoring/grafana/${file}`, `${JSON.stringify(board, undefined, 2)}\n`);
