// What a refusal of the API server is in our table of errors.
import { BulkheadError, type ErrorCode, type FieldCause } from '../../api/errors.ts';
import { isJsonObject } from '../merge-patch.ts';

/** Longest text of a refusal that is told on. */
const MAX_MESSAGE_LENGTH = 2_048;

const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'BAD_REQUEST',
  401: 'FORBIDDEN',
  403: 'FORBIDDEN',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_ALLOWED',
  409: 'CONFLICT',
  410: 'EXPIRED',
  413: 'TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE',
  422: 'INVALID',
  429: 'TOO_MANY_REQUESTS',
};

/** Of an answer with an HTTP status of 400 and more: `answer` is what was parsed of `text`. */
export function apiFailure(httpStatus: number, answer: unknown, text: string): BulkheadError {
  const status = isJsonObject(answer) ? answer : {};
  const message = typeof status.message === 'string' ? status.message : text;
  return new BulkheadError(codeOf(httpStatus, status), message.slice(0, MAX_MESSAGE_LENGTH), {
    causes: causesOf(status.details),
  });
}

function codeOf(httpStatus: number, status: Record<string, unknown>): ErrorCode {
  if (status.reason === 'AlreadyExists') return 'ALREADY_EXISTS';
  // A uid that does not match is a precondition that failed; as part of a patch the API server calls it a change of the field.
  if (httpStatus === 422 && namesUid(status.details)) return 'CONFLICT';
  return BY_STATUS[httpStatus] ?? 'API_SERVER_UNAVAILABLE';
}

function namesUid(details: unknown): boolean {
  return causesOf(details).some(({ field }) => field === 'metadata.uid');
}

function causesOf(details: unknown): FieldCause[] {
  const causes = isJsonObject(details) && Array.isArray(details.causes) ? details.causes : [];
  return causes.filter(isJsonObject).map(({ reason, message, field }) => ({
    ...{ reason: String(reason ?? ''), message: String(message ?? '') },
    field: String(field ?? ''),
  }));
}

export async function absentAsUndefined(answer: Promise<unknown>): Promise<unknown> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof BulkheadError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}
