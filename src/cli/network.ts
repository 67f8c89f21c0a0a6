// bulkhead network log
import { type Command, Option } from 'commander';
import type { FlowEntry } from '../api/wire.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { Table } from './output/table.ts';

interface Options extends ConnectionOptions {
  denied?: boolean;
  output?: string;
}

export function define(command: Command): void {
  const summary = 'show the last connections and questions of a running sandbox, and what decided each';
  connectionOptions(command.command('log').summary(summary).description(summary))
    .argument('<sandbox>')
    .option('--denied', 'only what was refused or cut')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['json']))
    .action(log);
}

/** What reached where it was sent. */
const PASSED: ReadonlySet<string> = new Set(['Allowed', 'Answered', 'Cached']);

async function log(sandbox: string, options: Options): Promise<void> {
  const { items } = await withClient(options, (client) => client.flows(options.namespace, sandbox));
  const shown = options.denied === true ? items.filter(({ result }) => !PASSED.has(result)) : items;
  process.stdout.write(
    options.output === 'json' ? `${JSON.stringify({ items: shown }, undefined, 4)}\n` : textOf(shown),
  );
}

function textOf(entries: readonly FlowEntry[]): string {
  const table = new Table(['TIME', 'LAYER', 'PROTOCOL', 'DESTINATION', 'RESULT', 'DECIDED BY'], {
    showHeader: true,
  });
  return table.format(
    entries.map(({ at, layer, protocol, destination, result, reason }) => [
      ...[at, layer, protocol, destination, result],
      reason || '-',
    ]),
  );
}
