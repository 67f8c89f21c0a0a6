// Where the command line finds things: options over environment over defaults.
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The daemon's directory: the system's for root, the user's own otherwise. */
export function defaultStateDir(): string {
  const { BULKHEAD_STATE_DIR, XDG_STATE_HOME } = process.env;
  if (BULKHEAD_STATE_DIR) return BULKHEAD_STATE_DIR;
  if (process.getuid?.() === 0) return '/var/lib/bulkhead';
  return join(XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'bulkhead');
}

/** The daemon's socket. */
export function defaultSocket(stateDir = defaultStateDir()): string {
  return process.env.BULKHEAD_SOCKET || join(stateDir, 'bulkhead.sock');
}

export function defaultNamespace(): string {
  return process.env.BULKHEAD_NAMESPACE || 'default';
}

/** What stands for a file where the kubeconfig is that which kubectl would take. */
export const USUAL_KUBECONFIG = 'default';

/** A cluster in place of a daemon. */
export interface ClusterChoice {
  /** A file; absent: KUBECONFIG, that of the home directory, or the service account of a Pod. */
  kubeconfig?: string;
  context?: string;
}

/**
 * The cluster that is meant, if one is: what was said in the call or on the command line, else by BULKHEAD_KUBECONFIG and
 * BULKHEAD_CONTEXT. A socket that was said is a daemon's; one of BULKHEAD_SOCKET yields to a cluster.
 */
export function chosenCluster(said: {
  socket?: string | undefined;
  kubeconfig?: string | true | undefined;
  context?: string | undefined;
}): ClusterChoice | undefined {
  const env = process.env;
  const isSaid = said.kubeconfig !== undefined || said.context !== undefined;
  if (!isSaid && said.socket !== undefined) return undefined;
  const kubeconfig = said.kubeconfig ?? (env.BULKHEAD_KUBECONFIG || undefined);
  // The context of the environment is one of the kubeconfig of the environment.
  const context =
    said.context ?? (said.kubeconfig === undefined ? env.BULKHEAD_CONTEXT || undefined : undefined);
  if (kubeconfig === undefined && context === undefined) return undefined;
  const isUsual = kubeconfig === undefined || kubeconfig === true || kubeconfig === USUAL_KUBECONFIG;
  return { ...(isUsual ? {} : { kubeconfig }), ...(context === undefined ? {} : { context }) };
}
