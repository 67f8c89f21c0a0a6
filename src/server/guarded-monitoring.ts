// /metrics for a whole cluster: over TLS, for those whom the cluster lets. Health is for everybody who reaches the port.
import type { Server as TlsServer } from 'node:tls';
import { BulkheadError } from '../api/errors.ts';
import { closeApp, createApp } from './app.ts';
import { Connections } from './connections.ts';
import type { ServerDependencies } from './contracts.ts';
import { registerHealth } from './health.ts';
import { MONITORING_CONNECTION_LIMITS, TLS_HANDSHAKE_TIMEOUT_MS } from './limits.ts';
import { listenOnTcp } from './listen.ts';

/** The verdict on a bearer of a token; may fail as a request of the API server does. */
export type CheckBearer = (token: string) => Promise<'allowed' | 'forbidden' | 'unauthenticated'>;

/** PEM texts. */
export interface ServingCertificate {
  cert: string;
  key: string;
}

export interface GuardedMonitoringOptions extends Pick<ServerDependencies, 'healthChecks' | 'metrics'> {
  logger?: ServerDependencies['logger'];
  check: CheckBearer;
  tls: ServingCertificate;
}

const OPEN_ROUTES: readonly string[] = ['/healthz', '/livez', '/readyz'];

export interface GuardedMonitoring {
  /** HOST:PORT. */
  listen(address: string): Promise<void>;
  /** For connections that come from now on. */
  renew(tls: ServingCertificate): void;
  close(): Promise<void>;
}

export function createGuardedMonitoring(options: GuardedMonitoringOptions): GuardedMonitoring {
  const app = createApp(options.logger, { ...options.tls, handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS });
  const connections = new Connections(app, MONITORING_CONNECTION_LIMITS);
  app.addHook('onRequest', async (request, reply) => {
    // By route, not by what was written: a path has many spellings.
    if (OPEN_ROUTES.includes(request.routeOptions.url ?? '')) return;
    try {
      await admit(request.headers.authorization, options.check);
    } catch (error) {
      if ((error as BulkheadError).code === 'UNAUTHORIZED') void reply.header('www-authenticate', 'Bearer');
      throw error;
    }
  });
  registerHealth(app, options);
  const server = app.server as unknown as TlsServer;
  return {
    async listen(address) {
      await app.ready();
      await listenOnTcp(server, address);
    },
    renew: (tls) => server.setSecureContext(tls),
    close: () => closeApp(app, connections),
  };
}

async function admit(authorization: string | undefined, check: CheckBearer): Promise<void> {
  const token = /^Bearer +([^\s]+) *$/i.exec(authorization ?? '')?.[1];
  const verdict = token === undefined ? 'unauthenticated' : await check(token);
  if (verdict === 'unauthenticated')
    throw new BulkheadError('UNAUTHORIZED', 'metrics want a token that the cluster knows');
  if (verdict === 'forbidden')
    throw new BulkheadError('FORBIDDEN', 'the bearer of this token may not get /metrics');
}
