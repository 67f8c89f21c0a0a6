// Where requests go: a daemon by its socket, or the API server of a cluster. Both answer alike; what differs is said here.
import type { Agent, OutgoingHttpHeaders } from 'node:http';
import { createRequire } from 'node:module';
import { BulkheadError, type ErrorCode, type FieldCause } from '../api/errors.ts';
import { codeOfReason, isStatus, type Status } from '../api/status.ts';

/** What Node's HTTP client and the WebSocket library need for one request. */
export interface Target {
  readonly protocol: 'http:' | 'https:';
  /** With its port, where that is none of the protocol's own. */
  readonly host: string;
  readonly path: string;
  /** In place of a host. */
  readonly socketPath?: string;
  readonly headers: OutgoingHttpHeaders;
  readonly agent: Agent;
}

export interface Endpoint {
  /** None of what belongs to a single host is there. */
  readonly isCluster: boolean;
  /** For a path of the daemon's API. Fails where that is served by daemons alone. */
  target(path: string): Target | Promise<Target>;
  /** Why nothing could be sent or received. */
  failure(error: unknown): BulkheadError;
  /** The failure that a `Status` in a stream of changes describes. */
  errorOf(status: Status): BulkheadError;
  /** What an answer other than 2xx means. */
  refusal(httpStatus: number, text: string, path: string): BulkheadError;
  close(): void;
}

/** Nobody took the request, or the connection broke: codes of what may pass by itself. */
export const UNREACHABLE: ReadonlySet<ErrorCode> = new Set(['DAEMON_UNAVAILABLE', 'API_SERVER_UNAVAILABLE']);

export function isUnreachable(error: unknown): boolean {
  return error instanceof BulkheadError && UNREACHABLE.has(error.code);
}

/** Not imported: that would look at every export, and so load Node's whole fetch, which takes longer than all of the SDK. */
const { Agent: HttpAgent } = createRequire(import.meta.url)('node:http') as typeof import('node:http');

export class DaemonEndpoint implements Endpoint {
  readonly isCluster = false;
  readonly socketPath: string;
  readonly #agent = new HttpAgent({ keepAlive: true });

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  target(path: string): Target {
    const { socketPath } = this;
    const headers = { host: 'localhost' };
    return { protocol: 'http:', host: 'localhost', path, socketPath, headers, agent: this.#agent };
  }

  failure(error: unknown): BulkheadError {
    if (error instanceof BulkheadError) return error;
    const { socketPath } = this;
    const { code, message } = error as NodeJS.ErrnoException;
    const reasons: Record<string, string> = {
      ENOENT: `no daemon runs: there is no socket ${socketPath}`,
      ECONNREFUSED: `no daemon runs: nothing answers at ${socketPath}`,
      EACCES: `no permission to open ${socketPath}: run this as the user that the daemon runs as`,
      ECONNRESET: 'the daemon closed the connection',
      EPIPE: 'the daemon closed the connection',
    };
    const text = reasons[code ?? ''] ?? `the daemon at ${socketPath} cannot be reached: ${message}`;
    return new BulkheadError('DAEMON_UNAVAILABLE', text, { cause: error });
  }

  errorOf(status: Status): BulkheadError {
    return errorOf(status);
  }

  refusal(httpStatus: number, text: string): BulkheadError {
    const status = parsed(text);
    if (isStatus(status)) return errorOf(status);
    if (status !== undefined) return new BulkheadError('INTERNAL', `the server answered ${httpStatus}`);
    const start = text.slice(0, 200);
    return new BulkheadError('INTERNAL', `the server answered ${httpStatus} with what is no JSON: ${start}`);
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** The failure that a `Status` describes, with its causes. */
export function errorOf(status: Status): BulkheadError {
  return new BulkheadError(codeOfReason(status.reason), status.message, { causes: causesOf(status) });
}

export function causesOf({ details }: Status): FieldCause[] {
  return (details?.causes ?? []).map(({ reason = '', field = '', message }) => ({ reason, field, message }));
}

/** What is no JSON becomes undefined: whatever stands before a server may answer with a page. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
