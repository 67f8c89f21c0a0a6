// bulkhead daemon
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import { untilStopped } from './cluster-options.ts';
import { CommandFailure, describeFailure, EXIT } from './failure.ts';
import { type HostFlags, hostOptions, hostSettings } from './host-options.ts';

interface Options extends HostFlags {
  manifests?: string;
  untilUnused?: boolean;
}

/** Another daemon is there: whoever starts one for himself uses that. */
const TAKEN: ReadonlySet<ErrorCode> = new Set(['STORE_LOCKED', 'ADDRESS_IN_USE']);

export function define(command: Command): void {
  hostOptions(
    command
      .option('--manifests <dir>', 'folder of manifests to follow')
      .option(
        '--until-unused',
        `end by itself once no client and no running sandbox needs it; exit code ${EXIT.taken} where another daemon has its place`,
      ),
  ).action(daemon);
}

async function daemon({ manifests, untilUnused = false, ...options }: Options): Promise<void> {
  const settings = await hostSettings(options);
  const signal = untilStopped();
  const { runDaemon } = await import('../daemon/daemon.ts');
  const running = runDaemon(
    { ...settings, untilUnused, ...(manifests === undefined ? {} : { manifestsDir: resolve(manifests) }) },
    signal,
  );
  await running.catch((error: unknown) => {
    if (!untilUnused || !(error instanceof BulkheadError) || !TAKEN.has(error.code)) throw error;
    throw new CommandFailure(EXIT.taken, describeFailure(error));
  });
}
