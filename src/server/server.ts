// The HTTP server: Kubernetes' conventions on a unix socket, and monitoring on TCP.
import type { FastifyInstance } from 'fastify';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import { closeApp, createApp } from './app.ts';
import { ClusterListener } from './cluster-listener.ts';
import { registerCommitRoutes } from './commit-routes.ts';
import { Connections } from './connections.ts';
import type { ServerDependencies } from './contracts.ts';
import { registerCopyRoutes } from './copy-routes.ts';
import { registerDiscovery } from './discovery.ts';
import { registerEvents } from './events.ts';
import { registerFileRoutes } from './file-routes.ts';
import { registerGarbageRoutes } from './garbage-routes.ts';
import { registerHealth } from './health.ts';
import { registerImageRoutes } from './image-routes.ts';
import { API_CONNECTION_LIMITS, MONITORING_CONNECTION_LIMITS, STREAMS_CLOSE_TIMEOUT_MS } from './limits.ts';
import { listenOnSocket, listenOnTcp } from './listen.ts';
import { basePath, registerKind } from './objects.ts';
import { Pages } from './pages.ts';
import { RequestUse } from './request-use.ts';
import { registerSandboxRoutes } from './sandbox-routes.ts';
import { StreamEndpoints } from './streams.ts';
import { registerVolumeRoutes } from './volume-routes.ts';
import type { WatchHost } from './watch.ts';

/** Content types of an object as text. */
const OBJECT_TYPES = [
  'application/json',
  'application/merge-patch+json',
  'application/yaml',
  'application/apply-patch+yaml',
];

export interface ListenOptions {
  /** Unix socket of the API; made with mode 0600. */
  socketPath: string;
  /** HOST:PORT of /metrics, /healthz and /readyz; not served on TCP when absent. */
  metricsAddress?: string;
}

export interface ApiServer {
  /** Milliseconds since the last request of the API ended; 0 while there is one, watches and holds included. */
  readonly idleMs: number;
  /** The subresources of sandboxes for the controllers of a cluster; listens where it is told to. */
  readonly forCluster: ClusterListener;
  listen(options: ListenOptions): Promise<void>;
  /** Ends watches and streams, lets requests finish, and removes the socket. Safe to repeat. */
  close(): Promise<void>;
}

/** Builds the server; nothing listens before `listen`. */
export function createServer(deps: ServerDependencies, apiLimits = API_CONNECTION_LIMITS): ApiServer {
  const closing = new AbortController();
  const pages = new Pages();
  const watches: WatchHost = { closing: closing.signal, followers: 0 };

  const api = createApp(deps.logger);
  const apiConnections = new Connections(api, apiLimits);
  const forCluster = new ClusterListener(api, apiConnections);
  const use = new RequestUse(api, () => performance.now());
  api.removeAllContentTypeParsers();
  for (const type of OBJECT_TYPES) {
    api.addContentTypeParser(type, { parseAs: 'string' }, async (_request: unknown, text: string | Buffer) =>
      text.length === 0 ? undefined : deps.rules.parse(text.toString()),
    );
  }
  for (const kind of deps.rules.kinds) registerKind(api, kind, deps, watches, pages);
  registerEvents(api, deps.store, deps.rules.kinds, watches);
  registerDiscovery(api, deps.rules.kinds, deps.version);
  registerSandboxRoutes(api, deps, watches);
  registerFileRoutes(api, deps.sandboxes, closing.signal);
  registerImageRoutes(api, deps, closing.signal);
  registerVolumeRoutes(api, deps.volumes, closing.signal);
  registerCopyRoutes(api, deps.copies);
  registerGarbageRoutes(api, deps.garbage);
  registerCommitRoutes(api, deps.commits, closing.signal);
  registerHealth(api, deps);
  api.get(`/apis/${GROUP_VERSION}/doctor`, async () => ({ checks: await deps.doctor() }));
  refuseOtherMethods(api, deps);
  const streams = new StreamEndpoints(api.server, deps.sandboxes, closing.signal);

  const monitoring = createApp(deps.logger);
  const monitoringConnections = new Connections(monitoring, MONITORING_CONNECTION_LIMITS);
  registerHealth(monitoring, deps);

  return {
    forCluster,
    get idleMs() {
      return use.idleMs;
    },
    async listen({ socketPath, metricsAddress }) {
      await api.ready();
      await listenOnSocket(api.server, socketPath);
      if (metricsAddress === undefined) return;
      try {
        await monitoring.ready();
        await listenOnTcp(monitoring.server, metricsAddress);
      } catch (error) {
        await this.close();
        throw error;
      }
    },
    async close() {
      closing.abort();
      await Promise.all([
        closeApp(monitoring, monitoringConnections),
        atMost(STREAMS_CLOSE_TIMEOUT_MS, streams.drained()).then(() =>
          Promise.all([closeApp(api, apiConnections), forCluster.close()]),
        ),
      ]);
    },
  };
}

async function atMost(ms: number, work: Promise<void>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work, late]);
  clearTimeout(timer);
}

/** A path that exists for other methods answers 405, as Kubernetes does, not 404. */
function refuseOtherMethods(app: FastifyInstance, { rules }: ServerDependencies): void {
  const refuse = (request: { method: string }) => {
    throw new BulkheadError('METHOD_NOT_ALLOWED', `the server does not allow ${request.method} here`);
  };
  for (const kind of rules.kinds) {
    const collection = `${basePath(kind)}/namespaces/:namespace/${kind.plural}`;
    app.route({ method: ['PUT', 'PATCH'], url: collection, handler: refuse });
    app.route({ method: ['POST'], url: `${collection}/:name`, handler: refuse });
    app.route({
      method: ['POST', 'PUT', 'PATCH', 'DELETE'],
      url: `${basePath(kind)}/${kind.plural}`,
      handler: refuse,
    });
  }
}
