// Options of the programs that are parts of a cluster.
import { type Command, Option } from 'commander';
import { usage } from './failure.ts';

export interface ClusterFlags {
  kubeconfig?: string;
  context?: string;
  systemNamespace: string;
  secureMetricsAddress?: string;
  metricsCertFile?: string;
  metricsKeyFile?: string;
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
    )
    .option(
      '--secure-metrics-address <host:port>',
      'where /metrics is served over TLS to those who may get it by the RBAC of the cluster',
    )
    .option(
      '--metrics-cert-file <file>',
      'PEM certificate of it, read anew when it changes (default: one is made that nobody can verify)',
    )
    .option('--metrics-key-file <file>', 'PEM key of that certificate');
}

export function clusterSettings(flags: ClusterFlags): {
  kubeconfig?: string;
  context?: string;
  namespace: string;
  guardedMetrics?: GuardedMetricsSettings;
} {
  const { kubeconfig, context, systemNamespace } = flags;
  const guardedMetrics = guardedMetricsSettings(flags);
  return {
    namespace: systemNamespace,
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
    ...(guardedMetrics === undefined ? {} : { guardedMetrics }),
  };
}

interface GuardedMetricsSettings {
  address: string;
  certificate?: { certFile: string; keyFile: string };
}

function guardedMetricsSettings(flags: ClusterFlags): GuardedMetricsSettings | undefined {
  const { secureMetricsAddress: address, metricsCertFile: certFile, metricsKeyFile: keyFile } = flags;
  if ((certFile === undefined) !== (keyFile === undefined))
    throw usage('--metrics-cert-file and --metrics-key-file belong together');
  if (address === undefined) return undefined;
  return certFile === undefined || keyFile === undefined
    ? { address }
    : { address, certificate: { certFile, keyFile } };
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
