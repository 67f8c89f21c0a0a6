// Keeps what a controller serves with and comes to nodes with: certificates that are made anew in time, of authorities that all
// controllers share, and whom the API server says may ask. One loop that looks at what there is, so that whatever changed, and
// whoever changed it, is taken up.
import type { Clock } from '../controller/clock.ts';
import { sleep } from '../controller/clock.ts';
import type { Log } from '../controller/log.ts';
import { LeafIssuer } from '../network/intercept/certificates.ts';
import { CONTROLLER_CLIENT_NAME } from '../server/cluster-listener.ts';
import type { MutualTls } from '../server/mutual-tls.ts';
import type { ApiClient } from '../store/cluster/api-client.ts';
import type { FollowedObjects } from '../store/cluster/followed-objects.ts';
import type { ObjectKey, Store } from '../store/store.ts';
import { publishNodeAuthority, publishServingAuthority } from './api-service.ts';
import { AUTHORITIES_SECRET, type Authorities, makeAuthorities, readAuthorities } from './authorities.ts';
import { type FrontProxyTrust, readTrust, TRUST_CONFIG_MAP } from './front-proxy.ts';
import {
  API_SERVICE_CHECK_MS,
  IDENTITY_CHECK_MS,
  IDENTITY_FAILED_MS,
  IDENTITY_RETRY_MS,
  LEAF_RENEWED_BEFORE_MS,
} from './limits.ts';
import type { ServingIdentity } from './server.ts';

/** All that one controller needs to serve, now. */
export interface ControllerIdentity {
  serving: ServingIdentity;
  /** Towards nodes. */
  client: MutualTls;
  authorities: Authorities;
}

export interface IdentityOptions {
  client: ApiClient;
  store: Pick<Store, 'create' | 'patch'>;
  /** The Secret and ConfigMap, followed by name. */
  followed: Pick<FollowedObjects, 'get'>;
  namespace: string;
  /** The Service by which the API server reaches controllers. */
  service: string;
  clock: Clock;
  log: Log;
  /** Told at first, and of each that takes its place. */
  changed(identity: ControllerIdentity): Promise<void>;
}

interface Leaves {
  serving: { cert: string; key: string };
  client: MutualTls;
  renewAt: number;
}

export class IdentityKeeper {
  readonly #options: IdentityOptions;
  readonly #secret: ObjectKey;
  /** As text, what the present leaves were made of. */
  #authorities: string | undefined;
  #leaves: Leaves | undefined;
  #trust: { text: string; value: FrontProxyTrust } | undefined;
  /** What was told last. */
  #delivered: { leaves: Leaves; trust: FrontProxyTrust } | undefined;
  #publishedAt = Number.NEGATIVE_INFINITY;
  #published: string | undefined;
  /** The failure that was told last: each is told once. */
  #told: string | undefined;

  constructor(options: IdentityOptions) {
    this.#options = options;
    this.#secret = { kind: 'Secret', namespace: options.namespace, name: AUTHORITIES_SECRET };
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      let pause = IDENTITY_CHECK_MS;
      try {
        if (!(await this.step())) pause = IDENTITY_RETRY_MS;
        this.#told = undefined;
      } catch (error) {
        if (signal.aborted) return;
        const { message } = error as Error;
        if (message !== this.#told)
          log.warn({ error }, 'the API of subresources is not served as it should be');
        this.#told = message;
        pause = IDENTITY_FAILED_MS;
      }
      await sleep(clock, pause, signal);
    }
  }

  /** One look. False where another controller is about to say what holds. */
  async step(): Promise<boolean> {
    const { clock, changed } = this.#options;
    const authorities = await this.#findAuthorities();
    if (authorities === undefined) return false;
    const trust = await this.#followTrust();
    const text = JSON.stringify(authorities);
    if (text !== this.#authorities || this.#leaves === undefined || clock.now() >= this.#leaves.renewAt) {
      this.#leaves = await this.#issue(authorities);
      this.#authorities = text;
    }
    const leaves = this.#leaves;
    if (this.#delivered?.leaves !== leaves || this.#delivered.trust !== trust) {
      await changed({ serving: { ...leaves.serving, trust }, client: leaves.client, authorities });
      this.#delivered = { leaves, trust };
    }
    await this.#publish(authorities);
    return true;
  }

  async #findAuthorities(): Promise<Authorities | undefined> {
    const { followed, store, clock } = this.#options;
    const secret = await followed.get(this.#secret);
    const found = readAuthorities(secret, clock.now());
    if (found !== undefined) return found;
    return makeAuthorities(store, this.#secret, secret, clock.now());
  }

  /** The same object as long as it says the same. */
  async #followTrust(): Promise<FrontProxyTrust> {
    const published = await this.#options.followed.get({ ...TRUST_CONFIG_MAP });
    const value = readTrust(published?.data);
    const text = JSON.stringify(value);
    if (text !== this.#trust?.text) this.#trust = { text, value };
    return this.#trust.value;
  }

  async #issue({ serving, nodes }: Authorities): Promise<Leaves> {
    const { clock, service, namespace } = this.#options;
    const now = () => clock.now();
    const names = [`${service}.${namespace}`, `${service}.${namespace}.svc.cluster.local`, service];
    const shown = await new LeafIssuer(serving, now).issue(`${service}.${namespace}.svc`, { names });
    const client = await new LeafIssuer(nodes, now).issue(CONTROLLER_CLIENT_NAME, { usage: 'client' });
    return {
      serving: { cert: shown.chain, key: shown.key },
      client: { cert: client.chain, key: client.key, ca: nodes.certificate },
      renewAt: Math.min(shown.expiresAt, client.expiresAt) - LEAF_RENEWED_BEFORE_MS,
    };
  }

  async #publish({ serving, nodes }: Authorities): Promise<void> {
    const { client, namespace, clock } = this.#options;
    const text = serving.certificate + nodes.certificate;
    if (text === this.#published && clock.monotonic() - this.#publishedAt < API_SERVICE_CHECK_MS) return;
    if (text !== this.#published) await publishNodeAuthority(client, namespace, nodes.certificate);
    await publishServingAuthority(client, serving.certificate);
    this.#published = text;
    this.#publishedAt = clock.monotonic();
  }
}
