// Debian's prometheus on a node, as somebody's own in the cluster: it scrapes controllers and agents with the token of an account.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SYSTEM } from './bulkhead-cluster.ts';
import type { TestCluster } from './cluster.ts';

const METRICS_PORT = 9465;
/** Of Prometheus itself, within the node. */
const ADDRESS = '127.0.0.1:9090';
/** The first scrapes on a crowded machine. */
const TIMEOUT_MS = 60_000;
const POLL_MS = 500;

export class ClusterPrometheus {
  /** HOST:PORT of each part of Bulkhead. */
  readonly targets: readonly string[];
  /** Of an account that may get metrics, and of one that may not. */
  readonly tokens: { readonly scraper: string; readonly stranger: string };
  readonly #cluster: TestCluster;

  private constructor(cluster: TestCluster, targets: readonly string[], tokens: ClusterPrometheus['tokens']) {
    this.#cluster = cluster;
    this.targets = targets;
    this.tokens = tokens;
  }

  static async start(cluster: TestCluster): Promise<ClusterPrometheus> {
    for (const name of ['scraper', 'stranger']) await cluster.ask('create', 'serviceaccount', name);
    await cluster.ask(
      ...['create', 'clusterrolebinding', 'scraper', '--serviceaccount', 'default:scraper'],
      ...['--clusterrole', `${SYSTEM}-bulkhead-metrics-reader`],
    );
    const token = async (name: string) => (await cluster.ask('create', 'token', name)).trim();
    const tokens = { scraper: await token('scraper'), stranger: await token('stranger') };
    const addresses = await cluster.ask(
      ...['-n', SYSTEM, 'get', 'pods', '-l', 'app.kubernetes.io/name=bulkhead'],
      ...['-o', 'jsonpath={.items[*].status.podIP}'],
    );
    const targets = addresses.split(' ').map((address) => `${address}:${METRICS_PORT}`);
    const inDir = (name: string) => join(cluster.dir, name);
    await writeFile(inDir('token'), tokens.scraper);
    const scrape = {
      ...{ job_name: 'bulkhead', scheme: 'https', static_configs: [{ targets }] },
      authorization: { credentials_file: inDir('token') },
      tls_config: { insecure_skip_verify: true },
    };
    await writeFile(
      inDir('prometheus.yaml'),
      JSON.stringify({ global: { scrape_interval: '1s' }, scrape_configs: [scrape] }),
    );
    const started = await cluster.inNode(
      ...([0, 'sh', '-c'] as const),
      'prometheus --config.file="$1" --storage.tsdb.path="$2" --web.listen-address="$3" >"$4" 2>&1 & echo $! >"$5"',
      ...['sh', inDir('prometheus.yaml'), inDir('prometheus'), ADDRESS],
      ...[inDir('prometheus.log'), inDir('prometheus.pid')],
    );
    assert.equal(started.code, 0, started.stderr);
    return new ClusterPrometheus(cluster, targets, tokens);
  }

  /** /metrics of a target, as one who comes with `token`. */
  async get(target: string, token: string): Promise<{ code: number; text: string }> {
    const header = token === '' ? [] : ['-H', `authorization: Bearer ${token}`];
    const asked = ['-sk', '-m', '20', '-w', '\n%{http_code}', ...header, `https://${target}/metrics`];
    const { stdout } = await this.#cluster.inNode(0, 'curl', ...asked);
    const end = stdout.lastIndexOf('\n');
    return { code: Number(stdout.slice(end + 1)), text: stdout.slice(0, end + 1) };
  }

  /** Waits until the only series of the query has this value. */
  async until(query: string, wanted: number): Promise<void> {
    const deadline = Date.now() + TIMEOUT_MS;
    for (;;) {
      const asked = [
        // Nothing where it fails, as it does while Prometheus starts.
        ...['-sfG', '-m', '20'],
        `http://${ADDRESS}/api/v1/query`,
        '--data-urlencode',
        `query=${query}`,
      ];
      const { stdout } = await this.#cluster.inNode(0, 'curl', ...asked);
      if (valuesOf(stdout).join() === String(wanted)) return;
      if (Date.now() > deadline) assert.fail(`${query} did not become ${wanted}: ${stdout}`);
      await delay(POLL_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cluster.inNode(
      0,
      'sh',
      '-c',
      'kill -9 $(cat "$1")',
      'sh',
      join(this.#cluster.dir, 'prometheus.pid'),
    );
  }
}

/** Of an answer that may be none yet. */
function valuesOf(answer: string): string[] {
  if (answer === '') return [];
  const { data } = JSON.parse(answer) as { data?: { result: { value: [number, string] }[] } };
  return (data?.result ?? []).map(({ value }) => value[1]);
}
