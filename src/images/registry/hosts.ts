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

/** Connections, one pool per host so that each has the authorities that it is trusted by. */
export class Connections {
  readonly #options: RegistryOptions;
  readonly #agents = new Map<string, Promise<Agent>>();

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  to(origin: string): Promise<Dispatcher> {
    const { host } = new URL(origin);
    const known = this.#agents.get(host);
    if (known !== undefined) return known;
    const made = this.#connect(host);
    this.#agents.set(host, made);
    return made;
  }

  async close(): Promise<void> {
    const agents = await Promise.all(this.#agents.values());
    await Promise.all(agents.map((agent) => agent.destroy()));
  }

  async #connect(host: string): Promise<Agent> {
    const extra = [...(this.#options.authorities ?? []), ...(await this.#authoritiesFor(host))];
    return new Agent({
      connections: CONNECTIONS_PER_HOST,
      headersTimeout: HEADERS_TIMEOUT_MS,
      bodyTimeout: BODY_TIMEOUT_MS,
      connect: {
        timeout: CONNECT_TIMEOUT_MS,
        ...(extra.length > 0 ? { ca: [...rootCertificates, ...extra] } : {}),
      },
    });
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
