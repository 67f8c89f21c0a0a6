// What stands for the API server of a cluster: TLS, a bearer token or a client certificate, the cluster's own paths, and behind
// them a daemon's server. Objects go through as they are, subresources from their aggregated API to the daemon's; what only a
// daemon has is not there, and refusals of the front's own look like those of an API server.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';

const SUBRESOURCE =
  /^\/apis\/subresources\.bulkhead\.dev\/v1alpha1(\/namespaces\/[^/]+\/sandboxes\/[^/]+\/.+)$/;
const DAEMON = '/apis/bulkhead.dev/v1alpha1';
/** What an API server has of the paths that a daemon serves. */
const OF_A_CLUSTER = [
  /^\/version$/,
  /^\/api\/v1(\/namespaces\/[^/]+)?\/(secrets|configmaps|events)(\/|$)/,
  /^\/apis\/bulkhead\.dev\/v1alpha1(\/namespaces\/[^/]+)?\/(sandboxes|volumes|networkpolicies)(\/[^/]+(\/status)?)?$/,
];

export interface FrontedRequest {
  method: string;
  path: string;
  user: string;
  asUser: string | undefined;
  asGroups: string | undefined;
  /** Of a patch. */
  body?: string;
}

export interface ClusterFront extends AsyncDisposable {
  /** With the path that every request has before its own, as behind a gateway of many clusters. */
  readonly url: string;
  /** PEM of the authority that signed its certificate. */
  readonly ca: string;
  readonly token: string;
  /** A client certificate that it trusts, and its key; PEM. */
  readonly client: { cert: string; key: string };
  readonly requests: FrontedRequest[];
  /** So many requests are answered as an API server does whose backend is being replaced. */
  failing: number;
  /** Ends every connection that is open. */
  cut(): void;
}

interface Pair {
  cert: string;
  key: string;
}

/** An authority, a certificate of this host signed by it, and one of a client. */
function certificates(): { ca: string; server: Pair; client: Pair } {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-front-'));
  const at = (name: string) => join(dir, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const read = (name: string) => readFileSync(at(name), 'utf8');
  try {
    openssl(
      'req',
      '-x509',
      ...key,
      '-days',
      '2',
      '-subj',
      '/CN=authority',
      '-out',
      'ca',
      '-keyout',
      'ca.key',
    );
    const signed = (name: string, ...more: string[]): Pair => {
      openssl(
        'req',
        '-x509',
        ...key,
        '-days',
        '2',
        '-CA',
        'ca',
        '-CAkey',
        'ca.key',
        ...more,
        '-out',
        name,
        '-keyout',
        `${name}.key`,
      );
      return { cert: read(name), key: read(`${name}.key`) };
    };
    return {
      server: signed(
        'server',
        '-subj',
        '/CN=front',
        '-addext',
        'subjectAltName=IP:127.0.0.1,DNS:api.example',
      ),
      client: signed('client', '-subj', '/CN=certified'),
      ca: read('ca'),
    };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** In front of the daemon that listens at `socketPath`. */
export async function startClusterFront(socketPath: string, prefix = ''): Promise<ClusterFront> {
  const { ca, server: tls, client } = certificates();
  const token = 'token-of-a-user';
  const requests: FrontedRequest[] = [];
  const open = new Set<Duplex>();
  const cut = (): void => {
    for (const socket of open) socket.destroy();
  };
  const front = {
    ...{ url: '', ca, token, client, requests, failing: 0, cut },
    async [Symbol.asyncDispose]() {
      cut();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };

  /** The path at the daemon, or the answer in its place. */
  function admit(
    request: IncomingMessage,
  ): { path: string } | { code: number; reason: string; message: string } {
    const { authorization } = request.headers;
    const certified = (request.socket as TLSSocket).authorized;
    const url = request.url ?? '/';
    const asUser = request.headers['impersonate-user'] as string | undefined;
    const asGroups = request.headers['impersonate-group'] as string | undefined;
    const user = certified ? 'certified' : authorization === `Bearer ${token}` ? 'bearer' : undefined;
    if (user === undefined) return { code: 401, reason: 'Unauthorized', message: 'Unauthorized' };
    requests.push({ method: request.method ?? '', path: url, user, asUser, asGroups });
    if (front.failing > 0) {
      front.failing -= 1;
      return { code: 503, reason: '', message: 'service unavailable' };
    }
    if (asUser === 'nobody')
      return {
        code: 403,
        reason: 'Forbidden',
        message: 'sandboxes.bulkhead.dev is forbidden: User "nobody" cannot list',
      };
    if (!url.startsWith(`${prefix}/`)) return { code: 404, reason: '', message: '404 page not found' };
    const path = url.slice(prefix.length);
    const [, subresource] = SUBRESOURCE.exec(path) ?? [];
    if (subresource !== undefined) return { path: `${DAEMON}${subresource}` };
    const [bare = ''] = path.split('?');
    if (OF_A_CLUSTER.some((each) => each.test(bare))) return { path };
    return { code: 404, reason: '', message: '404 page not found' };
  }

  function refusal({ code, reason, message }: { code: number; reason: string; message: string }): string {
    if (reason === '') return message;
    return JSON.stringify({
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      code,
    });
  }

  const serve = (request: IncomingMessage, response: ServerResponse): void => {
    const admitted = admit(request);
    if ('code' in admitted) {
      response.writeHead(admitted.code).end(refusal(admitted));
      return;
    }
    const { method, headers } = request;
    const forwarded = httpRequest({ socketPath, path: admitted.path, method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.on('error', () => response.destroy());
      answer.pipe(response);
      response.flushHeaders();
    });
    forwarded.on('error', () => response.destroy());
    response.on('close', () => forwarded.destroy());
    request.pipe(forwarded);
    const told = requests.at(-1);
    if (method !== 'PATCH' || told === undefined) return;
    told.body = '';
    request.on('data', (chunk: Buffer) => {
      told.body += chunk.toString();
    });
  };

  const server = createServer({ ...tls, ca, requestCert: true, rejectUnauthorized: false }, serve);
  server.on('connection', (socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const admitted = admit(request);
    socket.on('error', () => {});
    if ('code' in admitted) {
      const body = refusal(admitted);
      socket.end(
        `HTTP/1.1 ${admitted.code} Refused\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
      );
      return;
    }
    const { rawHeaders } = request;
    const lines: string[] = [];
    for (let index = 0; index < rawHeaders.length; index += 2)
      lines.push(`${rawHeaders[index]}: ${rawHeaders[index + 1]}`);
    const daemon = connect(socketPath, () => {
      daemon.write(`GET ${admitted.path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      daemon.write(head);
      socket.pipe(daemon).pipe(socket);
    });
    daemon.on('error', () => socket.destroy());
    daemon.on('close', () => socket.destroy());
    socket.on('close', () => daemon.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  front.url = `https://127.0.0.1:${port}${prefix}`;
  return front;
}

/** A kubeconfig for it, in YAML's JSON. */
export function kubeconfigOf(
  front: Pick<ClusterFront, 'url' | 'ca'>,
  user: Record<string, unknown>,
  more: { cluster?: Record<string, unknown>; namespace?: string; context?: string } = {},
): string {
  const { cluster = {}, namespace, context = 'front' } = more;
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': context,
    clusters: [
      {
        name: context,
        cluster: { server: front.url, 'certificate-authority-data': base64(front.ca), ...cluster },
      },
    ],
    users: [{ name: context, user }],
    contexts: [
      {
        name: context,
        context: { cluster: context, user: context, ...(namespace === undefined ? {} : { namespace }) },
      },
    ],
  });
}
