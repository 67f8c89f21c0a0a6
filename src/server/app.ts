// A Fastify application as each of our listeners is one: with our limits, and our failures.
import type { Server } from 'node:http';
import type { ServerOptions as TlsServerOptions } from 'node:https';
import { type FastifyBaseLogger, type FastifyInstance, fastify, LogController } from 'fastify';
import type { Connections } from './connections.ts';
import { sendClientError, sendFailure, sendNotFound } from './failures.ts';
import {
  BODY_BYTES_MAX,
  CLOSE_POLL_MS,
  CLOSE_TIMEOUT_MS,
  HEADER_BYTES_MAX,
  HEADERS_TIMEOUT_MS,
  REQUEST_TIMEOUT_MS,
  TIMEOUT_CHECK_INTERVAL_MS,
} from './limits.ts';

/** Of each of Node's HTTP servers of ours. */
export const HTTP_BOUNDS = {
  maxHeaderSize: HEADER_BYTES_MAX,
  headersTimeout: HEADERS_TIMEOUT_MS,
  connectionsCheckingInterval: TIMEOUT_CHECK_INTERVAL_MS,
} as const;

/** `tls`: an HTTPS listener. */
export function createApp(logger?: FastifyBaseLogger, tls?: TlsServerOptions): FastifyInstance {
  const app = fastify({
    ...(logger === undefined ? { logger: false } : { loggerInstance: logger }),
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    // Names and references hold percent-encoded slashes; the default of 100 characters is too short for names of 253.
    routerOptions: { maxParamLength: 512, ignoreTrailingSlash: true },
    ...(tls === undefined ? { http: HTTP_BOUNDS } : { https: { ...HTTP_BOUNDS, ...tls } }),
    clientErrorHandler: sendClientError,
    forceCloseConnections: true,
  }) as unknown as FastifyInstance;
  app.setErrorHandler(sendFailure);
  app.setNotFoundHandler(sendNotFound);
  return app;
}

/** Fastify closes only what it started itself, so its server is closed by hand. */
export async function closeApp(app: FastifyInstance, connections: Connections): Promise<void> {
  await closeServer(app.server, connections);
  await app.close();
}

/** Resolves when nothing is connected to it any more. */
export async function closeServer(server: Server, connections: Connections): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  // The only failure is "not running", which is what is wanted.
  server.close(() => resolve());
  // Answers that are under way get their time; their connections close as soon as they are idle.
  const idle = setInterval(() => server.closeIdleConnections(), CLOSE_POLL_MS);
  const late = setTimeout(() => connections.destroyAll(), CLOSE_TIMEOUT_MS);
  await promise;
  clearInterval(idle);
  clearTimeout(late);
}
