// Which daemon or cluster the SDK talks to. One client for each, shared by everything in the process.
import { BulkheadClient } from '../client/client.ts';
import { type ClusterChoice, chosenCluster, defaultNamespace, defaultSocket } from '../client/settings.ts';

export interface ConnectionOptions {
  /** The daemon's socket; default: BULKHEAD_SOCKET, or that of the user's own daemon. */
  socketPath?: string;
  /**
   * A cluster in place of a daemon: the path of a kubeconfig, or `true` for what kubectl would take (KUBECONFIG, the file in the
   * home directory, or a Pod's service account). Default: BULKHEAD_KUBECONFIG. Needs the package `@kubernetes/client-node`.
   */
  kubeconfig?: string | true;
  /** The same, by a context of the kubeconfig; default: BULKHEAD_CONTEXT, or the current one. */
  context?: string;
  /** Namespace of the objects; default: BULKHEAD_NAMESPACE, that of the kubeconfig's context, or `default`. */
  namespace?: string;
}

export interface WaitOptions {
  /** Ends the wait; whether what was asked for is done is unknown then. */
  signal?: AbortSignal;
}

/** What a call may be given that belongs to no sandbox that this program has. */
export interface CallOptions extends ConnectionOptions, WaitOptions {}

export interface ConfigureOptions extends ConnectionOptions {
  /**
   * Whether a daemon is started for this program where none answers and neither a socket nor a cluster is named. It ends by itself
   * once no program and no running sandbox needs it. Needs root, as the daemon does. Default: true.
   */
  embedded?: boolean;
}

/** A daemon or a cluster, and the namespace in it. */
export interface Connection {
  readonly client: BulkheadClient;
  /** Of the daemon; of no meaning in a cluster. */
  readonly socketPath: string;
  readonly namespace: string;
  /** A daemon may be started for this program. */
  readonly embedded: boolean;
}

/** What is known of a client once it is there. */
interface Opened {
  client: BulkheadClient;
  /** Of those who say none. */
  namespace: string;
}

const daemons = new Map<string, BulkheadClient>();
const clusters = new Map<string, Promise<Opened>>();
let defaults: ConfigureOptions = {};

/** Sets what calls use that do not say otherwise. */
export function configure(options: ConfigureOptions): void {
  defaults = { ...options };
}

/** Where a call goes: what the call says, else what `configure` said, else the environment. */
export function placeOf(options: ConnectionOptions): {
  cluster: ClusterChoice | undefined;
  socketPath: string;
  isNamed: boolean;
} {
  // A call that names one kind of place takes nothing from a default of the other kind.
  const says = (from: ConnectionOptions) => from.socketPath ?? from.kubeconfig ?? from.context;
  const { socketPath, kubeconfig, context } = says(options) === undefined ? defaults : options;
  const cluster = chosenCluster({ socket: socketPath, kubeconfig, context });
  const isNamed = socketPath !== undefined || Boolean(process.env.BULKHEAD_SOCKET);
  return { cluster, socketPath: socketPath ?? defaultSocket(), isNamed };
}

/** A connection that is given is kept as it is. */
export async function connectionOf(
  options: ConnectionOptions & Partial<Pick<Connection, 'client' | 'embedded'>> = {},
): Promise<Connection> {
  const { cluster, socketPath, isNamed } = placeOf(options);
  const saidNamespace = options.namespace ?? defaults.namespace;
  if (options.client !== undefined) {
    const { client, embedded = false } = options;
    return { client, socketPath, namespace: saidNamespace ?? defaultNamespace(), embedded };
  }
  if (cluster !== undefined) {
    const opened = await clientOfCluster(cluster);
    const namespace = saidNamespace ?? (process.env.BULKHEAD_NAMESPACE || opened.namespace);
    return { client: opened.client, socketPath, namespace, embedded: false };
  }
  let client = daemons.get(socketPath);
  if (client === undefined) {
    client = new BulkheadClient({ socketPath });
    daemons.set(socketPath, client);
  }
  const embedded = options.embedded ?? (!isNamed && defaults.embedded !== false);
  return { client, socketPath, namespace: saidNamespace ?? defaultNamespace(), embedded };
}

/** Programs without a cluster load nothing of it. One that failed is tried anew. */
function clientOfCluster(choice: ClusterChoice): Promise<Opened> {
  const key = JSON.stringify(choice);
  let opened = clusters.get(key);
  if (opened === undefined) {
    opened = open(choice);
    clusters.set(key, opened);
    opened.catch(() => clusters.delete(key));
  }
  return opened;
}

async function open(choice: ClusterChoice): Promise<Opened> {
  const { ClusterEndpoint } = await import('../client/cluster-endpoint.ts');
  const endpoint = await ClusterEndpoint.open(choice);
  return { client: new BulkheadClient({ endpoint }), namespace: endpoint.namespace };
}
