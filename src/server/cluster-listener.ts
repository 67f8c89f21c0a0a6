// The subresources of a node's sandboxes for the cluster's controllers: the handlers that the daemon's socket has, over mutual TLS.
import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttpsServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import { subresourceTarget } from '../api/subresources.ts';
import { closeServer, HTTP_BOUNDS } from './app.ts';
import type { Connections } from './connections.ts';
import { sendRawFailure } from './failures.ts';
import { REQUEST_TIMEOUT_MS, TLS_HANDSHAKE_TIMEOUT_MS } from './limits.ts';
import { listenOnTcp } from './listen.ts';
import { type MutualTls, secureContext } from './mutual-tls.ts';

/** Common name of the certificate that controllers come with. */
export const CONTROLLER_CLIENT_NAME = 'bulkhead-controller';

/** Routes as the application knows them: `/…/sandboxes/:name/SUBRESOURCE…`. */
const ROUTE = `/apis/${GROUP_VERSION}/namespaces/:namespace/sandboxes/:name/`;

/** Feeds what comes to the application of `app.server`, whose limits hold for both. */
export class ClusterListener {
  readonly #app: FastifyInstance;
  readonly #connections: Connections;
  #server: Server | undefined;
  #authority: string | undefined;
  readonly #sockets = new Set<TLSSocket>();

  constructor(app: FastifyInstance, connections: Connections) {
    this.#app = app;
    this.#connections = connections;
    // By route, not by what was written: a path has many spellings.
    app.addHook('onRequest', async (request) => {
      if (!this.#sockets.has(request.raw.socket as TLSSocket)) return;
      // Of a path that nothing serves there is none; it is refused as everywhere.
      const { url = ROUTE } = request.routeOptions;
      if (!url.startsWith(ROUTE) || subresourceTarget(request.raw.url ?? '', GROUP_VERSION) === undefined)
        throw new BulkheadError('NOT_FOUND', 'Only subresources of sandboxes are served here.');
    });
  }

  /** Of the address that it listens on. */
  get port(): number {
    return (this.#server?.address() as AddressInfo | null)?.port ?? 0;
  }

  /** HOST:PORT. */
  async listen(address: string, tls: MutualTls): Promise<void> {
    const server = createHttpsServer({
      ...secureContext(tls),
      ...HTTP_BOUNDS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS,
      requestCert: true,
      // As of a server without TLS: a stream may end in one direction first.
      allowHalfOpen: true,
      rejectUnauthorized: true,
    });
    this.#connections.guard(server as unknown as HttpServer);
    // Before anything is read: one that the authority vouches for may still be another than a controller.
    server.prependListener('secureConnection', (socket) => this.#connected(socket));
    server.on('request', (request: IncomingMessage, response: ServerResponse) =>
      this.#app.routing(request, response),
    );
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      if (subresourceTarget(request.url ?? '', GROUP_VERSION) !== undefined)
        this.#app.server.emit('upgrade', request, socket, head);
      else sendRawFailure(socket, new BulkheadError('NOT_FOUND', 'no WebSocket here'));
    });
    this.#server = server;
    this.#authority = tls.ca;
    await this.#app.ready();
    await listenOnTcp(server, address);
  }

  /** For connections that come from now on. Where the authority is another one, those that are there end. */
  renew(tls: MutualTls): void {
    this.#server?.setSecureContext(secureContext(tls));
    if (tls.ca === this.#authority) return;
    this.#authority = tls.ca;
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    if (this.#server !== undefined)
      await closeServer(this.#server as unknown as HttpServer, this.#connections);
  }

  #connected(socket: TLSSocket): void {
    if (socket.getPeerCertificate().subject?.CN !== CONTROLLER_CLIENT_NAME) {
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
