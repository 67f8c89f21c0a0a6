// Options of the programs that are parts of a cluster.
import { type Command, Option } from 'commander';

export interface ClusterFlags {
  kubeconfig?: string;
  context?: string;
  systemNamespace: string;
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'];

export function clusterOptions(command: Command): Command {
  return command
    .option(
      '--kubeconfig <file>',
      "where the API server is (default: KUBECONFIG, or the Pod's service account)",
    )
    .option('--context <name>', 'context of the kubeconfig')
    .addOption(
      new Option('--system-namespace <name>', "namespace of Bulkhead's own leases")
        .default('bulkhead-system')
        .env('BULKHEAD_SYSTEM_NAMESPACE'),
    );
}

export function clusterSettings({ kubeconfig, context, systemNamespace }: ClusterFlags): {
  kubeconfig?: string;
  context?: string;
  namespace: string;
} {
  return {
    namespace: systemNamespace,
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
  };
}

export function logLevelOption(): Option {
  return new Option('--log-level <level>', 'least important messages to log')
    .choices(LOG_LEVELS)
    .default('info');
}

/** Aborts at SIGTERM and SIGINT. */
export function untilStopped(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  return stop.signal;
}
