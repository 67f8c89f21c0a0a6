// bulkhead events
import { type Command, Option } from 'commander';
import { ageOf } from '../api/age.ts';
import { asBulkheadError } from '../api/errors.ts';
import type { EventObject } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { usage } from './failure.ts';
import { Table } from './output/table.ts';
import { toYaml } from './output/yaml.ts';
import { parseTargets } from './targets.ts';

interface Options extends ConnectionOptions {
  allNamespaces?: true;
  watch?: true;
  types?: string;
  output?: string;
  headers: boolean;
}

export function define(command: Command): void {
  connectionOptions(command)
    .argument('[target...]', 'KIND NAME or KIND/NAME: only what regards it')
    .option('-A, --all-namespaces', 'of every namespace')
    .option('-w, --watch', 'go on with new ones')
    .option('--types <list>', 'Normal, Warning or both')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['json', 'yaml']))
    .option('--no-headers', 'a table without its first line')
    .action(events);
}

/** Oldest first, as people read. */
export function byTime(a: EventObject, b: EventObject): number {
  return a.lastTimestamp < b.lastTimestamp ? -1 : a.lastTimestamp > b.lastTimestamp ? 1 : 0;
}

function selectorOf(words: string[]): string | undefined {
  if (words.length === 0) return undefined;
  const [target, ...more] = parseTargets(words);
  if (target === undefined || more.length > 0) throw usage('events are of one object, one kind, or all');
  const terms = [`involvedObject.kind=${target.kind.kind}`];
  if (target.name !== undefined) terms.push(`involvedObject.name=${target.name}`);
  return terms.join(',');
}

async function events(words: string[], options: Options): Promise<void> {
  const fieldSelector = selectorOf(words);
  const types = options.types?.split(',').map((type) => type.trim().toLowerCase());
  const query = {
    ...(options.allNamespaces ? {} : { namespace: options.namespace }),
    ...(fieldSelector === undefined ? {} : { fieldSelector }),
  };
  const columns = ['LAST SEEN', 'TYPE', 'REASON', 'OBJECT', 'COUNT', 'MESSAGE'];
  const table = new Table(options.allNamespaces ? ['NAMESPACE', ...columns] : columns, {
    showHeader: options.headers,
  });
  const rowOf = (event: EventObject) => {
    const { kind, name, namespace } = event.involvedObject;
    const row = [
      ageOf(event.lastTimestamp, Date.now()),
      event.type,
      event.reason,
      `${kind.toLowerCase()}/${name}`,
      String(event.count),
      event.message,
    ];
    return options.allNamespaces ? [namespace, ...row] : row;
  };
  const wanted = ({ type }: EventObject) => types === undefined || types.includes(type.toLowerCase());
  await withClient(options, async (client) => {
    const list = async () => {
      const all = await client.events(query);
      return all.filter(wanted).sort(byTime);
    };
    const first = await list();
    if (options.output !== undefined) {
      const document = { apiVersion: 'v1', kind: 'List', metadata: { resourceVersion: '' }, items: first };
      process.stdout.write(
        options.output === 'json' ? `${JSON.stringify(document, undefined, 4)}\n` : toYaml(document),
      );
      return;
    }
    if (first.length > 0) process.stdout.write(table.format(first.map(rowOf)));
    else if (!options.watch) process.stderr.write('No events found.\n');
    if (!options.watch) return;
    const leave = new AbortController();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => leave.abort());
    const seen = new Map(first.map((event) => [event.metadata.uid, event.count]));
    while (!leave.signal.aborted) {
      try {
        for await (const event of client.watchEvents({ ...query, signal: leave.signal })) {
          if (!wanted(event) || seen.get(event.metadata.uid) === event.count) continue;
          seen.set(event.metadata.uid, event.count);
          process.stdout.write(table.format([rowOf(event)]));
        }
      } catch (error) {
        if (leave.signal.aborted) return;
        // Too slow for them: what was missed is among the present ones of a new watch.
        if (asBulkheadError(error).code !== 'EXPIRED') throw error;
      }
    }
  });
}
