// The page of `bulkhead status`: what runs, what does not and why, what is near a limit, and what to do. Text from figures.
import { ageOf } from '../api/age.ts';
import { ERRORS } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { DoctorCheck } from '../api/wire.ts';
import type { EventObject } from '../client/client.ts';
import type { Sample } from '../client/samples.ts';
import { formatBytes } from './output/bytes.ts';
import { printable, Table } from './output/table.ts';
import { conditionsOf } from './waiting.ts';

export interface Facts {
  version: string;
  sandboxes: readonly StoredObject[];
  volumes: readonly StoredObject[];
  /** Newest last. */
  warnings: readonly EventObject[];
  samples: readonly Sample[];
  checks: readonly DoctorCheck[];
}

/** Lines of one section; the rest is counted. */
const MOST_LINES = 20;
const MOST_WARNINGS = 5;
/** Earlier than the alerts, so that a person who looks sees it come. */
const NEAR = 0.85;
/** They are not Ready, and that is as it should be. */
const AT_REST = ['Suspended', 'Succeeded'];

/** One thing that a person should know, and what to do about it. */
interface Finding {
  what: string;
  why: string;
  act: string;
}

export function statusPage(facts: Facts, now: number): string {
  const troubles = [...checkTroubles(facts.checks), ...objectTroubles(facts)];
  const limits = nearLimits(facts.samples);
  return [
    summary(facts, now),
    section('Not as it should be', troubles, 'Everything that should run runs.'),
    section('Near a limit', limits, 'Nothing is near a limit.'),
    warningsText(facts.warnings, now),
  ].join('\n');
}

function summary({ version, sandboxes, volumes, samples }: Facts, now: number): string {
  const began = figure(samples, 'process_start_time_seconds');
  const up = began === undefined ? '' : `, up ${ageOf(new Date(began * 1000).toISOString(), now)}`;
  const rows = [
    ['Daemon', `version ${version}${up}`],
    ['Sandboxes', counts(sandboxes)],
    ['Volumes', counts(volumes)],
    ...nodeRows(samples),
  ];
  return new Table(['', ''], { showHeader: false }).format(rows);
}

function counts(objects: readonly StoredObject[]): string {
  const byPhase = new Map<string, number>();
  for (const object of objects) byPhase.set(phaseOf(object), (byPhase.get(phaseOf(object)) ?? 0) + 1);
  const phases = [...byPhase].sort(([, a], [, b]) => b - a).map(([phase, count]) => `${count} ${phase}`);
  return objects.length === 0 ? 'none' : `${objects.length}: ${phases.join(', ')}`;
}

function phaseOf(object: StoredObject): string {
  const { phase } = (object.status ?? {}) as { phase?: unknown };
  return typeof phase === 'string' ? phase : 'Pending';
}

function nodeRows(samples: readonly Sample[]): string[][] {
  const memory = figure(samples, 'node_sandbox_allocatable_memory_bytes');
  const host = figure(samples, 'node_sandbox_capacity_memory_bytes') ?? 0;
  const given = figure(samples, 'node_sandbox_allocated_memory_bytes') ?? 0;
  const vcpus = figure(samples, 'node_sandbox_allocated_vcpus') ?? 0;
  const cpus = figure(samples, 'node_sandbox_allocatable_vcpus') ?? 0;
  const used = sumOf(samples, 'sandbox_memory_resident_bytes');
  const rows: string[][] = [];
  if (memory !== undefined) {
    rows.push([
      'Memory',
      `${formatBytes(given)} of ${formatBytes(memory)} given to sandboxes; they use ${formatBytes(used)} of the host's ${formatBytes(host)}`,
    ]);
    rows.push(['CPUs', `${vcpus} virtual ones given to sandboxes, the host has ${cpus}`]);
  }
  for (const { labels, value } of samples.filter(({ name }) => name === STORAGE_LEFT)) {
    const size = figure(samples, 'node_sandbox_storage_size_bytes', labels) ?? 0;
    rows.push([`Disk (${labels.store})`, `${formatBytes(value)} of ${formatBytes(size)} left`]);
  }
  return rows;
}

const STORAGE_LEFT = 'node_sandbox_storage_available_bytes';

function checkTroubles(checks: readonly DoctorCheck[]): Finding[] {
  return checks
    .filter(({ status }) => status !== 'ok')
    .map(({ name, message, fix }) => ({ what: name, why: message, act: fix ?? 'bulkhead doctor' }));
}

function objectTroubles({ sandboxes, volumes }: Facts): Finding[] {
  return [...sandboxes, ...volumes].flatMap((object) => {
    const { kind, metadata } = object;
    const conditions = conditionsOf(object);
    const ready = conditions.find(({ type }) => type === 'Ready');
    const what = `${kind.toLowerCase()} ${metadata.namespace}/${metadata.name}`;
    const show = `bulkhead describe ${kind.toLowerCase()} ${metadata.name} -n ${metadata.namespace}`;
    const found: Finding[] = [];
    if (ready === undefined) found.push({ what, why: 'nothing has looked after it yet', act: show });
    else if (ready.status !== 'True' && !AT_REST.includes(phaseOf(object))) {
      const hint = Object.values(ERRORS).find(({ reason }) => reason === ready.reason)?.hint;
      found.push({ what, why: `${phaseOf(object)}, ${ready.reason}: ${ready.message}`, act: hint ?? show });
    }
    const pending = conditions.find(({ type, status }) => type === 'RestartRequired' && status === 'True');
    if (pending !== undefined) {
      const act = `bulkhead restart ${metadata.name} -n ${metadata.namespace}`;
      found.push({ what, why: pending.message, act });
    }
    return found;
  });
}

function nearLimits(samples: readonly Sample[]): Finding[] {
  const found: Finding[] = [];
  const percent = (ratio: number) => `${Math.round(ratio * 100)} %`;
  const perObject = (name: string, visit: (sample: Sample, whose: string) => void) => {
    for (const sample of samples.filter((each) => each.name === name))
      visit(sample, `${sample.labels.namespace}/${sample.labels.name}`);
  };
  perObject('sandbox_memory_guest_used_bytes', ({ labels, value }, whose) => {
    const total = value + (figure(samples, 'sandbox_memory_guest_available_bytes', labels) ?? 0);
    if (value / total <= NEAR) return;
    const why = `its guest uses ${percent(value / total)} of ${formatBytes(total)} of memory`;
    found.push({ what: `sandbox ${whose}`, why, act: 'raise spec.resources.memory and restart it' });
  });
  perObject('sandbox_fs_guest_used_bytes', ({ labels, value }, whose) => {
    const size = figure(samples, 'sandbox_fs_guest_limit_bytes', labels) ?? 0;
    if (value / size <= NEAR) return;
    const why = `its root disk of ${formatBytes(size)} is ${percent(value / size)} full`;
    found.push({ what: `sandbox ${whose}`, why, act: 'raise spec.resources.disk and restart it' });
  });
  perObject('volume_used_bytes', ({ labels, value }, whose) => {
    const size = value + (figure(samples, 'volume_available_bytes', labels) ?? 0);
    if (value / size <= NEAR) return;
    const why = `its ${formatBytes(size)} are ${percent(value / size)} full`;
    found.push({ what: `volume ${whose}`, why, act: 'raise spec.capacity' });
  });
  const memory = figure(samples, 'node_sandbox_allocatable_memory_bytes') ?? 0;
  const given = figure(samples, 'node_sandbox_allocated_memory_bytes') ?? 0;
  if (given / memory > NEAR) {
    const why = `sandboxes were given ${percent(given / memory)} of the memory that they may be given`;
    found.push({ what: 'node', why, act: 'suspend sandboxes that nobody needs' });
  }
  const host = figure(samples, 'node_sandbox_capacity_memory_bytes') ?? 0;
  const used = sumOf(samples, 'sandbox_memory_resident_bytes');
  if (used / host > NEAR) {
    const why = `sandboxes use ${percent(used / host)} of the host's memory`;
    found.push({ what: 'node', why, act: 'bulkhead top -A --sort memory, and suspend what nobody needs' });
  }
  for (const { labels, value } of samples.filter(({ name }) => name === STORAGE_LEFT)) {
    const size = figure(samples, 'node_sandbox_storage_size_bytes', labels) ?? 0;
    if (1 - value / size <= NEAR) continue;
    const why = `the file system of the ${labels.store} has ${formatBytes(value)} left`;
    found.push({ what: 'node', why, act: 'bulkhead image prune, or make it larger' });
  }
  return found;
}

function section(title: string, findings: readonly Finding[], nothing: string): string {
  if (findings.length === 0) return `${nothing}\n`;
  const lines = findings
    .slice(0, MOST_LINES)
    .map(({ what, why, act }) => `  ${printable(what)}: ${printable(why)}\n    -> ${printable(act)}\n`);
  const more = findings.length - lines.length;
  return `${title} (${findings.length}):\n${lines.join('')}${more > 0 ? `  and ${more} more\n` : ''}`;
}

function warningsText(warnings: readonly EventObject[], now: number): string {
  const last = warnings.slice(-MOST_WARNINGS);
  if (last.length === 0) return 'No warnings.\n';
  const rows = last.map(({ lastTimestamp, reason, involvedObject, message }) => [
    `  ${ageOf(lastTimestamp, now)}`,
    reason,
    `${involvedObject.kind.toLowerCase()} ${involvedObject.namespace}/${involvedObject.name}`,
    message,
  ]);
  const table = new Table(['  AGE', 'REASON', 'OBJECT', 'MESSAGE'], { showHeader: true });
  return `Last warnings (bulkhead events -A --types Warning shows all):\n${table.format(rows)}`;
}

/** The value of the series with these labels, or of the first of the name. */
function figure(
  samples: readonly Sample[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const wanted = Object.entries(labels);
  return samples.find(
    (sample) => sample.name === name && wanted.every(([label, value]) => sample.labels[label] === value),
  )?.value;
}

function sumOf(samples: readonly Sample[], name: string): number {
  return samples.reduce((sum, sample) => (sample.name === name ? sum + sample.value : sum), 0);
}
