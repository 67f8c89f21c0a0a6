// bulkhead top
import { setTimeout as delay } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { asBulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { SandboxStats } from '../api/wire.ts';
import type { BulkheadClient } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { formatBytes } from './output/bytes.ts';
import { Table } from './output/table.ts';
import { sandboxName } from './targets.ts';

const SORTS = ['cpu', 'memory', 'disk', 'network', 'name'] as const;

interface Options extends ConnectionOptions {
  allNamespaces?: true;
  watch?: true;
  sort: (typeof SORTS)[number];
  headers: boolean;
}

interface Place {
  namespace: string;
  name: string;
}

/** What one sandbox used between two readings. */
interface Use extends Place {
  cpus: number;
  vm: SandboxStats['vm'];
}

type Readings = Map<string, { place: Place; stats: SandboxStats }>;

/** Between the two readings that CPU use is computed from. */
const INTERVAL_MS = 1000;
/** Between two tables of --watch. */
const WATCH_INTERVAL_MS = 2000;
/** Back to the upper left corner, and clear what is below: without a flicker. */
const HOME = '\u001b[H\u001b[J';

export function define(command: Command): void {
  connectionOptions(command)
    .argument('[sandbox...]', 'names of sandboxes; all that run when absent')
    .option('-A, --all-namespaces', 'of every namespace')
    .option('-w, --watch', 'go on, every two seconds')
    .addOption(
      new Option('--sort <by>', 'what comes first: who uses most of it').choices(SORTS).default('cpu'),
    )
    .option('--no-headers', 'a table without its first line, and without totals')
    .action(top);
}

async function top(words: string[], options: Options): Promise<void> {
  const leave = new AbortController();
  if (options.watch)
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => leave.abort());
  await withClient(options, async (client) => {
    let before = await readAll(client, words, options);
    let interval = INTERVAL_MS;
    do {
      await delay(interval, undefined, { signal: leave.signal }).catch(() => {});
      if (leave.signal.aborted) return;
      const after = await readAll(client, words, options);
      const text = await page(client, usesBetween(before, after), options);
      process.stdout.write(options.watch && process.stdout.isTTY ? `${HOME}${text}` : text);
      before = after;
      interval = WATCH_INTERVAL_MS;
    } while (options.watch);
  });
}

async function readAll(client: BulkheadClient, words: string[], options: Options): Promise<Readings> {
  const { namespace, allNamespaces } = options;
  const named = words.length > 0;
  const places = named
    ? words.map((word) => ({ namespace, name: sandboxName(word) }))
    : (await client.list(SANDBOX_KIND, allNamespaces ? {} : { namespace })).items.map(
        ({ metadata }) => metadata,
      );
  const readings: Readings = new Map();
  await Promise.all(
    places.map(async (place) => {
      const stats = await read(client, place, named);
      if (stats !== undefined) readings.set(`${place.namespace}/${place.name}`, { place, stats });
    }),
  );
  return readings;
}

/** Figures of one sandbox; none for one that does not run, unless it was asked for by name. */
async function read(client: BulkheadClient, { namespace, name }: Place, named: boolean) {
  try {
    return await client.stats(namespace, name);
  } catch (error) {
    if (named || asBulkheadError(error).code === 'DAEMON_UNAVAILABLE') throw error;
    return undefined;
  }
}

function usesBetween(before: Readings, after: Readings): Use[] {
  return [...after].flatMap(([key, { place, stats }]) => {
    const former = before.get(key)?.stats;
    if (former === undefined) return [];
    const seconds = (Date.parse(stats.timestamp) - Date.parse(former.timestamp)) / 1000;
    const cpus = seconds > 0 ? (stats.vm.cpuSeconds - former.vm.cpuSeconds) / seconds : 0;
    // A VM that was started again counts from 0.
    return [{ namespace: place.namespace, name: place.name, cpus: Math.max(0, cpus), vm: stats.vm }];
  });
}

const AMOUNTS: Record<Exclude<Options['sort'], 'name'>, (use: Use) => number> = {
  cpu: ({ cpus }) => cpus,
  memory: ({ vm }) => vm.memoryBytes,
  disk: ({ vm }) => vm.diskReadBytes + vm.diskWriteBytes,
  network: ({ vm }) => vm.networkReceiveBytes + vm.networkTransmitBytes,
};

function sorted(uses: readonly Use[], sort: Options['sort']): Use[] {
  const key = ({ namespace, name }: Use) => `${namespace}/${name}`;
  const byName = (a: Use, b: Use) => (key(a) < key(b) ? -1 : 1);
  if (sort === 'name') return uses.toSorted(byName);
  const amount = AMOUNTS[sort];
  return uses.toSorted((a, b) => amount(b) - amount(a) || byName(a, b));
}

async function page(client: BulkheadClient, uses: readonly Use[], options: Options): Promise<string> {
  const { allNamespaces, headers, sort } = options;
  const totals = headers ? await totalsText(client, uses) : '';
  if (uses.length === 0) {
    process.stderr.write('No sandbox runs.\n');
    return '';
  }
  const header = ['NAME', 'CPU', 'MEMORY', 'LIMIT', 'DISK READ', 'DISK WRITE', 'NET RX', 'NET TX'];
  const table = new Table(allNamespaces ? ['NAMESPACE', ...header] : header, { showHeader: headers });
  const rows = sorted(uses, sort).map((use) => (allNamespaces ? [use.namespace, ...rowOf(use)] : rowOf(use)));
  return `${table.format(rows)}${totals}`;
}

function rowOf({ name, cpus, vm }: Use): string[] {
  return [
    name,
    millicpus(cpus),
    formatBytes(vm.memoryBytes),
    formatBytes(vm.memoryLimitBytes),
    formatBytes(vm.diskReadBytes),
    formatBytes(vm.diskWriteBytes),
    formatBytes(vm.networkReceiveBytes),
    formatBytes(vm.networkTransmitBytes),
  ];
}

/** Thousandths of a CPU, as kubectl top. */
function millicpus(cpus: number): string {
  return `${Math.round(cpus * 1000)}m`;
}

/** What is shown together, beside what the node has. */
async function totalsText(client: BulkheadClient, uses: readonly Use[]): Promise<string> {
  const samples = await client.metrics();
  const node = (name: string) => samples.find((sample) => sample.name === name)?.value;
  const [memory, cpus] = [
    node('node_sandbox_allocatable_memory_bytes'),
    node('node_sandbox_allocatable_vcpus'),
  ];
  const usedCpus = millicpus(uses.reduce((sum, use) => sum + use.cpus, 0));
  const usedMemory = formatBytes(uses.reduce((sum, { vm }) => sum + vm.memoryBytes, 0));
  const ofCpus = cpus === undefined ? '' : ` of ${cpus * 1000}m`;
  const ofMemory = memory === undefined ? '' : ` of ${formatBytes(memory)}`;
  return `Together: ${uses.length} sandboxes, CPU ${usedCpus}${ofCpus}, memory ${usedMemory}${ofMemory}\n`;
}
