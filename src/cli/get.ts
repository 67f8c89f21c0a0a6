// bulkhead get

import { once } from 'node:events';
import type { Command } from 'commander';
import { asBulkheadError } from '../api/errors.ts';
import type { ResourceKind, StoredObject } from '../api/meta.ts';
import type { BulkheadClient, ListQuery } from '../client/client.ts';
import { followObjects } from '../client/follow.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { CommandFailure, EXIT, report, usage } from './failure.ts';
import { jsonPathValues } from './output/jsonpath.ts';
import { type Format, formatObjects, ObjectTable, parseFormat } from './output/objects.ts';
import { getNamed, parseTargets, type Target } from './targets.ts';

interface Options extends ConnectionOptions {
  output?: string;
  selector?: string;
  fieldSelector?: string;
  allNamespaces?: true;
  watch?: true;
  watchOnly?: true;
  sortBy?: string;
  headers: boolean;
  showLabels?: true;
  ignoreNotFound?: true;
}

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<kind...>', 'KIND [NAME...], KIND/NAME..., KIND1,KIND2 or all')
    .option('-o, --output <format>', 'wide, json, yaml, name or jsonpath=TEMPLATE')
    .option('-l, --selector <labels>', 'only objects with these labels, e.g. team=research,tier!=dev')
    .option('--field-selector <fields>', 'only objects with these fields, e.g. metadata.name=x')
    .option('-A, --all-namespaces', 'of every namespace')
    .option('-w, --watch', 'go on with changes')
    .option('--watch-only', 'changes only')
    .option('--sort-by <jsonpath>', 'order by a field, e.g. .metadata.creationTimestamp')
    .option('--no-headers', 'a table without its first line')
    .option('--show-labels', 'labels as the last column')
    .option('--ignore-not-found', 'a missing object is no failure')
    .action(get);
}

async function get(words: string[], options: Options): Promise<void> {
  const format = parseFormat(options.output);
  const targets = parseTargets(words);
  await withClient(options, async (client) => {
    if (options.watch || options.watchOnly) return watch(client, targets, options, format);
    await show(client, targets, options, format);
  });
}

function queryOf(options: Options): ListQuery {
  return {
    ...(options.allNamespaces ? {} : { namespace: options.namespace }),
    ...(options.selector === undefined ? {} : { labelSelector: options.selector }),
    ...(options.fieldSelector === undefined ? {} : { fieldSelector: options.fieldSelector }),
  };
}

function tableOf(kind: ResourceKind, format: Format, options: Options, showKind: boolean): ObjectTable {
  return new ObjectTable(kind, {
    wide: format.type === 'table' && format.wide,
    showNamespace: options.allNamespaces === true,
    showHeader: options.headers,
    showLabels: options.showLabels === true,
    showKind,
    now: Date.now,
  });
}

function compareBy(path: string): (a: StoredObject, b: StoredObject) => number {
  const values = jsonPathValues(path);
  return (a, b) => {
    const [first] = values(a);
    const [second] = values(b);
    if (typeof first === 'number' && typeof second === 'number') return first - second;
    const [one, other] = [String(first ?? ''), String(second ?? '')];
    return one < other ? -1 : one > other ? 1 : 0;
  };
}

function byName(a: StoredObject, b: StoredObject): number {
  const [one, other] = [
    `${a.metadata.namespace}/${a.metadata.name}`,
    `${b.metadata.namespace}/${b.metadata.name}`,
  ];
  return one < other ? -1 : one > other ? 1 : 0;
}

async function show(
  client: BulkheadClient,
  targets: Target[],
  options: Options,
  format: Format,
): Promise<void> {
  if (targets.some(({ name }) => name !== undefined) && options.allNamespaces) {
    throw usage('a name does not go with --all-namespaces');
  }
  const [target, ...more] = targets;
  if (target !== undefined && more.length === 0 && target.name === undefined && isByLine(format, options)) {
    return showPages(client, target.kind, options, format);
  }
  const found = new Map<ResourceKind, StoredObject[]>();
  let failed = false;
  for (const { kind, name } of targets) {
    const objects = found.get(kind) ?? [];
    found.set(kind, objects);
    if (name === undefined) {
      for (const object of (await client.list(kind, queryOf(options))).items) objects.push(object);
      continue;
    }
    try {
      objects.push(await getNamed(client, kind, options.namespace, name));
    } catch (error) {
      if (asBulkheadError(error).code !== 'NOT_FOUND') throw error;
      if (options.ignoreNotFound) continue;
      report(error);
      failed = true;
    }
  }
  if (options.sortBy !== undefined) {
    const order = compareBy(options.sortBy);
    for (const objects of found.values()) objects.sort(order);
  }
  const all = [...found.values()].flat();
  if (format.type === 'table') printTables(found, options, format);
  else if (all.length > 0 || !failed) {
    const single = targets.length === 1 && targets[0]?.name !== undefined;
    process.stdout.write(formatObjects(all, format, single));
  }
  if (all.length === 0 && !failed && format.type === 'table') reportNone(options);
  if (failed) throw new CommandFailure(EXIT.failed);
}

function reportNone({ allNamespaces, namespace }: Options): void {
  process.stderr.write(`No resources found${allNamespaces ? '' : ` in namespace ${namespace}`}.\n`);
}

/** Can each object be printed when it comes, without the others? */
function isByLine(format: Format, { sortBy }: Options): boolean {
  return sortBy === undefined && (format.type === 'table' || format.type === 'name');
}

/** Prints page by page, so that a list of any length takes the memory of one page. */
async function showPages(
  client: BulkheadClient,
  kind: ResourceKind,
  options: Options,
  format: Format,
): Promise<void> {
  const table = tableOf(kind, format, options, false);
  let none = true;
  for await (const { items } of client.pages(kind, queryOf(options))) {
    if (items.length === 0) continue;
    none = false;
    const text = format.type === 'table' ? table.format(items) : formatObjects(items, format, false);
    if (!process.stdout.write(text)) await once(process.stdout, 'drain');
  }
  if (none && format.type === 'table') reportNone(options);
}

function printTables(found: Map<ResourceKind, StoredObject[]>, options: Options, format: Format): void {
  const tables = [...found].filter(([, objects]) => objects.length > 0);
  const texts = tables.map(([kind, objects]) =>
    tableOf(kind, format, options, tables.length > 1).format(objects),
  );
  process.stdout.write(texts.join('\n'));
}

async function watch(
  client: BulkheadClient,
  targets: Target[],
  options: Options,
  format: Format,
): Promise<void> {
  const [target, ...more] = targets;
  if (target === undefined || more.length > 0) throw usage('a watch is of one kind, or of one object');
  const { kind, name } = target;
  const table = tableOf(kind, format, options, false);
  const query: ListQuery = {
    ...queryOf(options),
    ...(name === undefined ? {} : { fieldSelector: `metadata.name=${name}` }),
  };
  const leave = new AbortController();
  process.once('SIGINT', () => leave.abort());
  process.once('SIGTERM', () => leave.abort());
  const print = (objects: StoredObject[]) => {
    const text =
      format.type === 'table'
        ? table.format(objects)
        : objects.map((object) => formatObjects([object], format, true)).join('');
    process.stdout.write(text);
  };
  for await (const change of followObjects(client, kind, query, leave.signal)) {
    if (change.type === 'SYNCED') {
      if (!options.watchOnly && change.objects.length > 0) print(change.objects.toSorted(byName));
    } else print([change.object]);
  }
}
