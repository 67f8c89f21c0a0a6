// The API of subresources in a controller, and in a node's agent what it reaches.
import type { Logger } from 'pino';
import type { Clock } from '../controller/clock.ts';
import { Controller } from '../controller/controller.ts';
import { Informer } from '../controller/informer.ts';
import type { Runnable } from '../controller/manager.ts';
import type { ClusterListener } from '../server/cluster-listener.ts';
import { ApiClient } from '../store/cluster/api-client.ts';
import { ClusterStore } from '../store/cluster/cluster-store.ts';
import { FollowedObjects } from '../store/cluster/followed-objects.ts';
import { type ClusterOptions, findApiServer } from '../store/cluster/kube-config.ts';
import { keepAgentCertificate } from '../subresources/agent-certificate.ts';
import type { Authorities } from '../subresources/authorities.ts';
import { NODE_SIGNER, NodeCertificateReconciler } from '../subresources/certificate-requests.ts';
import { IdentityKeeper } from '../subresources/identity.ts';
import { locateIn } from '../subresources/locate.ts';
import { AgentProxy } from '../subresources/proxy.ts';
import { SubresourceServer } from '../subresources/server.ts';
import type { ControllerMetrics } from './controller-metrics.ts';

export interface SubresourcesOptions {
  /** HOST:PORT. */
  address: string;
  /** The Service by which the cluster's API server reaches controllers. */
  service: string;
  /** Of agents, on each node. */
  agentPort: number;
  /** Service account of agents. */
  agentAccount: string;
}

interface Parts {
  client: ApiClient;
  store: ClusterStore;
  namespace: string;
  clock: Clock;
  log: Logger;
}

/** Serves the API whether or not this controller leads. */
export class Subresources {
  readonly #options: SubresourcesOptions;
  readonly #parts: Parts;
  readonly #stop = new AbortController();
  readonly #followed: FollowedObjects;
  readonly #proxy: AgentProxy;
  #server: SubresourceServer | undefined;
  #authorities: Authorities | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: SubresourcesOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
    this.#followed = new FollowedObjects({ source: parts.store });
    this.#proxy = new AgentProxy({ locate: locateIn(parts.store), port: options.agentPort });
  }

  /** Returns at once; the API is served when there is all that it needs. */
  start(): void {
    const { address, service } = this.#options;
    const { log } = this.#parts;
    const keeper = new IdentityKeeper({
      ...{ ...this.#parts, followed: this.#followed, service },
      changed: async ({ serving, client, authorities }) => {
        this.#authorities = authorities;
        this.#proxy.identify(client);
        if (this.#server !== undefined) {
          this.#server.renew(serving);
          return;
        }
        const server = new SubresourceServer(this.#proxy, serving, log);
        try {
          await server.listen(address);
        } catch (error) {
          await server.close();
          throw error;
        }
        this.#server = server;
        log.info({ address }, 'serves the subresources of sandboxes');
      },
    });
    this.#running = keeper.run(this.#stop.signal);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#followed.close();
    await this.#running;
    await this.#server?.close();
  }

  /** For the leader alone: certificates of nodes. To be started in this order. */
  signer(metrics: ControllerMetrics): Runnable[] {
    const { client, store, namespace, clock, log } = this.#parts;
    const requests = new Informer({ store, kind: 'CertificateSigningRequest', clock, log });
    const reconciler = new NodeCertificateReconciler({
      ...{ client, requests, now: () => clock.now() },
      authorities: () => this.#authorities,
      agentUser: `system:serviceaccount:${namespace}:${this.#options.agentAccount}`,
    });
    const controller = new Controller({ reconciler, clock, log, ...metrics.ofController(reconciler.name) });
    controller.watch(requests);
    return [requests, controller];
  }
}

/** What the store of a controller selects of CertificateSigningRequests. */
export const OUR_REQUESTS = `spec.signerName=${NODE_SIGNER}`;

interface AgentParts {
  cluster: ClusterOptions & { namespace: string; nodeName: string };
  /** HOST:PORT. */
  address: string;
  listener: ClusterListener;
  clock: Clock;
  log: Logger;
}

/** Lets the controllers of the cluster reach this node's sandboxes. */
export function agentSubresources({ cluster, address, listener, clock, log }: AgentParts): Runnable {
  const stop = new AbortController();
  let running: Promise<void> = Promise.resolve();
  return {
    name: 'subresources for the cluster',
    async start() {
      const client = new ApiClient(await findApiServer(cluster));
      const { namespace, nodeName } = cluster;
      const store = new ClusterStore({
        ...{ client, fieldManager: 'bulkhead' },
        events: { controller: 'bulkhead.dev/bulkhead-node', instance: nodeName },
      });
      const followed = new FollowedObjects({ source: store });
      let listens = false;
      const changed: Parameters<typeof keepAgentCertificate>[0]['changed'] = async (tls) => {
        if (listens) listener.renew(tls);
        else await listener.listen(address, tls);
        listens = true;
      };
      const options = { client, followed, namespace, nodeName, clock, log, changed };
      running = keepAgentCertificate(options, stop.signal).finally(() => {
        followed.close();
        return store.close();
      });
    },
    async stop() {
      stop.abort();
      await running;
    },
  };
}
