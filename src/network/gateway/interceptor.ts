// What a sandbox's connections need to be opened at the gateway: the policy's word, the authority, and the secrets.
import type { Socket } from 'node:net';
import type { Authority } from '../intercept/certificates.ts';
import type { LeafCache } from '../intercept/leaf-cache.ts';
import { type OpenTls, openTls } from '../intercept/open-tls.ts';
import { trustOf } from '../intercept/upstream-trust.ts';
import type { EffectivePolicy } from '../policy/effective.ts';
import { type InterceptionReason, interceptionOf, mayIntercept } from '../policy/interception.ts';
import { normalizeName } from '../policy/names.ts';
import { SandboxSecrets } from '../secrets/sandbox-secrets.ts';
import type { GatewaySecret } from '../secrets/secret.ts';

/** What the daemon gives beside the policy. */
export interface InterceptionInputs {
  /** Absent where the policy opens nothing. */
  readonly authority?: Authority;
  readonly secrets: readonly GatewaySecret[];
}

export interface SeenHello {
  readonly sni: string | null;
  readonly alpn: readonly string[];
}

export class Interceptor {
  readonly #leaves: LeafCache;
  #policy: EffectivePolicy;
  #authority: Authority | undefined;
  readonly secrets = new SandboxSecrets();

  constructor(leaves: LeafCache, policy: EffectivePolicy) {
    this.#leaves = leaves;
    this.#policy = policy;
  }

  set(policy: EffectivePolicy, { authority, secrets }: InterceptionInputs): void {
    this.#policy = policy;
    this.#authority = authority;
    this.secrets.set(secrets);
  }

  /** May a connection to this port be opened, once its name is known? */
  mayOpen(port: number): boolean {
    return mayIntercept(this.#policy, port);
  }

  /** Why a connection with this SNI is opened; undefined where it is passed on as it is. */
  reasonFor(port: number, sni: string | null): InterceptionReason | undefined {
    const name = sni === null ? null : (normalizeName(sni) ?? null);
    return interceptionOf(this.#policy, port, name);
  }

  /** Throws TlsRefused, and what goes wrong here. */
  async open(
    client: Socket,
    upstream: Socket,
    address: string,
    hello: SeenHello,
    reason: InterceptionReason,
  ): Promise<OpenTls> {
    const authority = this.#authority;
    if (authority === undefined) throw new Error('The gateway was given no authority.');
    const { verifyUpstream, upstreamCAs } = this.#policy.tls;
    return openTls({
      ...{ client, upstream, address, serverName: hello.sni, alpn: hello.alpn },
      trust: trustOf(upstreamCAs),
      // A value goes to nobody who cannot prove to be its host, whatever the policies say.
      verify: verifyUpstream || reason.kind === 'Secret',
      leafFor: (name) => this.#leaves.contextFor(authority, name),
    });
  }
}
