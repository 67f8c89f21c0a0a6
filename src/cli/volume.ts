// bulkhead volume ls|du|export|import|snapshot|clone
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { CloneVolumeRequest, VolumeDiskInfo } from '../api/wire.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { CommandFailure, EXIT, report } from './failure.ts';
import { formatBytes } from './output/bytes.ts';
import { Table } from './output/table.ts';

interface ListOptions extends ConnectionOptions {
  allNamespaces?: true;
  output?: string;
}

export function define(command: Command): void {
  const sub = (name: string, summary: string) =>
    connectionOptions(command.command(name).summary(summary).description(summary));
  const listing = (name: string, summary: string) =>
    sub(name, summary)
      .argument('[name...]')
      .option('-A, --all-namespaces', 'volumes of all namespaces')
      .addOption(new Option('-o, --output <format>', 'output format').choices(['json']));
  listing('ls', 'list disks, those kept without a Volume included').alias('list').action(list);
  listing('du', 'show how full volumes are, as last measured').action(usage);
  sub('export', 'write a volume to a new file, as a sparse raw ext4 image')
    .argument('<name>')
    .argument('<file>', "on the daemon's host")
    .action(exportVolume);
  sub('import', 'replace what is on a volume by a raw ext4 image')
    .argument('<name>')
    .argument('<file>', "on the daemon's host")
    .option('--overwrite', 'also where the volume holds files, which are lost')
    .action(importVolume);
  sub('snapshot', 'make a read-only volume that holds what this one holds now')
    .argument('<name>')
    .argument('<snapshot>', 'name of the new Volume')
    .action((name: string, snapshot: string, options: ConnectionOptions) =>
      clone(name, { name: snapshot, accessMode: 'ReadOnlyMany' }, options),
    );
  sub('clone', 'make another volume that holds what this one holds now')
    .argument('<name>')
    .argument('<clone>', 'name of the new Volume')
    .action((name: string, copy: string, options: ConnectionOptions) => clone(name, { name: copy }, options));
}

/** The disks that are asked for. Says which names there are none of, and fails then. */
async function print(
  names: readonly string[],
  options: ListOptions,
  format: (disks: readonly VolumeDiskInfo[]) => string,
): Promise<void> {
  const all = await withClient(options, (client) => client.volumes.list());
  const within = options.allNamespaces ? all : all.filter(({ namespace }) => namespace === options.namespace);
  const disks = names.length === 0 ? within : within.filter(({ name }) => names.includes(name));
  disks.sort((a, b) => `${a.namespace}/${a.name}`.localeCompare(`${b.namespace}/${b.name}`));
  if (options.output === 'json') process.stdout.write(`${JSON.stringify(disks, undefined, 4)}\n`);
  else process.stdout.write(format(disks));
  const missing = names.filter((name) => !disks.some((disk) => disk.name === name));
  for (const name of missing)
    report(new CommandFailure(EXIT.failed, `there is no disk of a volume "${name}"`));
  if (missing.length > 0) throw new CommandFailure(EXIT.failed);
}

function stateOf({ state, busy, unclean }: VolumeDiskInfo): string {
  if (busy !== undefined) return `${state} (${busy})`;
  return unclean ? `${state} (unclean)` : state;
}

function list(names: string[], options: ListOptions): Promise<void> {
  return print(names, options, (disks) => {
    const header = ['NAMESPACE', 'NAME', 'STATE', 'ACCESS', 'CAPACITY', 'ON DISK', 'USED BY', 'UID'];
    const rows = disks.map((disk) => [
      disk.namespace,
      disk.name,
      stateOf(disk),
      disk.accessMode,
      formatBytes(disk.capacityBytes),
      disk.diskBytes === undefined ? '-' : formatBytes(disk.diskBytes),
      disk.users.join(', ') || '-',
      disk.uid,
    ]);
    return new Table(header, { showHeader: true }).format(rows);
  });
}

/** Part of a whole, rounded up as df does. */
function percent(part: number, whole: number): string {
  return whole === 0 ? '-' : `${Math.ceil((100 * part) / whole)}%`;
}

function usage(names: string[], options: ListOptions): Promise<void> {
  return print(names, options, (disks) => {
    const header = [
      'NAMESPACE',
      'NAME',
      'CAPACITY',
      'USED',
      'AVAILABLE',
      'USE%',
      'INODES',
      'IUSE%',
      'ON DISK',
    ];
    const rows = disks.map(({ namespace, name, capacityBytes, usedBytes, ...disk }) => {
      const { availableBytes = 0, inodes = 0, inodesUsed = 0, diskBytes = 0 } = disk;
      const figures =
        usedBytes === undefined
          ? ['-', '-', '-', '-', '-', '-'] // its guest has not told them yet, or it waits for a check
          : [
              formatBytes(usedBytes),
              formatBytes(availableBytes),
              percent(usedBytes, usedBytes + availableBytes),
              String(inodes),
              percent(inodesUsed, inodes),
              formatBytes(diskBytes),
            ];
      return [namespace, name, formatBytes(capacityBytes), ...figures];
    });
    return new Table(header, { showHeader: true }).format(rows);
  });
}

async function exportVolume(name: string, file: string, options: ConnectionOptions): Promise<void> {
  const path = resolve(file);
  await withClient(options, (client) => client.volumes.export(options.namespace, name, path));
  process.stdout.write(`volume "${name}" exported to ${path}\n`);
}

async function importVolume(
  name: string,
  file: string,
  options: ConnectionOptions & { overwrite?: true },
): Promise<void> {
  const request = { path: resolve(file), overwrite: options.overwrite === true };
  await withClient(options, (client) => client.volumes.import(options.namespace, name, request));
  process.stdout.write(`volume "${name}" imported from ${request.path}\n`);
}

async function clone(name: string, request: CloneVolumeRequest, options: ConnectionOptions): Promise<void> {
  await withClient(options, (client) => client.volumes.clone(options.namespace, name, request));
  process.stdout.write(`volume "${request.name}" created from "${name}"\n`);
}
