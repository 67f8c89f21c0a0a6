// The rules as Prometheus reads them.
import { dump } from 'js-yaml';
import { ALERTS } from './alerts.ts';
import { recordingRules } from './recording.ts';
import { timesAt } from './times.ts';

/** Where a runbook is, from the root of the project. */
export function runbookPath(alert: string): string {
  return `docs/runbooks/${alert}.md`;
}

/** A rules file. `speed`: every duration that many times as short. */
export function renderRules({ speed = 1 }: { speed?: number } = {}): string {
  const times = timesAt(speed);
  const alerts = ALERTS.map(({ name, severity, expr, forMinutes, summary, description }) => ({
    alert: name,
    expr: expr(times),
    ...(forMinutes === 0 ? {} : { for: times.minutes(forMinutes) }),
    labels: { severity },
    annotations: { summary, description, runbook_url: runbookPath(name) },
  }));
  const groups = [
    { name: 'bulkhead.recording', rules: recordingRules(times) },
    { name: 'bulkhead.alerts', rules: alerts },
  ];
  return dump({ groups }, { lineWidth: -1, noRefs: true });
}
