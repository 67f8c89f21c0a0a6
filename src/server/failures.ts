// Every failure leaves the server as a Kubernetes `Status`.
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { asBulkheadError, BulkheadError, type ErrorCode } from '../api/errors.ts';
import { type Status, statusOf } from '../api/status.ts';

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
