// bulkhead image pull|load|save|ls|rm|prune
import { createWriteStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type Command, Option } from 'commander';
import { ageOf } from '../api/age.ts';
import { asBulkheadError } from '../api/errors.ts';
import { parseBytes } from '../api/quantity.ts';
import type { CachedImage, ImageSummary, PullRequest } from '../api/wire.ts';
import type { BulkheadClient } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { CommandFailure, EXIT, pathProblem, report, usage } from './failure.ts';
import { formatBytes } from './output/bytes.ts';
import { progressView } from './output/progress.ts';
import { Table } from './output/table.ts';

export function define(command: Command): void {
  const sub = (name: string, summary: string) =>
    connectionOptions(command.command(name).summary(summary).description(summary));
  sub('pull', 'fetch images from their registries')
    .argument('<reference...>')
    .addOption(
      new Option('--policy <policy>', 'when to ask the registry')
        .choices(['Always', 'IfNotPresent', 'Never'])
        .default('Always'),
    )
    .action(pull);
  sub('load', 'read an archive or OCI layout folder; - reads standard input')
    .argument('<path>')
    .option('--reference <name>', 'name for an archive that carries none')
    .action(load);
  sub('save', 'write an image as an OCI archive')
    .argument('<reference>')
    .option('-o, --output <file>', 'where to; standard output when absent')
    .action(save);
  sub('ls', 'list images')
    .alias('list')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['json']))
    .option('-q, --quiet', 'digests only')
    .action(list);
  sub('rm', 'remove images').argument('<reference...>', 'names or digests').action(remove);
  sub('prune', 'remove images that nothing uses')
    .option('--target-free <size>', 'stop when so much is free, e.g. 10Gi')
    .option('--dry-run', 'only say what would go')
    .action(prune);
}

function printSummaries(images: readonly ImageSummary[]): void {
  for (const { reference, digest } of images) process.stdout.write(`${reference}@${digest}\n`);
}

async function pull(
  references: string[],
  options: ConnectionOptions & Required<Pick<PullRequest, 'policy'>>,
) {
  await withClient(options, async (client) => {
    let failed = false;
    for (const reference of references) {
      const progress = await progressView(reference);
      try {
        const image = await client.images.pull({ reference, policy: options.policy }, (each) =>
          progress.update(each),
        );
        progress.stop();
        printSummaries([image]);
      } catch (error) {
        progress.stop();
        report(error);
        failed = true;
      }
    }
    if (failed) throw new CommandFailure(EXIT.failed);
  });
}

async function load(path: string, options: ConnectionOptions & { reference?: string }): Promise<void> {
  const name = options.reference === undefined ? {} : { reference: options.reference };
  if (path === '-' && process.stdin.isTTY) throw usage('standard input is a terminal; give an archive');
  // The daemon is on this host, behind a socket: what is not there for us is not there for it.
  if (path !== '-') await checkExists(path);
  await withClient(options, async (client) => {
    const progress = await progressView(path === '-' ? 'standard input' : path);
    try {
      const archive = path === '-' ? { upload: process.stdin, ...name } : { path: resolve(path), ...name };
      const images = await client.images.load(archive, (each) => progress.update(each));
      progress.stop();
      printSummaries(images);
    } finally {
      progress.stop();
    }
  });
}

async function checkExists(path: string): Promise<void> {
  try {
    await stat(path);
  } catch (error) {
    throw new CommandFailure(EXIT.usage, pathProblem(path, error));
  }
}

async function save(reference: string, options: ConnectionOptions & { output?: string }): Promise<void> {
  const { output } = options;
  if (output === undefined && process.stdout.isTTY)
    throw usage('an archive is nothing for a terminal; give -o FILE');
  await withClient(options, (client) =>
    output === undefined ? saveToStdout(client, reference) : saveToFile(client, reference, output),
  );
}

async function saveToStdout(client: BulkheadClient, reference: string): Promise<void> {
  await pipeline(await client.images.save(reference), process.stdout, { end: false });
}

/** Under another name until it is whole. */
async function saveToFile(client: BulkheadClient, reference: string, file: string): Promise<void> {
  const partial = `${file}.partial`;
  try {
    await pipeline(await client.images.save(reference), createWriteStream(partial));
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

function imageTable(images: readonly CachedImage[]): string {
  const table = new Table(['REFERENCE', 'DIGEST', 'SIZE', 'LAST USED', 'IN USE'], { showHeader: true });
  const now = Date.now();
  const rows = images.map(({ references, digest, sizeBytes, lastUsedAt, inUse }) => [
    references.join(', ') || '<none>',
    digest.slice(0, 19),
    formatBytes(sizeBytes),
    ageOf(lastUsedAt, now),
    inUse ? 'yes' : 'no',
  ]);
  return table.format(rows);
}

async function list(options: ConnectionOptions & { output?: string; quiet?: true }): Promise<void> {
  const images = await withClient(options, (client) => client.images.list());
  if (options.output === 'json') process.stdout.write(`${JSON.stringify(images, undefined, 4)}\n`);
  else if (options.quiet) process.stdout.write(images.map(({ digest }) => `${digest}\n`).join(''));
  else process.stdout.write(imageTable(images));
}

async function remove(references: string[], options: ConnectionOptions): Promise<void> {
  await withClient(options, async (client) => {
    let failed = false;
    for (const reference of references) {
      try {
        await client.images.remove(reference);
        process.stdout.write(`image "${reference}" removed\n`);
      } catch (error) {
        reportRemoval(error);
        failed = true;
      }
    }
    if (failed) throw new CommandFailure(EXIT.failed);
  });
}

/** The general hints are for those who want to use an image, not to be rid of it. */
function reportRemoval(error: unknown): void {
  const hints: Partial<Record<string, string>> = {
    IMAGE_NOT_PRESENT: '`bulkhead image ls` lists the images of this machine.',
    CONFLICT: 'Delete the sandboxes that use it first; `bulkhead image prune` keeps what is in use.',
  };
  const { code, message } = asBulkheadError(error);
  const hint = hints[code];
  report(hint === undefined ? error : new CommandFailure(EXIT.failed, `${message}\n${hint}`));
}

function bytesOf(text: string): number {
  try {
    return parseBytes(text);
  } catch {
    throw usage(`--target-free "${text}": expected a size such as 10Gi`);
  }
}

async function prune(options: ConnectionOptions & { targetFree?: string; dryRun?: true }): Promise<void> {
  const { targetFree, dryRun } = options;
  const target = targetFree === undefined ? {} : { targetFreeBytes: bytesOf(targetFree) };
  const removed = await withClient(options, (client) =>
    client.images.prune({ ...target, dryRun: dryRun === true }),
  );
  const bytes = removed.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  for (const { references, digest } of removed) {
    process.stdout.write(`${references[0] ?? digest} ${dryRun ? 'would be removed' : 'removed'}\n`);
  }
  process.stdout.write(`${dryRun ? 'Would free' : 'Freed'} ${formatBytes(bytes)}\n`);
}
