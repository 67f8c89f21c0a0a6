// Where the API server is and how it is talked to: a kubeconfig, or the service account of the Pod.
import type { KubeConfig } from '@kubernetes/client-node';
import type { Dispatcher } from 'undici';
import { BulkheadError } from '../../api/errors.ts';

export interface ClusterOptions {
  /** A kubeconfig file. Absent: that of KUBECONFIG, of the service account in a Pod, or of the home directory. */
  kubeconfig?: string;
  /** A context of the kubeconfig; its current one where absent. */
  context?: string;
}

/** The way to one API server. */
export interface ApiServer {
  /** Such as `https://10.0.0.1:6443`, without a slash at its end. */
  readonly url: string;
  /** What a request needs now: headers of authentication, which may be renewed, and connections with the right authorities. */
  credentials(): Promise<{ headers: Record<string, string>; dispatcher: Dispatcher | undefined }>;
}

/**
 * Reads the configuration. The client library weighs some 80 MiB and is loaded here, so that a daemon without a cluster does
 * without. Fails with KUBECONFIG_INVALID.
 */
export async function findApiServer(options: ClusterOptions = {}): Promise<ApiServer> {
  const library = await import('@kubernetes/client-node');
  const config = new library.KubeConfig();
  try {
    if (options.kubeconfig !== undefined) config.loadFromFile(options.kubeconfig);
    else config.loadFromDefault();
    if (options.context !== undefined) chooseContext(config, options.context);
  } catch (error) {
    throw new BulkheadError(
      'KUBECONFIG_INVALID',
      `The kubeconfig cannot be used: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new BulkheadError('KUBECONFIG_INVALID', 'The kubeconfig names no cluster.');
  const url = cluster.server.replace(/\/+$/, '');
  return {
    url,
    async credentials() {
      const request = new library.RequestContext(url, library.HttpMethod.GET);
      await config.applySecurityAuthentication(request);
      return { headers: request.getHeaders(), dispatcher: request.getDispatcher() as Dispatcher | undefined };
    },
  };
}

function chooseContext(config: KubeConfig, context: string): void {
  if (config.getContextObject(context) === null) throw new Error(`it has no context "${context}"`);
  config.setCurrentContext(context);
}
