// bulkhead source
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { logLevelOption, untilStopped } from './cluster-options.ts';

interface Options {
  manifests: string;
  stateDir: string;
  kubeconfig?: string;
  context?: string;
  logLevel: string;
}

export function define(command: Command): void {
  command
    .requiredOption('--manifests <dir>', 'folder of manifests to follow, such as the link of git-sync')
    .option('--state-dir <dir>', 'keeps what was applied', '/var/lib/bulkhead-source')
    .option(
      '--kubeconfig <file>',
      "where the API server is (default: KUBECONFIG, or the Pod's service account)",
    )
    .option('--context <name>', 'context of the kubeconfig')
    .addOption(logLevelOption())
    .action(source);
}

async function source({ manifests, stateDir, logLevel, kubeconfig, context }: Options): Promise<void> {
  const signal = untilStopped();
  const { runSource } = await import('../daemon/source.ts');
  await runSource(
    {
      // The link itself, not what it leads to now.
      ...{ manifestsDir: resolve(manifests), stateDir: resolve(stateDir), logLevel },
      ...(kubeconfig === undefined ? {} : { kubeconfig }),
      ...(context === undefined ? {} : { context }),
    },
    signal,
  );
}
