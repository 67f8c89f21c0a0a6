// Which daemon the SDK talks to. One client per socket, shared by everything in the process.
import { BulkheadClient } from '../client/client.ts';
import { defaultNamespace, defaultSocket } from '../client/settings.ts';

export interface ConnectionOptions {
  /** The daemon's socket; default: BULKHEAD_SOCKET, or that of the user's own daemon. */
  socketPath?: string;
  /** Namespace of the objects; default: BULKHEAD_NAMESPACE, or `default`. */
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
   * Whether a daemon is started for this program where none answers and neither `socketPath` nor BULKHEAD_SOCKET names one.
   * It ends by itself once no program and no running sandbox needs it. Needs root, as the daemon does. Default: true.
   */
  embedded?: boolean;
}

/** A daemon and the namespace in it. */
export interface Connection {
  readonly client: BulkheadClient;
  readonly socketPath: string;
  readonly namespace: string;
  /** One may be started for this program. */
  readonly embedded: boolean;
}

const clients = new Map<string, BulkheadClient>();
let defaults: ConfigureOptions = {};

/** Sets what calls use that do not say otherwise. */
export function configure(options: ConfigureOptions): void {
  defaults = { ...options };
}

/** A connection that is given is kept as it is. */
export function connectionOf(options: ConnectionOptions & { embedded?: boolean } = {}): Connection {
  const named = options.socketPath ?? defaults.socketPath;
  const socketPath = named ?? defaultSocket();
  const namespace = options.namespace ?? defaults.namespace ?? defaultNamespace();
  let client = clients.get(socketPath);
  if (client === undefined) {
    client = new BulkheadClient({ socketPath });
    clients.set(socketPath, client);
  }
  const isConfigured = named !== undefined || Boolean(process.env.BULKHEAD_SOCKET);
  const embedded = options.embedded ?? (!isConfigured && defaults.embedded !== false);
  return { client, socketPath, namespace, embedded };
}
