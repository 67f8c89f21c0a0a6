// The whole way on loopback, with real certificates: a controller's server and a node's agent whose guests are fakes.

import { BulkheadError } from '../../api/errors.ts';
import { CONTROLLER_CLIENT_NAME } from '../../server/cluster-listener.ts';
import { type Harness, type HarnessOptions, startHarness } from '../../server/testing/harness.ts';
import type { Locate } from '../locate.ts';
import { AgentProxy } from '../proxy.ts';
import { SubresourceServer } from '../server.ts';
import { Issuer } from './tls.ts';

export const NODE = 'node-a';
export const BASE = '/apis/subresources.bulkhead.dev/v1alpha1';
export const USER = { 'x-remote-user': 'ann' };

export class Way implements AsyncDisposable {
  readonly serving: Issuer;
  readonly nodes: Issuer;
  readonly frontProxies: Issuer;
  readonly agent: Harness;
  readonly proxy: AgentProxy;
  readonly server: SubresourceServer;
  /** Where sandboxes are, for each next request. */
  locate: Locate = async () => ({ nodeName: NODE, host: '127.0.0.1' });

  private constructor(
    { serving, nodes, frontProxies }: { serving: Issuer; nodes: Issuer; frontProxies: Issuer },
    agent: Harness,
    certificate: { cert: string; key: string },
    agentPort: number,
  ) {
    this.serving = serving;
    this.nodes = nodes;
    this.frontProxies = frontProxies;
    this.agent = agent;
    this.proxy = new AgentProxy({ locate: (...asked) => this.locate(...asked), port: agentPort });
    const trust = { ca: frontProxies.ca, allowedNames: ['front-proxy'], userHeaders: ['x-remote-user'] };
    this.server = new SubresourceServer(this.proxy, { ...certificate, trust });
  }

  /** `agentPort`: of another agent than the harness. */
  static async start(options: HarnessOptions & { agentPort?: number } = {}): Promise<Way> {
    const names = ['serving', 'nodes', 'front proxies'];
    const [serving, nodes, frontProxies] = await Promise.all(names.map((name) => Issuer.create(name)));
    if (serving === undefined || nodes === undefined || frontProxies === undefined)
      throw new BulkheadError('INTERNAL', 'three authorities were made');
    const agent = await startHarness(options);
    await agent.server.forCluster.listen('127.0.0.1:0', await nodes.leaf(NODE));
    const certificate = await serving.leaf('controller.test.svc');
    const port = options.agentPort ?? agent.server.forCluster.port;
    const way = new Way({ serving, nodes, frontProxies }, agent, certificate, port);
    way.proxy.identify(await nodes.leaf(CONTROLLER_CLIENT_NAME, { usage: 'client' }));
    await way.server.listen('127.0.0.1:0');
    return way;
  }

  /** What the front proxy comes with. */
  frontProxy(name = 'front-proxy') {
    return this.frontProxies.leaf(name, { usage: 'client' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
    await this.agent[Symbol.asyncDispose]();
  }
}
