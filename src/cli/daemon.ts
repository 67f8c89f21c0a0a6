// bulkhead daemon
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { untilStopped } from './cluster-options.ts';
import { type HostFlags, hostOptions, hostSettings } from './host-options.ts';

interface Options extends HostFlags {
  manifests?: string;
}

export function define(command: Command): void {
  hostOptions(command.option('--manifests <dir>', 'folder of manifests to follow')).action(daemon);
}

async function daemon({ manifests, ...options }: Options): Promise<void> {
  const settings = await hostSettings(options);
  const signal = untilStopped();
  const { runDaemon } = await import('../daemon/daemon.ts');
  await runDaemon(
    { ...settings, ...(manifests === undefined ? {} : { manifestsDir: resolve(manifests) }) },
    signal,
  );
}
