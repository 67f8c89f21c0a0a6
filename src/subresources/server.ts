// The API `subresources.bulkhead.dev`, as a controller serves it behind the aggregation layer of the cluster's API server.
import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket, Server as TlsServer } from 'node:tls';
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import { BulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { API_VERSION } from '../api/meta.ts';
import {
  SUBRESOURCE_VERBS,
  SUBRESOURCES_GROUP,
  SUBRESOURCES_GROUP_VERSION,
  type SubresourceTarget,
  subresourceTarget,
} from '../api/subresources.ts';
import { closeApp, createApp } from '../server/app.ts';
import { Connections } from '../server/connections.ts';
import { sendRawFailure } from '../server/failures.ts';
import { FILE_BYTES_MAX, TLS_HANDSHAKE_TIMEOUT_MS } from '../server/limits.ts';
import { listenOnTcp } from '../server/listen.ts';
import { secureContext } from '../server/mutual-tls.ts';
import { type FrontProxyTrust, userOf } from './front-proxy.ts';
import { PROXY_CONNECTION_LIMITS } from './limits.ts';
import type { AgentProxy } from './proxy.ts';

/** What the server proves itself by, PEM, and whom it believes. */
export interface ServingIdentity {
  cert: string;
  key: string;
  trust: FrontProxyTrust;
}

const HEALTH = ['/healthz', '/livez', '/readyz'] as const;

const GROUP_VERSION_INFO = { groupVersion: SUBRESOURCES_GROUP_VERSION, version: API_VERSION };
const GROUP = {
  name: SUBRESOURCES_GROUP,
  versions: [GROUP_VERSION_INFO],
  preferredVersion: GROUP_VERSION_INFO,
};

export class SubresourceServer {
  readonly #app: FastifyInstance;
  readonly #connections: Connections;
  readonly #proxy: AgentProxy;
  #identity: ServingIdentity;
  /** Connections, each with the trust that it was made under. */
  readonly #sockets = new Map<Duplex, FrontProxyTrust>();

  constructor(proxy: AgentProxy, identity: ServingIdentity, logger?: FastifyBaseLogger) {
    this.#proxy = proxy;
    this.#identity = identity;
    this.#app = createApp(logger, {
      ...contextOf(identity),
      handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS,
      requestCert: true,
      // As of a server without TLS: a stream may end in one direction first.
      allowHalfOpen: true,
      // Health is for everybody who reaches the port; who may ask for more is decided by request.
      rejectUnauthorized: false,
    });
    this.#connections = new Connections(this.#app, PROXY_CONNECTION_LIMITS);
    this.#server.prependListener('secureConnection', (socket: TLSSocket) => {
      this.#sockets.set(socket, this.#identity.trust);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#app.addHook('onRequest', async ({ raw, routeOptions }) => {
      if (!HEALTH.some((path) => path === routeOptions.url)) this.#admit(raw);
    });
    this.#route();
    (this.#app.server as Server).on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
      socket.on('error', () => socket.destroy());
      void this.#upgrade(request, socket, head).catch((error: unknown) => sendRawFailure(socket, error));
    });
  }

  get #server(): TlsServer {
    return this.#app.server as unknown as TlsServer;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo | null)?.port ?? 0;
  }

  /** HOST:PORT. */
  async listen(address: string): Promise<void> {
    await this.#app.ready();
    await listenOnTcp(this.#server, address);
  }

  /** For connections that come from now on. Where others are believed than before, those without a request end. */
  renew(identity: ServingIdentity): void {
    const isOther = JSON.stringify(identity.trust) !== JSON.stringify(this.#identity.trust);
    this.#identity = isOther ? identity : { ...identity, trust: this.#identity.trust };
    this.#server.setSecureContext(contextOf(identity));
    if (isOther) this.#app.server.closeIdleConnections();
  }

  async close(): Promise<void> {
    this.#proxy.close();
    await closeApp(this.#app, this.#connections);
  }

  #route(): void {
    const app = this.#app;
    for (const path of HEALTH) app.get(path, async (_request, reply) => reply.type('text/plain').send('ok'));
    app.get('/apis', () => ({ kind: 'APIGroupList', apiVersion: 'v1', groups: [GROUP] }));
    app.get(`/apis/${SUBRESOURCES_GROUP}`, () => ({ kind: 'APIGroup', apiVersion: 'v1', ...GROUP }));
    app.get(`/apis/${SUBRESOURCES_GROUP_VERSION}`, () => ({
      kind: 'APIResourceList',
      apiVersion: 'v1',
      groupVersion: SUBRESOURCES_GROUP_VERSION,
      resources: Object.entries(SUBRESOURCE_VERBS).map(([name, verbs]) => ({
        name: `${SANDBOX_KIND.plural}/${name}`,
        singularName: '',
        namespaced: true,
        kind: SANDBOX_KIND.kind,
        verbs,
      })),
    }));
    // Bodies pass as they come.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
    const item = `/apis/${SUBRESOURCES_GROUP_VERSION}/namespaces/:namespace/sandboxes/:name/:subresource`;
    for (const url of [item, `${item}/*`])
      app.all(url, { bodyLimit: FILE_BYTES_MAX }, async (request, reply) => {
        const target = targetOf(request.raw);
        await this.#proxy.pass(target, request.raw, reply.raw, () => reply.hijack());
      });
  }

  async #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const user = this.#admit(request);
    const target = targetOf(request);
    const { namespace, name, subresource } = target;
    this.#app.log.info({ user, namespace, name, subresource }, 'stream');
    await this.#proxy.upgrade(target, request, socket, head);
  }

  /** The user. A connection that was made while others were believed is good for nothing any more. */
  #admit(request: IncomingMessage): string {
    const { trust } = this.#identity;
    if (this.#sockets.get(request.socket) !== trust)
      throw new BulkheadError('UNAUTHORIZED', 'Whom the API server trusts has changed: connect again.');
    return userOf(request, trust);
  }
}

function contextOf({ cert, key, trust }: ServingIdentity) {
  return secureContext({ cert, key, ca: trust.ca });
}

function targetOf({ url = '' }: IncomingMessage): SubresourceTarget {
  const target = subresourceTarget(url, SUBRESOURCES_GROUP_VERSION);
  if (target === undefined)
    throw new BulkheadError('NOT_FOUND', `the server serves no ${url.split('?')[0]?.slice(0, 256)}`);
  return target;
}
