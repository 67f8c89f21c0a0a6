// What goes wrong with registries, in words that hold no secret: never a query string, never a header, never a body as it came.

import { BulkheadError } from '../../api/errors.ts';

/** A failure that may pass by itself: the next attempt, or the next host, can succeed. */
export class TransientError extends Error {
  /** Milliseconds that the registry asked to wait. */
  readonly retryAfterMs: number | undefined;
  constructor(message: string, retryAfterMs?: number) {
    super(message);
    this.name = 'TransientError';
    this.retryAfterMs = retryAfterMs;
  }
}

/** The host answered a TLS greeting with something else, or hung up on it: it may speak plain http. */
export class NotTlsError extends TransientError {}

const NOT_TLS_CODES = [
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_PACKET_LENGTH_TOO_LONG',
  'EPROTO',
  'ECONNRESET',
  'UND_ERR_SOCKET',
];

/** A failed connection as one of the above; everything else as it is. */
export function asTransient(error: unknown, origin: string, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  if (error instanceof BulkheadError || error instanceof TransientError) return error;
  const code = errorCode(error);
  if (code === undefined) return error;
  const message = `${origin}: ${code}`;
  return NOT_TLS_CODES.includes(code) ? new NotTlsError(message) : new TransientError(message);
}

function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('code' in error && typeof error.code === 'string') return error.code;
  return errorCode(error.cause);
}

/** A status that is no success as the error it means. */
export function statusError(status: number, headers: Record<string, unknown>, where: string): Error {
  switch (status) {
    case 401:
    case 403:
      return new BulkheadError(
        'REGISTRY_UNAUTHORIZED',
        `${where}: the registry refuses access (${status}), or has no such image`,
      );
    case 404:
      return new BulkheadError('IMAGE_NOT_FOUND', `${where}: the registry has no such image`);
    case 408:
    case 429:
      return new TransientError(`${where}: status ${status}`, retryAfter(headers));
    default:
      if (status >= 500) return new TransientError(`${where}: status ${status}`, retryAfter(headers));
      return new BulkheadError('IMAGE_INVALID', `${where}: the registry answers with status ${status}`);
  }
}

/** Only the form in seconds: the other is for pages, and needs the registry's clock to be right. */
function retryAfter(headers: Record<string, unknown>): number | undefined {
  const value = headers['retry-after'];
  return typeof value === 'string' && /^[0-9]{1,6}$/.test(value) ? Number(value) * 1000 : undefined;
}
