// Where the API server is and how it is talked to: a kubeconfig, or the service account of the Pod.
import type { Dispatcher } from 'undici';
import { BulkheadError } from '../../api/errors.ts';
import { type KubeConfigOptions, loadKubeConfig } from '../../kubeconfig/load.ts';

export type ClusterOptions = KubeConfigOptions;

/** The way to one API server. */
export interface ApiServer {
  /** Such as `https://10.0.0.1:6443`, without a slash at its end. */
  readonly url: string;
  /** What a request needs now: headers of authentication, which may be renewed, and connections with the right authorities. */
  credentials(): Promise<{ headers: Record<string, string>; dispatcher: Dispatcher | undefined }>;
  /** Told that a request was answered with 401: what it was sent with is worth nothing any more. */
  refused?(): void;
}

/** Connections are used for so long; a client certificate may have been renewed since. */
const DISPATCHER_MAX_AGE_MS = 10 * 60_000;

/** Fails with KUBECONFIG_INVALID. */
export async function findApiServer(options: ClusterOptions = {}): Promise<ApiServer> {
  const config = await loadKubeConfig(options);
  const library = await import('@kubernetes/client-node');
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new BulkheadError('KUBECONFIG_INVALID', 'The kubeconfig names no cluster.');
  const url = cluster.server.replace(/\/+$/, '');
  let kept: { dispatcher: Dispatcher | undefined; until: number } | undefined;
  return {
    url,
    async credentials() {
      const request = new library.RequestContext(url, library.HttpMethod.GET);
      await config.applySecurityAuthentication(request);
      // The library makes another one for each request, and with it another connection.
      if (kept === undefined || performance.now() >= kept.until) {
        // Requests under way are finished first.
        void kept?.dispatcher?.close();
        const dispatcher = request.getDispatcher() as Dispatcher | undefined;
        kept = { dispatcher, until: performance.now() + DISPATCHER_MAX_AGE_MS };
      }
      return { headers: request.getHeaders(), dispatcher: kept.dispatcher };
    },
  };
}
