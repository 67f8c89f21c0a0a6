// TLS contexts for the names that guests ask for, made when they are first asked for.
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Authority, LeafIssuer } from './certificates.ts';
import { LEAVES_MAX } from './limits.ts';

const RENEW_BEFORE_MS = 24 * 3_600_000;

interface Cached {
  readonly context: SecureContext;
  readonly expiresAt: number;
}

/** Leaves of one authority at a time: another one begins anew. */
export class LeafCache {
  readonly #now: () => number;
  readonly #leaves = new Map<string, Promise<Cached>>();
  #authority: Authority | undefined;
  #issuer: Promise<LeafIssuer> | undefined;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** `name` is a host name in lower case or an address. */
  async contextFor(authority: Authority, name: string): Promise<SecureContext> {
    if (this.#authority?.certificate !== authority.certificate || this.#authority.key !== authority.key) {
      this.#authority = authority;
      this.#leaves.clear();
      this.#issuer = this.#open(authority);
    }
    const former = this.#leaves.get(name);
    if (former !== undefined) {
      const { context, expiresAt } = await former;
      if (expiresAt - this.#now() > RENEW_BEFORE_MS) {
        this.#remember(name, former); // as used last
        return context;
      }
    }
    const made = this.#make(name);
    this.#remember(name, made);
    made.catch(() => {
      if (this.#leaves.get(name) === made) this.#leaves.delete(name);
    });
    return (await made).context;
  }

  #remember(name: string, leaf: Promise<Cached>): void {
    this.#leaves.delete(name);
    this.#leaves.set(name, leaf);
    const [oldest] = this.#leaves.keys();
    if (this.#leaves.size > LEAVES_MAX && oldest !== undefined) this.#leaves.delete(oldest);
  }

  /** What makes certificates takes 20 MiB and a tenth of a second: only where a guest's TLS is opened. */
  async #open(authority: Authority): Promise<LeafIssuer> {
    const { LeafIssuer } = await import('./certificates.ts');
    return new LeafIssuer(authority, this.#now);
  }

  async #make(name: string): Promise<Cached> {
    if (this.#issuer === undefined) throw new Error('No authority was given.');
    const { chain, key, expiresAt } = await (await this.#issuer).issue(name);
    const context = createSecureContext({ cert: chain, key, minVersion: 'TLSv1.2' });
    return { context, expiresAt };
  }
}
