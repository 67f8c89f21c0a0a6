// bulkhead top
import { setTimeout as delay } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { SandboxStats } from '../api/wire.ts';
import type { BulkheadClient } from '../client/client.ts';
import { isUnreachable } from '../client/endpoint.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { formatBytes } from './output/bytes.ts';
import { showsBars } from './output/sparkline.ts';
import { Table } from './output/table.ts';
import { sandboxName } from './targets.ts';
import { TopHistory } from './top-history.ts';
import { pressureText } from './top-pressure.ts';

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
  /** What waited in the guest, in words. */
  pressure: string;
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
    .option('-w, --watch', 'go on, every two seconds; on a terminal with bars of the last half minute')
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
    const live = options.watch === true && process.stdout.isTTY;
    const history = live && showsBars(process.env) ? new TopHistory() : undefined;
    do {
      await delay(interval, undefined, { signal: leave.signal }).catch(() => {});
      if (leave.signal.aborted) return;
      const after = await readAll(client, words, options);
      const uses = usesBetween(before, after);
      history?.add(new Map(uses.map((use) => [keyOf(use), { cpus: use.cpus, ...use.vm }])));
      const text = await page(client, uses, options, history);
      process.stdout.write(live ? `${HOME}${text}` : text);
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
      if (stats !== undefined) readings.set(keyOf(place), { place, stats });
    }),
  );
  return readings;
}

/** Figures of one sandbox; none for one that does not run, unless it was asked for by name. */
async function read(client: BulkheadClient, { namespace, name }: Place, named: boolean) {
  try {
    return await client.stats(namespace, name);
  } catch (error) {
    if (named || isUnreachable(error)) throw error;
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
    const { namespace, name } = place;
    const pressure = pressureText(stats.guest);
    return [{ namespace, name, cpus: Math.max(0, cpus), vm: stats.vm, pressure }];
  });
}

const AMOUNTS: Record<Exclude<Options['sort'], 'name'>, (use: Use) => number> = {
  cpu: ({ cpus }) => cpus,
  memory: ({ vm }) => vm.memoryBytes,
  disk: ({ vm }) => vm.diskReadBytes + vm.diskWriteBytes,
  network: ({ vm }) => vm.networkReceiveBytes + vm.networkTransmitBytes,
};

function keyOf({ namespace, name }: Place): string {
  return `${namespace}/${name}`;
}

function sorted(uses: readonly Use[], sort: Options['sort']): Use[] {
  const byName = (a: Use, b: Use) => (keyOf(a) < keyOf(b) ? -1 : 1);
  if (sort === 'name') return uses.toSorted(byName);
  const amount = AMOUNTS[sort];
  return uses.toSorted((a, b) => amount(b) - amount(a) || byName(a, b));
}

async function page(
  client: BulkheadClient,
  uses: readonly Use[],
  { allNamespaces, headers, sort }: Options,
  history: TopHistory | undefined,
): Promise<string> {
  const totals = headers ? await totalsText(client, uses) : '';
  if (uses.length === 0) {
    process.stderr.write('No sandbox runs.\n');
    return '';
  }
  const columns = COLUMNS.filter(
    ({ only }) =>
      (only !== 'all namespaces' || allNamespaces) && (only !== 'history' || history !== undefined),
  );
  const table = new Table(
    columns.map(({ title }) => title),
    { showHeader: headers },
  );
  const rows = sorted(uses, sort).map((use) => columns.map(({ cell }) => cell(use, history)));
  return `${table.format(rows)}${totals}`;
}

interface Column {
  title: string;
  cell(use: Use, history: TopHistory | undefined): string;
  /** When it is shown; always where absent. */
  only?: 'all namespaces' | 'history';
}

const COLUMNS: readonly Column[] = [
  { title: 'NAMESPACE', cell: ({ namespace }) => namespace, only: 'all namespaces' },
  { title: 'NAME', cell: ({ name }) => name },
  { title: 'CPU', cell: ({ cpus }) => millicpus(cpus) },
  { title: '', cell: (use, history) => history?.cpu(keyOf(use)) ?? '', only: 'history' },
  { title: 'MEMORY', cell: ({ vm }) => formatBytes(vm.memoryBytes) },
  { title: '', cell: (use, history) => history?.memory(keyOf(use)) ?? '', only: 'history' },
  { title: 'LIMIT', cell: ({ vm }) => formatBytes(vm.memoryLimitBytes) },
  { title: 'DISK READ', cell: ({ vm }) => formatBytes(vm.diskReadBytes) },
  { title: 'DISK WRITE', cell: ({ vm }) => formatBytes(vm.diskWriteBytes) },
  { title: 'NET RX', cell: ({ vm }) => formatBytes(vm.networkReceiveBytes) },
  { title: 'NET TX', cell: ({ vm }) => formatBytes(vm.networkTransmitBytes) },
  { title: 'PRESSURE', cell: ({ pressure }) => pressure },
];

/** Thousandths of a CPU, as kubectl top. */
function millicpus(cpus: number): string {
  return `${Math.round(cpus * 1000)}m`;
}

/** What is shown together, beside what the node has. */
async function totalsText(client: BulkheadClient, uses: readonly Use[]): Promise<string> {
  // What the hosts of a cluster have is not one figure.
  const samples = client.isCluster ? [] : await client.metrics();
  const node = (name: string) => samples.find((sample) => sample.name === name)?.value;
  const [memory, cpus] = [node('node_sandbox_capacity_memory_bytes'), node('node_sandbox_allocatable_vcpus')];
  const usedCpus = millicpus(uses.reduce((sum, use) => sum + use.cpus, 0));
  const usedMemory = formatBytes(uses.reduce((sum, { vm }) => sum + vm.memoryBytes, 0));
  const ofCpus = cpus === undefined ? '' : ` of ${cpus * 1000}m`;
  const ofMemory = memory === undefined ? '' : ` of ${formatBytes(memory)}`;
  const count = uses.length === 1 ? '1 sandbox' : `${uses.length} sandboxes`;
  return `Together: ${count}, CPU ${usedCpus}${ofCpus}, memory ${usedMemory}${ofMemory}\n`;
}
