// The options that every command with a daemon or a cluster has, and the client they lead to.
import type { Command } from 'commander';
import type { BulkheadClient } from '../client/client.ts';
import type { Endpoint } from '../client/endpoint.ts';
import { chosenCluster, defaultNamespace, defaultSocket } from '../client/settings.ts';
import { usage } from './failure.ts';
import { repeat } from './repeat.ts';

export interface ConnectionOptions {
  namespace: string;
  /** Said by nobody: that of the daemon of this user, unless a cluster is meant. */
  socket?: string;
  kubeconfig?: string;
  context?: string;
  as?: string;
  asGroup?: string[];
}

/** Options with a value that may stand before the command, as those of kubectl may. */
export const LEADING_OPTIONS: readonly string[] = [
  ...['-n', '--namespace', '--socket', '--kubeconfig', '--context', '--as', '--as-group'],
];

/** Adds -n, --socket, and those of kubectl that say which cluster, as whom. */
export function connectionOptions(command: Command): Command {
  return command
    .option(
      '-n, --namespace <name>',
      'namespace of the objects (default: BULKHEAD_NAMESPACE, the context\'s, or "default")',
      defaultNamespace(),
    )
    .option('--socket <path>', `the daemon's socket (default: ${defaultSocket()})`)
    .option(
      '--kubeconfig <file>',
      'a cluster in place of a daemon, by this kubeconfig ("default": as kubectl)',
    )
    .option('--context <name>', 'the same, by a context of the kubeconfig')
    .option('--as <user>', 'in a cluster: speak as this user')
    .option('--as-group <group>', 'the same, with this group; may be repeated', repeat)
    .hook('preAction', (_command, action) => useNamespaceOfContext(action));
}

/** Unless one was said. Before the command runs: it may read files, which have none, before it asks anything. */
async function useNamespaceOfContext(command: Command): Promise<void> {
  if (command.getOptionValueSource('namespace') !== 'default' || process.env.BULKHEAD_NAMESPACE) return;
  const options = command.opts<ConnectionOptions>();
  if (chosenCluster(options) === undefined) return;
  // What cannot be used is told by the command, which knows its exit codes, or does without.
  const { namespace } = (await clusterOf(options).catch(() => undefined)) ?? {};
  if (namespace !== undefined) command.setOptionValue('namespace', namespace);
}

/** By what was said: a command asks twice, and its kubeconfig may run a program for credentials. */
const clusters = new Map<string, Promise<Endpoint & { namespace: string }>>();

function clusterOf(options: ConnectionOptions): Promise<Endpoint & { namespace: string }> {
  const { as: user, asGroup: groups = [] } = options;
  if (user === undefined && groups.length > 0) throw usage('--as-group needs --as');
  const choice = chosenCluster(options) ?? {};
  const key = JSON.stringify([choice, user, groups]);
  let cluster = clusters.get(key);
  if (cluster === undefined) {
    cluster = openCluster({ ...choice, ...(user === undefined ? {} : { impersonate: { user, groups } }) });
    clusters.set(key, cluster);
  }
  return cluster;
}

/** Loaded here: what talks to a daemon starts without it. */
async function openCluster(
  options: Parameters<typeof import('../client/cluster-endpoint.ts').ClusterEndpoint.open>[0],
) {
  const { ClusterEndpoint } = await import('../client/cluster-endpoint.ts');
  return ClusterEndpoint.open(options);
}

/** The namespace of those who say none. */
export async function namespaceOf(options: Partial<ConnectionOptions>): Promise<string> {
  const { namespace = defaultNamespace() } = options;
  if (options.namespace !== undefined || process.env.BULKHEAD_NAMESPACE) return namespace;
  if (chosenCluster(options) === undefined) return namespace;
  return (await clusterOf({ ...options, namespace })).namespace;
}

async function endpointOf(options: ConnectionOptions): Promise<Endpoint> {
  const { socket, kubeconfig, context } = options;
  if (socket !== undefined && (kubeconfig ?? context) !== undefined)
    throw usage(
      '--socket is that of a daemon, --kubeconfig and --context are of a cluster: give one of them',
    );
  if (chosenCluster(options) !== undefined) return clusterOf(options);
  if (options.as !== undefined) throw usage('--as is of clusters: give --kubeconfig or --context too');
  const { DaemonEndpoint } = await import('../client/endpoint.ts');
  return new DaemonEndpoint(socket ?? defaultSocket());
}

/** Runs with a client that is closed afterwards. Loaded here: what needs no daemon starts without it. */
export async function withClient<T>(
  options: ConnectionOptions,
  run: (client: BulkheadClient) => Promise<T>,
): Promise<T> {
  const endpoint = await endpointOf(options);
  const { BulkheadClient } = await import('../client/client.ts');
  const client = new BulkheadClient({ endpoint });
  try {
    return await run(client);
  } finally {
    client.close();
  }
}
