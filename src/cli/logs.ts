// bulkhead logs
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { LogQuery } from '../api/wire.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { parseDuration } from './duration.ts';
import { usage } from './failure.ts';
import { sandboxName, withSuggestion } from './targets.ts';

interface Options extends ConnectionOptions {
  follow?: true;
  previous?: true;
  tail?: string;
  since?: string;
  sinceTime?: string;
  timestamps?: true;
}

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<sandbox>', 'name of the sandbox')
    .option('-f, --follow', 'go on until the run ends')
    .option('-p, --previous', 'the run before this one')
    .option('--tail <lines>', 'the last so many lines')
    .option('--since <duration>', 'not older than so long, e.g. 10m')
    .option('--since-time <time>', 'not older than this time (RFC 3339)')
    .option('--timestamps', 'a time before each line')
    .action(logs);
}

function queryOf(options: Options): LogQuery {
  const { tail, since, sinceTime } = options;
  // kubectl's -1 means all.
  if (tail !== undefined && !/^(-1|\d{1,9})$/.test(tail))
    throw usage(`--tail "${tail}": expected a number of lines`);
  return {
    follow: options.follow === true,
    previous: options.previous === true,
    timestamps: options.timestamps === true,
    ...(tail === undefined || tail === '-1' ? {} : { tailLines: Number(tail) }),
    ...(since === undefined ? {} : { sinceSeconds: Math.max(1, Math.ceil(parseDuration(since) / 1000)) }),
    ...(sinceTime === undefined ? {} : { sinceTime }),
  };
}

async function logs(word: string, options: Options): Promise<void> {
  const name = sandboxName(word);
  const query = queryOf(options);
  await withClient(options, async (client) => {
    try {
      const log = await client.logs(options.namespace, name, query);
      await pipeline(log, process.stdout, { end: false });
    } catch (error) {
      throw await withSuggestion(error, client, SANDBOX_KIND, options.namespace, name);
    }
  });
}
