// bulkhead cp
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import type { BulkheadClient } from '../client/client.ts';
import { copyIn, copyOut } from '../client/copy.ts';
import type { FileOwner } from '../client/files.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { usage } from './failure.ts';
import { formatBytes } from './output/bytes.ts';
import { sandboxName } from './targets.ts';

interface Options extends ConnectionOptions {
  quiet?: true;
}

/** A path of a sandbox, or of this host; `-` is standard input or output. */
type Place = { sandbox: string; path: string } | { path: string };

/** Between two looks of the progress line: more often helps nobody. */
const PROGRESS_INTERVAL_MS = 100;

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<source>', 'SANDBOX:PATH, a path of this host, or - for standard input')
    .argument('<target>', 'SANDBOX:PATH, a path of this host, or - for standard output')
    .option('-q, --quiet', 'no progress')
    .addHelpText(
      'after',
      '\nCopies a file, or a directory with all below it; into the target where that is a directory. Files are in place\nwhole or not at all. For example:\n  bulkhead cp ./src agent:/work\n  bulkhead cp agent:/work/report.pdf .',
    )
    .action((source: string, target: string, options: Options) =>
      cp(placeOf(source), placeOf(target), options),
    );
}

/** A colon after a slash belongs to a path of the host, as with scp. */
function placeOf(word: string): Place {
  const [, name, path] = /^([^:]*[^:/.][^:]*|[^:/]+):(.*)$/s.exec(word) ?? [];
  if (name === undefined || path === undefined || name.startsWith('.') || name.startsWith('/'))
    return { path: word };
  if (!path.startsWith('/')) throw usage(`"${word}": the path in a sandbox must be absolute`);
  return { sandbox: sandboxName(name), path };
}

async function cp(source: Place, target: Place, options: Options): Promise<void> {
  const { namespace } = options;
  if ('sandbox' in source === 'sandbox' in target)
    throw usage('one of source and target must be in a sandbox: SANDBOX:PATH');
  await withClient(options, async (client) => {
    if ('sandbox' in source)
      await copyFrom(client, { namespace, name: source.sandbox }, source.path, target.path, options);
    else if ('sandbox' in target)
      await copyTo(client, { namespace, name: target.sandbox }, source.path, target.path, options);
  });
}

async function copyFrom(
  client: BulkheadClient,
  owner: FileOwner,
  from: string,
  to: string,
  options: Options,
) {
  if (to === '-') {
    await pipeline(await client.files.read(owner, from), process.stdout, { end: false });
    return;
  }
  const view = progressOf(options);
  try {
    await copyOut(client.files, owner, from, to, view);
  } finally {
    view.clear();
  }
}

async function copyTo(client: BulkheadClient, owner: FileOwner, from: string, to: string, options: Options) {
  if (from === '-') {
    await client.files.write(owner, to, process.stdin);
    return;
  }
  const view = progressOf(options);
  try {
    await copyIn(client.files, owner, from, to, view);
  } finally {
    view.clear();
  }
}

/** How far it is, on one line of a terminal; what is left out, on lines of their own. */
function progressOf({ quiet }: Options) {
  const show = !quiet && process.stderr.isTTY;
  let shownAt = 0;
  const clear = () => {
    if (shownAt > 0) process.stderr.write('\r\u001b[K');
  };
  return {
    clear,
    onProgress(bytes: number) {
      const now = performance.now();
      if (!show || now - shownAt < PROGRESS_INTERVAL_MS) return;
      shownAt = now;
      process.stderr.write(`\r\u001b[K${formatBytes(bytes)} copied`);
    },
    onSkipped(path: string) {
      clear();
      process.stderr.write(`warning: ${path} is neither file, directory nor link; left out\n`);
    },
  };
}
