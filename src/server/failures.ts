// Every failure leaves the server as a Kubernetes `Status`.
import type { Duplex } from 'node:stream';
import type { ConnectionError, FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { asBulkheadError, BulkheadError, type ErrorCode } from '../api/errors.ts';
import { type Status, statusOf } from '../api/status.ts';
import { HEADER_BYTES_MAX } from './limits.ts';

/** What Fastify itself refuses, by its error codes, as rows of our own table. */
const FASTIFY_CODES: Record<string, ErrorCode> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'UNSUPPORTED_MEDIA_TYPE',
};

/** Any failure of a request as one of ours. */
export function requestError(error: unknown): BulkheadError {
  if (error instanceof BulkheadError) return error;
  const { code, statusCode, message } = error as Partial<FastifyError>;
  const known = FASTIFY_CODES[code ?? ''];
  if (known !== undefined) return new BulkheadError(known, message ?? known, { cause: error });
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new BulkheadError('BAD_REQUEST', message ?? 'bad request', { cause: error });
  }
  return asBulkheadError(error);
}

/** Fastify's error handler. */
export function sendFailure(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const failure = requestError(error);
  if (failure.row.httpStatus >= 500) request.log.error({ err: error }, 'request failed');
  void reply.code(failure.row.httpStatus).type('application/json').send(statusOf(failure));
}

/** Fastify's handler for paths that nothing serves. */
export function sendNotFound(request: FastifyRequest, reply: FastifyReply): void {
  const path = request.url.split('?')[0] ?? '/';
  const failure = new BulkheadError('NOT_FOUND', `the server serves no ${request.method} ${path}`);
  void reply.code(404).type('application/json').send(statusOf(failure));
}

/** Answers where there is no request that Fastify could answer: an upgrade, or what is no HTTP. Ends the connection. */
export function sendRawFailure(socket: Duplex, error: unknown): void {
  if (socket.destroyed) return;
  const failure = requestError(error);
  const body = JSON.stringify(statusOf(failure));
  const head =
    `HTTP/1.1 ${failure.row.httpStatus} ${failure.row.reason}\r\ncontent-type: application/json\r\n` +
    `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n`;
  // The other side may never close its half.
  socket.end(head + body, () => socket.destroy());
}

/** What a client did to its connection: no HTTP, headers too large, or nothing in time. */
export function sendClientError(error: ConnectionError, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
  } else if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    sendRawFailure(socket, new BulkheadError('TIMEOUT', 'the request did not arrive in time'));
  } else if (error.code === 'HPE_HEADER_OVERFLOW') {
    sendRawFailure(
      socket,
      new BulkheadError('TOO_LARGE', `the request line and headers have more than ${HEADER_BYTES_MAX} bytes`),
    );
  } else {
    sendRawFailure(socket, new BulkheadError('BAD_REQUEST', 'this is no HTTP request', { cause: error }));
  }
}

/** A success that returns no object. */
export function success(message: string, details?: Status['details']): Status {
  return {
    apiVersion: 'v1',
    kind: 'Status',
    metadata: {},
    status: 'Success',
    message,
    code: 200,
    ...(details ? { details } : {}),
  };
}
