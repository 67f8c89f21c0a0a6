// Which hosts stand for a registry, and what they may be trusted with.

import type { Dirent } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { Agent, type Dispatcher } from 'undici';

export interface RegistryOptions {
  /** Base URLs tried before a registry itself, by its host (`docker.io`): `https://mirror.example`. */
  mirrors?: Readonly<Record<string, readonly string[]>>;
  /** Hosts that may be spoken to over plain http, if they do not speak TLS. Loopback always may. */
  plainHttp?: readonly string[];
  /** Folders with `HOST:PORT/*.crt` for private authorities, as Docker has. */
  certificateFolders?: readonly string[];
  /** PEM certificates of authorities that are trusted for every registry. */
  authorities?: readonly string[];
}

/** One place to send requests to. */
export interface RegistryHost {
  /** Key of its credentials. */
  name: string;
  /** In the order to try; the second is plain http and only used when the first does not speak TLS. */
  origins: string[];
}

/** A registry may take this long to accept a connection or to answer. */
const CONNECT_TIMEOUT_MS = 10_000;
const HEADERS_TIMEOUT_MS = 30_000;
/** Silence within a transfer. */
const BODY_TIMEOUT_MS = 30_000;
const CONNECTIONS_PER_HOST = 8;
const DEFAULT_CERTIFICATE_FOLDERS = ['/etc/bulkhead/certs.d'];
/** Where Docker Hub really answers. */
const API_HOSTS: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' };

/** The mirrors of a registry in their order, then itself. */
export function hostsOf(registry: string, options: RegistryOptions): RegistryHost[] {
  const mirrors = (options.mirrors?.[registry] ?? []).map((base) => {
    const url = new URL(base);
    return { name: url.host, origins: [url.origin] };
  });
  const host = API_HOSTS[registry] ?? registry;
  const origins = [`https://${host}`];
  if (isLoopback(host) || options.plainHttp?.includes(registry)) origins.push(`http://${host}`);
  return [...mirrors, { name: registry, origins }];
}

export function isLoopback(host: string): boolean {
  const name = new URL(`http://${host}`).hostname;
  return name === 'localhost' || name === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(name);
}

interface Pool {
  agent: Agent;
  /** What it was made with: another set of authorities means another pool. */
  authorities: string;
}

/** Connections, one pool per host so that each has the authorities that it is trusted by. */
export class Connections {
  readonly #options: RegistryOptions;
  readonly #pools = new Map<string, Pool>();
  /** Pools whose authorities changed: transfers on them come to their end. */
  readonly #former = new Set<Agent>();

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  /** Authorities are read each time, so that one that is added or withdrawn counts without a restart. */
  async to(origin: string): Promise<Dispatcher> {
    const { host } = new URL(origin);
    const extra = [...(this.#options.authorities ?? []), ...(await this.#authoritiesFor(host))];
    const authorities = extra.join('\n');
    const known = this.#pools.get(host);
    if (known?.authorities === authorities) return known.agent;
    const agent = connect(extra);
    this.#pools.set(host, { agent, authorities });
    if (known !== undefined) this.#retire(known.agent);
    return agent;
  }

  async close(): Promise<void> {
    const agents = [...this.#former, ...[...this.#pools.values()].map(({ agent }) => agent)];
    await Promise.all(agents.map((agent) => agent.destroy()));
  }

  #retire(agent: Agent): void {
    this.#former.add(agent);
    const forget = (): void => void this.#former.delete(agent);
    agent.close().then(forget, forget);
  }

  async #authoritiesFor(host: string): Promise<string[]> {
    const found: string[] = [];
    for (const folder of this.#options.certificateFolders ?? DEFAULT_CERTIFICATE_FOLDERS) {
      const files: Dirent[] = await readdir(join(folder, host), { withFileTypes: true }).catch(() => []);
      for (const file of files) {
        if (!file.name.endsWith('.crt')) continue;
        found.push(await readFile(join(folder, host, file.name), 'utf8'));
      }
    }
    return found;
  }
}

function connect(extraAuthorities: readonly string[]): Agent {
  return new Agent({
    connections: CONNECTIONS_PER_HOST,
    headersTimeout: HEADERS_TIMEOUT_MS,
    bodyTimeout: BODY_TIMEOUT_MS,
    connect: {
      timeout: CONNECT_TIMEOUT_MS,
      ...(extraAuthorities.length > 0 ? { ca: [...rootCertificates, ...extraAuthorities] } : {}),
    },
  });
}
