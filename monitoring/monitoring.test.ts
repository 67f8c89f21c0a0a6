import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { dump } from 'js-yaml';
import { METRICS, type MetricDefinition } from '../src/metrics/definitions.ts';
import { Metrics } from '../src/metrics/registry.ts';
import { boards, queriesOf } from './boards/boards.ts';
import { CASES, promtoolTests } from './rules/alert-cases.ts';
import { ALERTS } from './rules/alerts.ts';
import { recordingRules, SLOW_START_SECONDS } from './rules/recording.ts';
import { renderRules, runbookPath } from './rules/render.ts';
import { timesAt } from './rules/times.ts';

const PROJECT = join(import.meta.dirname, '..');
const RULES = join(import.meta.dirname, 'prometheus', 'bulkhead.rules.yaml');

function promtool(...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync('promtool', args, { encoding: 'utf8' });
  assert.equal(error, undefined, 'promtool comes with the Debian package prometheus');
  assert.equal(status, 0, `${stdout}${stderr}`);
  return stdout;
}

/** Names of everything that can be asked for: our series, prom-client's, and what rules record. */
async function knownNames(): Promise<Set<string>> {
  const metrics = new Metrics();
  metrics.collectProcessMetrics();
  const names = new Set(['up', ...recordingRules(timesAt(1)).map(({ record }) => record)]);
  for (const { name } of await metrics.describe()) names.add(name);
  for (const [name, { type }] of Object.entries(METRICS) as [string, MetricDefinition][]) {
    if (type !== 'histogram') names.add(name);
    else for (const part of ['bucket', 'sum', 'count']) names.add(`${name}_${part}`);
  }
  return names;
}

/** Names of series in a query: what stands before a selector, a range, or an operator, and is no word of the language. */
function namesIn(expr: string): string[] {
  const bare = expr
    .replace(/"[^"]*"/g, '')
    .replace(/\{[^}]*\}/g, '')
    .replace(/\[[^\]]*\]/g, '')
    .replace(/\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)/g, '');
  return [...bare.matchAll(/[a-zA-Z_:][a-zA-Z0-9_:]*/g)]
    .filter(({ 0: word, index }) => !/^\s*\(/.test(bare.slice(index + word.length)))
    .map(([word]) => word)
    .filter((word) => !['and', 'or', 'unless', 'bool', 'offset', 'e'].includes(word));
}

test('rules and boards ask for series that exist, and for nothing else', async () => {
  const known = await knownNames();
  const asked = [
    ...ALERTS.map(({ name, expr }) => [name, expr(timesAt(1))] as const),
    ...recordingRules(timesAt(1)).map(({ record, expr }) => [record, expr] as const),
    ...boards().flatMap(({ title, board }) =>
      queriesOf(board).map(({ panel, expr }) => [`${title}: ${panel}`, expr] as const),
    ),
  ];
  for (const [where, expr] of asked) {
    const names = namesIn(expr);
    assert.ok(names.length > 0, `${where}: ${expr}`);
    for (const name of names) assert.ok(known.has(name), `${where} asks for ${name}`);
  }
});

test('the check of names finds one that does not exist', () => {
  assert.deepEqual(namesIn('sum by (x) (rate(a_total{y="z"}[5m])) / on (q) b:c:d > 0.5 and e_f'), [
    'a_total',
    'b:c:d',
    'e_f',
  ]);
});

test('the bound between quick and slow starts is one of the histogram', () => {
  assert.ok(
    (METRICS.sandbox_start_duration_seconds.buckets as readonly number[]).includes(SLOW_START_SECONDS),
  );
});

test('promtool finds the rules in order, shortened ones too', () => {
  promtool('check', 'rules', RULES);
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-rules-'));
  try {
    const file = join(dir, 'rules.yaml');
    writeFileSync(file, renderRules({ speed: 20 }));
    promtool('check', 'rules', file);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('each alert fires when it should, does not before, and ends; no other fires with it', () => {
  const severities = new Map(ALERTS.map(({ name, severity }) => [name, severity]));
  for (const { name } of ALERTS)
    assert.ok(
      CASES.some(({ alert, fires, quiet }) => {
        const [first = Infinity, last = -1] = [fires[0], fires.at(-1)];
        return alert === name && quiet.some((at) => at < first) && quiet.some((at) => at > last);
      }),
      `${name} has no case before, during and after`,
    );
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-rules-'));
  try {
    const file = join(dir, 'tests.yaml');
    writeFileSync(file, dump(promtoolTests(RULES, severities)));
    promtool('test', 'rules', file);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('each alert says what it is, how bad, and what to do', () => {
  for (const { name, summary, description, severity } of ALERTS) {
    assert.match(name, /^Bulkhead[A-Z]\w+$/);
    assert.match(summary, /^[A-Z].*\.$/);
    assert.match(description, /\.$/);
    assert.ok(['critical', 'warning'].includes(severity));
    assert.ok(existsSync(join(PROJECT, runbookPath(name))), runbookPath(name));
  }
  assert.ok(readFileSync(RULES, 'utf8').endsWith(renderRules()));
});

test('each panel has a title, a unit, a hint and a query', () => {
  for (const { title, board } of boards()) {
    for (const panel of board.panels ?? []) {
      assert.ok('fieldConfig' in panel, `${title} has rows of panels, which this does not look into`);
      assert.notEqual(panel.title ?? '', '');
      assert.notEqual(panel.fieldConfig?.defaults.unit ?? '', '', `${title}: ${panel.title}`);
      assert.notEqual(panel.description ?? '', '', `${title}: ${panel.title}`);
      assert.ok((panel.targets ?? []).length > 0, `${title}: ${panel.title}`);
    }
  }
});
