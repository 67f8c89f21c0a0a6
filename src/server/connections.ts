// What one listener takes from its clients at a time: connections, requests, unread answers, and how long each may hold on.
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Server as TlsServer } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import { BulkheadError } from '../api/errors.ts';

/** Bounds of one listener; limits.ts has the product's, with their reasons. */
export interface ConnectionLimits {
  /** Open connections, streams and watches included. */
  connections: number;
  /** Requests whose answers have not been read to their end, streams excluded. */
  requests: number;
  /** The same of one connection, which can send them without waiting for answers. */
  requestsPerConnection: number;
  /** Answers that are made but not yet read, of all connections. */
  unreadBytes: number;
  /** A connection that ought to send or read and does neither for so long is closed. */
  stallMs: number;
}

interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  unreadBytes: number;
}

interface Connection {
  exchanges: Set<Exchange>;
  /** Became a stream, which has limits of its own. */
  upgraded: boolean;
  /** Gets no further answer, and ends with the last one that it gets. */
  refused: boolean;
}

/**
 * Guards one server. When all connections are taken, the one that has been without a request for longest makes room for
 * a new one, so that clients that only connect keep nobody out; where each has a request, the new one is dropped.
 */
export class Connections {
  readonly #limits: ConnectionLimits;
  /** In the order of their last request's end: the first without a request is the one that waits for longest. */
  readonly #open = new Map<Duplex, Connection>();
  #requests = 0;
  #unreadBytes = 0;

  constructor(app: FastifyInstance, limits: ConnectionLimits) {
    this.#limits = limits;
    this.guard(app.server);
    app.addHook('onRequest', async (request, reply) => {
      // Thousands of requests may have been read together with the refused one; answering them is work, too.
      if (this.#open.get(request.raw.socket)?.refused ?? true) reply.hijack();
      else this.#admit(request.raw, reply.raw);
    });
    app.addHook('onSend', async (_request, reply, payload) => {
      if (typeof payload === 'string' || Buffer.isBuffer(payload)) this.#answered(reply.raw, payload.length);
      return payload;
    });
  }

  /** Another server whose requests the same application answers: the bounds hold for both together. */
  guard(server: Server): void {
    // Requests of a TLS server come from the sockets that stand once the handshake is over. Those in it count as many more.
    const isTls = (server as unknown) instanceof TlsServer;
    if (isTls) server.maxConnections = 2 * this.#limits.connections;
    server.prependListener(isTls ? 'secureConnection' : 'connection', (socket: Socket) =>
      this.#connected(socket),
    );
    server.on('upgrade', (_request: IncomingMessage, socket: Duplex) => {
      const connection = this.#open.get(socket);
      if (connection !== undefined) connection.upgraded = true;
    });
    // A listener takes the decision from Node, which would close quiet watches too.
    server.setTimeout(this.#limits.stallMs, (socket) => this.#quiet(socket));
  }

  /** Ends every connection at once, streams too. */
  destroyAll(): void {
    for (const socket of [...this.#open.keys()]) socket.destroy();
  }

  #connected(socket: Socket): void {
    if (this.#open.size >= this.#limits.connections && !this.#makeRoom()) {
      socket.destroy();
      return;
    }
    const connection: Connection = { exchanges: new Set(), upgraded: false, refused: false };
    this.#open.set(socket, connection);
    socket.once('close', () => {
      this.#open.delete(socket);
      // Answers that were queued behind another one are never told that their connection is gone.
      for (const exchange of [...connection.exchanges]) this.#ended(connection, exchange);
    });
  }

  #makeRoom(): boolean {
    for (const [socket, { exchanges, upgraded }] of this.#open) {
      if (exchanges.size > 0 || upgraded) continue;
      this.#open.delete(socket);
      socket.destroy();
      return true;
    }
    return false;
  }

  #admit(request: IncomingMessage, response: ServerResponse): void {
    const connection = this.#open.get(request.socket);
    if (connection === undefined) return;
    const refusal = this.#refusal(connection);
    if (refusal !== undefined) {
      connection.refused = true;
      response.shouldKeepAlive = false;
      throw new BulkheadError('TOO_MANY_REQUESTS', refusal);
    }
    const exchange: Exchange = { request, response, unreadBytes: 0 };
    connection.exchanges.add(exchange);
    this.#requests++;
    response.once('close', () => {
      this.#ended(connection, exchange);
      if (this.#open.delete(request.socket)) this.#open.set(request.socket, connection);
    });
  }

  #refusal({ exchanges }: Connection): string | undefined {
    const { requestsPerConnection, requests, unreadBytes } = this.#limits;
    if (exchanges.size >= requestsPerConnection) {
      return `${requestsPerConnection} requests of this connection wait for their answers to be read`;
    }
    if (this.#requests >= requests) return `${requests} requests are under way already`;
    if (this.#unreadBytes >= unreadBytes) return `${unreadBytes} bytes of answers wait to be read already`;
    return undefined;
  }

  #answered(response: ServerResponse, bytes: number): void {
    const exchanges = this.#open.get(response.req.socket)?.exchanges ?? [];
    for (const exchange of exchanges) {
      if (exchange.response !== response) continue;
      exchange.unreadBytes = bytes;
      this.#unreadBytes += bytes;
    }
  }

  #ended(connection: Connection, exchange: Exchange): void {
    if (!connection.exchanges.delete(exchange)) return;
    this.#requests--;
    this.#unreadBytes -= exchange.unreadBytes;
  }

  /** Nothing came or went for a while: right while this side works or a watch has nothing to tell, else the client's fault. */
  #quiet(socket: Socket): void {
    const connection = this.#open.get(socket);
    const exchanges = [...(connection?.exchanges ?? [])];
    // An answer that goes on, as a followed log does, may be read as slowly as its reader likes: it holds little.
    const waits = exchanges.some(({ request, response }) => !request.complete || response.writableEnded);
    if (connection?.upgraded === true || (exchanges.length > 0 && !waits))
      socket.setTimeout(this.#limits.stallMs);
    else socket.destroy();
  }
}
