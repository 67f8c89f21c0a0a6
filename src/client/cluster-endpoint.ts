// The API server of a cluster, by a kubeconfig. Objects are at its own paths, which the daemon's are like; what is asked of one
// sandbox goes to the aggregated API, which answers as a daemon does.
import { type Agent, Agent as HttpAgent, type OutgoingHttpHeaders } from 'node:http';
import { Agent as HttpsAgent, type RequestOptions } from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import { codeOfReason, isStatus, type Status } from '../api/status.ts';
import { SUBRESOURCES_GROUP_VERSION } from '../api/subresources.ts';
import { invalid, type KubeConfigOptions, loadKubeConfig } from '../kubeconfig/load.ts';
import { causesOf, type Endpoint, parsed, type Target } from './endpoint.ts';
import { requireInCluster } from './host-only.ts';

export interface ClusterOptions extends KubeConfigOptions {
  /** Speaks as this user, where the credentials may (`kubectl --as`). */
  impersonate?: { user: string; groups?: readonly string[] };
}

const OF_A_SANDBOX = new RegExp(
  `^/apis/${GROUP_VERSION.replaceAll('.', '\\.')}(/namespaces/[^/]+/sandboxes/[^/]+/(?!status(?:$|[?]))[^/].*)$`,
);
const DEFAULT_NAMESPACE = 'default';
/** Longest text of a refusal that is told on. */
const MESSAGE_LENGTH_MAX = 2_048;

/** Of refusals that come from the API server itself or from what stands before it, not from Bulkhead. */
const BY_HTTP_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'BAD_REQUEST',
  401: 'UNAUTHORIZED',
  403: 'FORBIDDEN',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_ALLOWED',
  409: 'CONFLICT',
  410: 'EXPIRED',
  413: 'TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE',
  422: 'INVALID',
  429: 'TOO_MANY_REQUESTS',
  502: 'API_SERVER_UNAVAILABLE',
  503: 'API_SERVER_UNAVAILABLE',
  504: 'TIMEOUT',
};

/** Of `fieldValidation=Strict`, which an API server answers as a request that it could not read. */
const STRICT = 'strict decoding error: ';
const UNKNOWN_FIELD = /unknown field "([^"]+)"/g;

/** A failure as the API server tells it. */
export function clusterErrorOf(status: Status, httpStatus = status.code): BulkheadError {
  const causes = causesOf(status);
  let code = codeOfReason(status.reason);
  if (status.message.includes(STRICT)) {
    code = 'INVALID';
    for (const [message, field = ''] of status.message.matchAll(UNKNOWN_FIELD))
      causes.push({ reason: 'FieldUnknown', field, message });
  }
  if (code === 'INTERNAL') code = BY_HTTP_STATUS[httpStatus] ?? code;
  // A uid that does not match is a precondition that failed; of a patch the API server says that the field was changed.
  if (code === 'INVALID' && causes.some(({ field }) => field === 'metadata.uid')) code = 'CONFLICT';
  return new BulkheadError(code, status.message.slice(0, MESSAGE_LENGTH_MAX), { causes });
}

/** The path at the API server of a path of the daemon's. */
export function pathInCluster(path: string): string {
  requireInCluster(path);
  const [, rest] = OF_A_SANDBOX.exec(path) ?? [];
  return rest === undefined ? path : `/apis/${SUBRESOURCES_GROUP_VERSION}${rest}`;
}

interface Connections {
  /** What they were made from: another certificate needs others. */
  readonly key: string;
  readonly agent: Agent;
}

export class ClusterEndpoint implements Endpoint {
  readonly isCluster = true;
  /** The namespace of the context. */
  readonly namespace: string;
  readonly #config: KubeConfig;
  readonly #server: URL;
  readonly #impersonation: OutgoingHttpHeaders;
  #connections: Connections | undefined;

  private constructor(config: KubeConfig, { impersonate }: ClusterOptions) {
    const cluster = config.getCurrentCluster();
    if (cluster === null)
      throw invalid('it has no current context, or one without a cluster: choose one with --context');
    const server = URL.parse(cluster.server);
    if (server === null || !/^https?:$/.test(server.protocol))
      throw invalid(`"${cluster.server}" is no address of an API server`);
    // Without TLS there is nothing to verify, which the library wants to be told.
    if (server.protocol === 'http:') Object.assign(cluster, { skipTLSVerify: true });
    this.#config = config;
    this.#server = server;
    this.namespace = config.getContextObject(config.getCurrentContext())?.namespace ?? DEFAULT_NAMESPACE;
    this.#impersonation = impersonationOf(impersonate);
  }

  /** Fails with KUBECONFIG_INVALID. */
  static async open(options: ClusterOptions = {}): Promise<ClusterEndpoint> {
    return new ClusterEndpoint(await loadKubeConfig(options), options);
  }

  async target(path: string): Promise<Target> {
    const inCluster = pathInCluster(path);
    const options = await this.#credentials();
    const { protocol, host, pathname } = this.#server;
    const authorization =
      options.auth == null ? {} : { authorization: `Basic ${Buffer.from(options.auth).toString('base64')}` };
    return {
      protocol: protocol === 'http:' ? 'http:' : 'https:',
      host,
      path: `${pathname.replace(/\/+$/, '')}${inCluster}`,
      headers: {
        ...authorization,
        ...(options.headers as OutgoingHttpHeaders | undefined),
        ...this.#impersonation,
      },
      agent: this.#agentFor(options),
    };
  }

  failure(error: unknown): BulkheadError {
    if (error instanceof BulkheadError) return error;
    const { code, message } = error as NodeJS.ErrnoException;
    const { origin } = this.#server;
    const closed = code === 'ECONNRESET' || code === 'EPIPE';
    const text = closed
      ? `the API server ${origin} closed the connection`
      : `the API server ${origin} does not answer: ${message || code || 'no reason is known'}`;
    return new BulkheadError('API_SERVER_UNAVAILABLE', text, { cause: error });
  }

  errorOf(status: Status): BulkheadError {
    return clusterErrorOf(status);
  }

  refusal(httpStatus: number, text: string, path: string): BulkheadError {
    const status = parsed(text);
    if (isStatus(status)) return clusterErrorOf(status, httpStatus);
    if (httpStatus === 404) {
      const at = pathInCluster(path);
      return new BulkheadError('NOT_FOUND', `the API server serves nothing at ${at}: ${missing(at)}`);
    }
    const said = text.trim().slice(0, MESSAGE_LENGTH_MAX) || 'no reason given';
    const code = BY_HTTP_STATUS[httpStatus] ?? 'INTERNAL';
    return new BulkheadError(code, `the API server answered ${httpStatus}: ${said}`);
  }

  close(): void {
    this.#connections?.agent.destroy();
    this.#connections = undefined;
  }

  /** Tokens and certificates as they are now: they may be renewed, or come from a program. */
  async #credentials(): Promise<RequestOptions> {
    const options: RequestOptions = {};
    try {
      await this.#config.applyToHTTPSOptions(options);
    } catch (error) {
      throw new BulkheadError(
        'KUBECONFIG_INVALID',
        `no credentials for the API server: ${(error as Error).message.trim()}`,
        { cause: error },
      );
    }
    return options;
  }

  /** The library's own keeps no connection, and so is used only to get through a proxy. */
  #agentFor(options: RequestOptions): Agent {
    const { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized } = options;
    const proxied = this.#config.getCurrentCluster()?.proxyUrl !== undefined;
    if (proxied && options.agent instanceof Object) return options.agent as Agent;
    const identity = [ca, cert, key].map(String).join('\n');
    if (this.#connections?.key !== identity) {
      // What is under way there goes on to its end.
      const given = { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized };
      const tls = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
      const agent =
        this.#server.protocol === 'http:'
          ? new HttpAgent({ keepAlive: true })
          : new HttpsAgent({ keepAlive: true, ...tls });
      this.#connections = { key: identity, agent };
    }
    return this.#connections.agent;
  }
}

function impersonationOf(impersonate: ClusterOptions['impersonate']): OutgoingHttpHeaders {
  if (impersonate === undefined) return {};
  const { user, groups = [] } = impersonate;
  return {
    'impersonate-user': user,
    // One header for each.
    ...(groups.length === 0 ? {} : { 'impersonate-group': [...groups] }),
  };
}

/** Why there is nothing. */
function missing(path: string): string {
  if (path.includes(`/apis/${SUBRESOURCES_GROUP_VERSION}/`))
    return "Bulkhead's aggregated API is not installed there (see docs/cluster.md)";
  if (path.includes(`/apis/${GROUP_VERSION}/`))
    return "Bulkhead's CRDs are not installed there (see docs/cluster.md)";
  return 'is it a Kubernetes API server?';
}
