// A real Prometheus, Debian's, that scrapes one daemon every second.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { queriesOf } from '../../monitoring/boards/boards.ts';
import type { Line } from '../../monitoring/pictures/board-svg.ts';
import { renderRules } from '../../monitoring/rules/render.ts';
import { eventually } from './daemon-observations.ts';

/** Restarts with a growing pause and figures of guests every 15 s, on a crowded machine. */
const ALERTS_TIMEOUT_MS = 420_000;

export interface Result {
  metric: Record<string, string>;
  value: number;
}

/** A query of a board with its variables chosen. */
function chosen(expr: string, sandbox: string): string {
  const values: Record<string, string> = {
    $__rate_interval: '15s',
    $__range: '5m',
    $node: '.*',
    $instance: '.*',
    $namespace: 'default',
    $name: sandbox,
  };
  return expr.replace(/\$\w+/g, (variable) => values[variable] ?? variable);
}

/** A TCP port of the loopback that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

export class Prometheus {
  readonly #dir: string;
  readonly #url: string;
  readonly #process: ChildProcess;

  private constructor(dir: string, url: string, child: ChildProcess) {
    this.#dir = dir;
    this.#url = url;
    this.#process = child;
  }

  /** `speed`: the durations of the rules are that many times as short. */
  static async start(options: { target: string; speed: number }): Promise<Prometheus> {
    const dir = await mkdtemp(join(tmpdir(), 'bulkhead-prometheus-'));
    const address = `127.0.0.1:${await freePort()}`;
    await writeFile(join(dir, 'rules.yaml'), renderRules({ speed: options.speed }));
    await writeFile(
      join(dir, 'prometheus.yaml'),
      JSON.stringify({
        global: { scrape_interval: '1s', evaluation_interval: '1s' },
        rule_files: [join(dir, 'rules.yaml')],
        scrape_configs: [{ job_name: 'bulkhead', static_configs: [{ targets: [options.target] }] }],
      }),
    );
    const log = openSync(join(dir, 'log'), 'a');
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(dir, 'prometheus.yaml')}`,
        `--storage.tsdb.path=${join(dir, 'data')}`,
        `--web.listen-address=${address}`,
        '--enable-feature=exemplar-storage',
      ],
      { stdio: ['ignore', log, log] },
    );
    await once(child, 'spawn');
    const prometheus = new Prometheus(dir, `http://${address}`, child);
    await eventually(
      'an answer of Prometheus',
      async () => ((await fetch(`http://${address}/-/ready`).catch(() => undefined))?.ok ? true : undefined),
      () => readFile(join(dir, 'log'), 'utf8'),
    );
    return prometheus;
  }

  /** An instant query; fails with Prometheus' words where it is wrong. */
  async query(expr: string): Promise<Result[]> {
    const response = await fetch(`${this.#url}/api/v1/query?query=${encodeURIComponent(expr)}`);
    const answer = (await response.json()) as {
      status: string;
      error?: string;
      data: { result: { metric: Record<string, string>; value: [number, string] }[] };
    };
    assert.equal(answer.status, 'success', `${expr}: ${answer.error}`);
    return answer.data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
  }

  /** Labels of the exemplars of a metric in the last hour. */
  async exemplars(expr: string): Promise<Record<string, string>[]> {
    const now = Date.now() / 1000;
    const range = `start=${now - 3600}&end=${now + 60}`;
    const response = await fetch(
      `${this.#url}/api/v1/query_exemplars?query=${encodeURIComponent(expr)}&${range}`,
    );
    const { data } = (await response.json()) as {
      data: { exemplars: { labels: Record<string, string> }[] }[];
    };
    return data.flatMap(({ exemplars }) => exemplars.map(({ labels }) => labels));
  }

  /** The value of the only series. */
  async value(expr: string): Promise<number> {
    const [only, ...more] = await this.query(expr);
    assert.ok(only !== undefined && more.length === 0, `${expr} has ${more.length + (only ? 1 : 0)} series`);
    return only.value;
  }

  /** Waits until the query has an answer for which `holds`; gives its first value. */
  async until(expr: string, holds: (value: number) => boolean = () => true): Promise<number> {
    return eventually(
      expr,
      async () => {
        const [first] = await this.query(expr);
        return first !== undefined && holds(first.value) ? first.value : undefined;
      },
      async () => JSON.stringify(await this.query(expr)),
    );
  }

  /** Panels of a board that have no answer, with the query; fails where a query is wrong. `sandbox`: which one is chosen. */
  async emptyPanels(board: Dashboard, sandbox = ''): Promise<string[]> {
    const empty: string[] = [];
    for (const { panel, expr } of queriesOf(board)) {
      const query = chosen(expr, sandbox);
      if ((await this.query(query)).length === 0) empty.push(`${panel}: ${query}`);
    }
    return empty;
  }

  /** What a panel of a board shows from `from` to `to`, in seconds of Unix time, at so many moments. */
  async panel(
    expr: string,
    sandbox: string,
    range: { from: number; to: number; moments: number },
  ): Promise<Line[]> {
    const { from, to, moments } = range;
    const step = Math.max(1, Math.ceil((to - from) / moments));
    const query = encodeURIComponent(chosen(expr, sandbox));
    const response = await fetch(
      `${this.#url}/api/v1/query_range?query=${query}&start=${from}&end=${to}&step=${step}`,
    );
    const answer = (await response.json()) as {
      status: string;
      error?: string;
      data: { result: { metric: Record<string, string>; values: [number, string][] }[] };
    };
    assert.equal(answer.status, 'success', `${expr}: ${answer.error}`);
    return answer.data.result.map(({ metric, values }) => ({
      labels: metric,
      points: values
        .map(([at, value]) => [at, Number(value)] as const)
        .filter(([, value]) => Number.isFinite(value)),
    }));
  }

  /** Alerts that fire now: each one's name, and the object's. */
  async firing(): Promise<string[]> {
    const alerts = await this.query('ALERTS{alertstate="firing"}');
    return alerts.map(({ metric }) => `${metric.alertname} ${metric.name ?? ''}`.trim()).sort();
  }

  /** Resolves when each of `expected` has fired; fails at once when another one does that is not `permitted`. */
  async untilFiring(expected: readonly string[], permitted: readonly string[] = []): Promise<void> {
    const seen = new Set<string>();
    await eventually(
      'every alert',
      async () => {
        for (const alert of await this.firing()) {
          assert.ok(expected.includes(alert) || permitted.includes(alert), `${alert} fires`);
          seen.add(alert);
        }
        return expected.every((alert) => seen.has(alert)) ? true : undefined;
      },
      () => `missing: ${expected.filter((alert) => !seen.has(alert)).join(', ')}`,
      ALERTS_TIMEOUT_MS,
    );
  }

  /** Resolves when no alert fires. */
  async untilQuiet(): Promise<void> {
    await eventually(
      'the end of all alerts',
      async () => ((await this.firing()).length === 0 ? true : undefined),
      async () => (await this.firing()).join(),
      ALERTS_TIMEOUT_MS,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
    await rm(this.#dir, { recursive: true, force: true });
  }
}
