// A cluster without machines: a real API server, its scheduler and its garbage collector, and Nodes that are objects alone. The
// kubelet is played: what is to end, ends. So thousands of Pods cost nothing but their objects.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { StoredObject } from '../../src/api/meta.ts';
import { systemClock } from '../../src/controller/clock.ts';
import { Informer } from '../../src/controller/informer.ts';
import { silentLog } from '../../src/controller/log.ts';
import { ApiClient } from '../../src/store/cluster/api-client.ts';
import { ClusterStore } from '../../src/store/cluster/cluster-store.ts';
import { findApiServer } from '../../src/store/cluster/kube-config.ts';
import { ApiServer, Program, program } from './api-server.ts';

/** Namespace of Bulkhead's own parts. */
export const SYSTEM = 'bulkhead-system';
/** Of each Node: room for whatever a test places. */
const CAPACITY = { cpu: '20000', memory: '20Ti', pods: '20000' };
/** A server that was just restarted, or refuses for a test's sake, is asked again after so long. */
const RETRY_MS = 200;

export interface ControlPlaneOptions {
  nodes: readonly string[];
  /** Of each Node; room for whatever a test places by default. */
  capacity?: Readonly<Record<string, string>>;
}

export class ControlPlane implements AsyncDisposable {
  readonly server: ApiServer;
  readonly kubeconfig: string;
  /** As the administrator sees them. */
  readonly sandboxes: Informer;
  readonly pods: Informer;
  readonly store: ClusterStore;
  readonly #programs: Program[] = [];

  private constructor(server: ApiServer, kubeconfig: string, store: ClusterStore) {
    this.server = server;
    this.kubeconfig = kubeconfig;
    this.store = store;
    const options = {
      store,
      clock: systemClock,
      log: silentLog,
      backoff: { baseMs: 50, maxMs: 500, jitter: 0.5 },
    };
    this.sandboxes = new Informer({ ...options, kind: 'Sandbox' });
    this.pods = new Informer({ ...options, kind: 'Pod' });
  }

  static async start({ nodes, capacity = CAPACITY }: ControlPlaneOptions): Promise<ControlPlane> {
    const server = await ApiServer.start();
    let plane: ControlPlane | undefined;
    try {
      await server.applyCrds();
      const kubeconfig = await server.kubeconfig();
      const client = new ApiClient(await findApiServer({ kubeconfig }));
      const events = { controller: 'bulkhead.dev/test', instance: 'test' };
      plane = new ControlPlane(
        server,
        kubeconfig,
        new ClusterStore({ client, fieldManager: 'test', events }),
      );
      await plane.#prepare(nodes, capacity);
      return plane;
    } catch (error) {
      await (plane ?? server)[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #prepare(nodes: readonly string[], capacity: Readonly<Record<string, string>>): Promise<void> {
    const nothing = { metadata: { name: SYSTEM } };
    await this.#send('POST', '/api/v1/namespaces', nothing);
    await this.#send('POST', '/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'default' } });
    for (const name of nodes) {
      const addresses = [{ type: 'InternalIP', address: '10.0.0.1' }];
      const conditions = [{ type: 'Ready', status: 'True', reason: 'Played' }];
      const labels = { 'kubernetes.io/hostname': name };
      const status = { capacity, allocatable: capacity, conditions, addresses };
      await this.#send('POST', '/api/v1/nodes', { metadata: { name, labels }, status });
      // A new Node is not ready until its kubelet has said so.
      const ready = { spec: { taints: null } };
      await this.#send('PATCH', `/api/v1/nodes/${name}`, ready, 'application/merge-patch+json');
    }
    for (const [name, flags] of [
      ['kube-scheduler', []],
      ['kube-controller-manager', ['--controllers=garbage-collector-controller']],
    ] as const)
      await this.#run(name, ['--leader-elect=false', '--secure-port=0', ...flags]);
    this.pods.addHandler(({ type, object }) => {
      if (type !== 'deleted' && object.metadata.deletionTimestamp !== undefined) void this.#endPod(object);
    });
    await this.pods.start();
    await this.sandboxes.start();
  }

  async #run(name: string, flags: readonly string[]): Promise<void> {
    const binary = await program(name);
    // Far more than they need, so that their own limits are not what is measured.
    const limits = ['--kube-api-qps=2000', '--kube-api-burst=4000'];
    const command = [...binary, '--kubeconfig', this.kubeconfig, ...limits, ...flags];
    const running = new Program(name, command, join(this.server.root, 'logs', `${name}.log`));
    await running.start();
    this.#programs.push(running);
  }

  /** After the database was restored: those of Kubernetes do not see that their versions are ahead of it. */
  async restartPrograms(): Promise<void> {
    for (const running of this.#programs) {
      await running.end('SIGKILL');
      await running.start();
    }
  }

  /** What a kubelet does once the containers of a Pod that is deleted have ended; finalizers still hold it. */
  async #endPod({ metadata: { namespace, name, uid } }: StoredObject): Promise<void> {
    for (let attempt = 0; attempt < 20; attempt += 1) {
      const body = { gracePeriodSeconds: 0, preconditions: { uid } };
      const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
      const answer = await this.server.request(path, { method: 'DELETE', body }).catch(() => undefined);
      if (answer !== undefined && (answer.status < 300 || answer.status === 404 || answer.status === 409))
        return;
      await delay(RETRY_MS);
    }
  }

  async #send(method: 'POST' | 'PATCH', path: string, body: unknown, contentType = 'application/json') {
    const { status, body: answer } = await this.server.request(path, { method, body, contentType });
    assert.ok(status < 300, `${path}: ${status} ${JSON.stringify(answer)}`);
  }

  /** A kubeconfig that leads to `url`, e.g. of a proxy, as the administrator. */
  async kubeconfigFor(url: string, name: string): Promise<string> {
    const path = join(this.server.root, `kubeconfig-${name}.json`);
    const config = {
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'test' },
      // The client library speaks plain HTTP only where nothing is to be verified.
      clusters: [{ name: 'test', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'admin', user: { token: this.server.token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin' } }],
    };
    await writeFile(path, JSON.stringify(config), { mode: 0o600 });
    return path;
  }

  /** Resolves when `holds` says so after some change of a sandbox; fails after `ms` with what `tell` says. */
  async until(holds: () => boolean, ms: number, tell: () => string): Promise<void> {
    const deadline = performance.now() + ms;
    while (!holds()) {
      if (performance.now() > deadline) assert.fail(`not within ${ms / 1_000} s: ${tell()}`);
      await delay(20);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    await this.pods.stop();
    await this.sandboxes.stop();
    for (const running of this.#programs) await running.end('SIGKILL');
    await this.server[Symbol.asyncDispose]();
  }
}
