// bulkhead top
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { asBulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { SandboxStats } from '../api/wire.ts';
import type { BulkheadClient } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { formatBytes } from './output/bytes.ts';
import { Table } from './output/table.ts';
import { sandboxName } from './targets.ts';

interface Options extends ConnectionOptions {
  allNamespaces?: true;
  headers: boolean;
}

interface Place {
  namespace: string;
  name: string;
}

/** Between the two readings that CPU use is computed from. */
const INTERVAL_MS = 1000;

export function define(command: Command): void {
  connectionOptions(command)
    .argument('[sandbox...]', 'names of sandboxes; all that run when absent')
    .option('-A, --all-namespaces', 'of every namespace')
    .option('--no-headers', 'a table without its first line')
    .action(top);
}

async function top(words: string[], options: Options): Promise<void> {
  await withClient(options, async (client) => {
    const { namespace, allNamespaces } = options;
    const named = words.length > 0;
    const places = named
      ? words.map((word) => ({ namespace, name: sandboxName(word) }))
      : (await client.list(SANDBOX_KIND, allNamespaces ? {} : { namespace })).items.map(
          ({ metadata }) => metadata,
        );
    const first = await Promise.all(places.map((place) => read(client, place, named)));
    await delay(INTERVAL_MS);
    const second = await Promise.all(places.map((place) => read(client, place, named)));
    const rows = places.flatMap((place, index) => {
      const [before, after] = [first[index], second[index]];
      if (before === undefined || after === undefined) return [];
      const row = rowOf(place, before, after);
      return [allNamespaces ? [place.namespace, ...row] : row];
    });
    if (rows.length === 0) {
      process.stderr.write('No sandbox runs.\n');
      return;
    }
    const header = ['NAME', 'CPU', 'MEMORY', 'LIMIT', 'DISK READ', 'DISK WRITE', 'NET RX', 'NET TX'];
    const table = new Table(allNamespaces ? ['NAMESPACE', ...header] : header, {
      showHeader: options.headers,
    });
    process.stdout.write(table.format(rows));
  });
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

function rowOf({ name }: Place, before: SandboxStats, after: SandboxStats): string[] {
  const seconds = (Date.parse(after.timestamp) - Date.parse(before.timestamp)) / 1000;
  const cpus = seconds > 0 ? (after.vm.cpuSeconds - before.vm.cpuSeconds) / seconds : 0;
  const { vm } = after;
  return [
    name,
    // Thousandths of a CPU, as kubectl top.
    `${Math.max(0, Math.round(cpus * 1000))}m`,
    formatBytes(vm.memoryBytes),
    formatBytes(vm.memoryLimitBytes),
    formatBytes(vm.diskReadBytes),
    formatBytes(vm.diskWriteBytes),
    formatBytes(vm.networkReceiveBytes),
    formatBytes(vm.networkTransmitBytes),
  ];
}
