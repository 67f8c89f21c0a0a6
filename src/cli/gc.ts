// bulkhead gc
import { type Command, Option } from 'commander';
import type { GarbageItem } from '../api/wire.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { CommandFailure, EXIT } from './failure.ts';
import { formatBytes } from './output/bytes.ts';
import { Table } from './output/table.ts';

interface Options extends ConnectionOptions {
  dryRun?: true;
  output?: 'json';
}

export function define(command: Command): void {
  connectionOptions(command)
    .option('--dry-run', 'only say what would go, and why')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['json']))
    .addHelpText(
      'after',
      '\nThe daemon does the same when it starts, and every ten minutes. VMs that run, volumes and images stay.',
    )
    .action(gc);
}

async function gc(options: Options): Promise<void> {
  const dryRun = options.dryRun === true;
  const items = await withClient(options, (client) => client.collectGarbage({ dryRun }));
  if (options.output === 'json') process.stdout.write(`${JSON.stringify(items, undefined, 4)}\n`);
  else process.stdout.write(tableOf(items, dryRun));
  if (items.some(({ error }) => error !== undefined)) throw new CommandFailure(EXIT.failed);
}

function tableOf(items: readonly GarbageItem[], dryRun: boolean): string {
  if (items.length === 0) return 'Everything on this host has an owner.\n';
  const table = new Table(['KIND', 'NAME', 'SIZE', dryRun ? 'WOULD GO BECAUSE' : 'RESULT'], {
    showHeader: true,
  });
  return table.format(
    items.map(({ kind, name, sizeBytes, reason, error }) => [
      kind,
      name,
      sizeBytes === undefined ? '' : formatBytes(sizeBytes),
      dryRun ? reason : (error ?? 'removed'),
    ]),
  );
}
