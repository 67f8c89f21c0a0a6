// The `Status` object in which every failure travels over HTTP, in Kubernetes' shape.
import { type BulkheadError, ERRORS, type ErrorCode } from './errors.ts';

/** One thing that was wrong, with the path of the field where there is one. */
export interface StatusCause {
  reason?: string;
  message: string;
  field?: string;
}

export interface Status {
  apiVersion: 'v1';
  kind: 'Status';
  metadata: Record<string, never>;
  status: 'Success' | 'Failure';
  message: string;
  /** The reason of the row in the table of errors; absent on success. */
  reason?: string;
  /** HTTP status. */
  code: number;
  details?: { name?: string; group?: string; kind?: string; uid?: string; causes?: StatusCause[] };
}

/** A failure as the body of a response. The hint of the table closes the message. */
export function statusOf(error: BulkheadError, details?: Status['details']): Status {
  const causes = error.causes;
  const all = { ...details, ...(causes.length > 0 ? { causes: [...causes] } : {}) };
  return {
    apiVersion: 'v1',
    kind: 'Status',
    metadata: {},
    status: 'Failure',
    message: error.message,
    reason: error.row.reason,
    code: error.row.httpStatus,
    ...(Object.keys(all).length > 0 ? { details: all } : {}),
  };
}

const CODE_BY_REASON = new Map<string, ErrorCode>(
  Object.entries(ERRORS).map(([code, row]) => [row.reason, code as ErrorCode]),
);

/** The code of a reason that a server sent; INTERNAL for one that this version does not know. */
export function codeOfReason(reason: string | undefined): ErrorCode {
  return CODE_BY_REASON.get(reason ?? '') ?? 'INTERNAL';
}

/** Is this the body of a failed request? */
export function isStatus(value: unknown): value is Status {
  return (
    typeof value === 'object' &&
    value !== null &&
    (value as { kind?: unknown }).kind === 'Status' &&
    typeof (value as { message?: unknown }).message === 'string'
  );
}
