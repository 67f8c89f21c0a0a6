// Opens WebSockets to the daemon, or through the API server of a cluster. Apart from what it is opened for, so that the types of the WebSocket library are in no
// declaration of the published package.
import { connect } from 'node:net';
import { WebSocket } from 'ws';
import { STREAM_PROTOCOLS } from '../api/channels.ts';
import { deferred } from './deferred.ts';
import type { Endpoint } from './endpoint.ts';
import { failureOf, type QueryValue, queryString } from './transport.ts';

/** Servers send at most this much in one message. */
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;

/**
 * Opens the WebSocket; `listen` gets it before anything can arrive on it. Fails with the server's own error where it refuses
 * the upgrade.
 */
export async function dial<T>(
  endpoint: Endpoint,
  path: string,
  query: Record<string, QueryValue>,
  listen: (socket: WebSocket) => T,
  protocols: readonly string[] = STREAM_PROTOCOLS,
): Promise<T> {
  const {
    protocol,
    host,
    path: at,
    socketPath,
    headers,
    agent,
  } = await endpoint.target(`${path}${queryString(query)}`);
  const url = `${protocol === 'http:' ? 'ws' : 'wss'}://${host}${at}`;
  const socket = new WebSocket(url, [...protocols], {
    headers,
    ...(socketPath === undefined ? { agent } : { createConnection: () => connect(socketPath) }),
    perMessageDeflate: false,
    maxPayload: MESSAGE_BYTES_MAX,
  });
  const connection = listen(socket);
  const { promise, resolve, reject } = deferred<void>();
  socket.once('open', resolve);
  socket.once('error', (error) => reject(endpoint.failure(error)));
  socket.once('unexpected-response', (request, response) => {
    void failureOf(response, endpoint, path)
      .catch((error: unknown) => endpoint.failure(error))
      .then(reject)
      .finally(() => request.destroy());
  });
  await promise;
  return connection;
}
