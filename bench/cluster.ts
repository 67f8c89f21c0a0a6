// Sandboxes in a cluster, from `kubectl apply` to Ready, beside as many plain Pods from apply to bound. API server, scheduler, controller
// and three agents are real and each a process; VMs are fakes, and there is no kubelet. So what is measured is what the cluster's
// parts and ours do for one. Usage: node --expose-gc bench/cluster.ts [COUNT] [--json].
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { isConditionTrue } from '../src/api/conditions.ts';
import type { ObjectManifest, StoredObject } from '../src/api/meta.ts';
import type { DefaultedSandbox } from '../src/api/sandbox.ts';
import type { Informer } from '../src/controller/informer.ts';
import { IMAGE } from '../src/reconcilers/testing/world.ts';
import { ControlPlane } from '../test/cluster/control-plane.ts';
import { Fleet, type Part } from '../test/cluster/fleet.ts';
import { countArgument, percentile, Report } from './report.ts';

const COUNT = countArgument(5_000);
const NODES = ['node0', 'node1', 'node2'];
/** What the project wants to reach. */
const AIM = { requestsPerLaunch: { max: 6 }, toPods: { max: 1 } };
/** Applied at once: as much as one client has under way. */
const AT_ONCE = 50;
/** One after another, so that none waits for another: what one alone takes. */
const PACED = { count: 200, everyMs: 50 };
const IDLE_MS = 20_000;
const TIMEOUT_MS = 20 * 60_000;
const METRICS = '127.0.0.1:21449';

/** When each object was applied, and when a watch first showed it in a state, by name. */
class Times {
  readonly applied = new Map<string, number>();
  readonly bound = new Map<string, number>();
  readonly ready = new Map<string, number>();

  note(object: StoredObject): void {
    const { name } = object.metadata;
    if (!this.applied.has(name)) return;
    const { spec, status } = object as StoredObject<{ nodeName?: string }, DefaultedSandbox['status']>;
    const node = object.kind === 'Pod' ? spec.nodeName : status?.nodeName;
    if (node !== undefined && !this.bound.has(name)) this.bound.set(name, performance.now());
    if (isConditionTrue(status?.conditions, 'Ready') && !this.ready.has(name))
      this.ready.set(name, performance.now());
  }

  /** Milliseconds of each. */
  between(from: 'applied' | 'bound', to: 'bound' | 'ready'): number[] {
    return [...this[from]].map(([name, at]) => (this[to].get(name) ?? Number.NaN) - at);
  }
}

function pod(name: string): ObjectManifest {
  const resources = { requests: { cpu: '1', memory: '192Mi' } };
  return {
    ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default' } },
    spec: { containers: [{ name: 'main', image: 'pause', resources }] },
  };
}

function sandbox(name: string): ObjectManifest {
  return {
    ...{ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox', metadata: { name, namespace: 'default' } },
    spec: { image: IMAGE, resources: { memory: '128Mi' }, terminationGracePeriodSeconds: 1 },
  };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`never: ${what}`);
    await sleep(50);
  }
}

function residentMiB({ child: { pid } }: Part): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1]) / 1024;
}

/** What the controller counts of its own requests, as an operator's Prometheus sees it. */
async function controllerRequests(plane: ControlPlane): Promise<Map<string, number>> {
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });
  try {
    const headers = { authorization: `Bearer ${plane.server.token}` };
    const { body } = await request(`https://${METRICS}/metrics`, { dispatcher, headers });
    const lines = (await body.text()).matchAll(/^rest_client_requests_total\{(.*)\} (\d+)$/gm);
    const counts = new Map<string, number>();
    for (const [, labels = '', count = '0'] of lines) {
      const method = /method="(\w+)"/.exec(labels)?.[1] ?? '';
      counts.set(method, (counts.get(method) ?? 0) + Number(count));
    }
    return counts;
  } finally {
    await dispatcher.close();
  }
}

const sum = (counts: ReadonlyMap<string, number>) => [...counts.values()].reduce((a, b) => a + b, 0);

class Bench {
  readonly report = new Report(`${COUNT} sandboxes in a cluster, on fake VMs of three nodes`);
  readonly #plane: ControlPlane;
  readonly #fleet: Fleet;
  #times = new Times();

  constructor(plane: ControlPlane, fleet: Fleet) {
    this.#plane = plane;
    this.#fleet = fleet;
    for (const informer of [plane.pods, plane.sandboxes])
      informer.addHandler(({ object }) => this.#times.note(object));
  }

  async run(): Promise<void> {
    const pods = await this.#apply('Pod', this.#plane.pods, pod);
    const before = { controller: await controllerRequests(this.#plane), agents: await this.#agentRequests() };
    const sandboxes = await this.#apply('Sandbox', this.#plane.sandboxes, sandbox, async () => {
      const launched = COUNT + PACED.count;
      const after = await controllerRequests(this.#plane);
      const agents = ((await this.#agentRequests()) - before.agents) / launched;
      const ours = (sum(after) - sum(before.controller)) / launched;
      this.report.series('requests of the controller per launch', '', [ours]);
      this.report.series('requests of the agent per launch', '', [agents]);
      this.report.series('requests per launch in all', '', [ours + agents], AIM.requestsPerLaunch);
      const each = [...after].map(([method, count]) => {
        const more = (count - (before.controller.get(method) ?? 0)) / launched;
        return `${more.toFixed(2)} ${method}`;
      });
      this.report.note(`Of the controller per launch: ${each.join(', ')}.`);
      await this.#memory();
    });
    this.report.ratio(
      'apply to bound, one at a time: sandbox to Pod',
      sandboxes.paced,
      pods.paced,
      AIM.toPods,
    );
    this.report.ratio('apply to bound, all at once: sandbox to Pod', sandboxes.burst, pods.burst, AIM.toPods);
    const doubles = this.#fleet.doubles();
    if (doubles.length > 0) throw new Error(`two VMs at once: ${doubles.join(', ')}`);
  }

  /** Applies PACED.count one by one and COUNT at once, then removes them. Resolves to the times from apply to bound. */
  async #apply(
    kind: 'Pod' | 'Sandbox',
    informer: Informer,
    manifest: (name: string) => ObjectManifest,
    whileThere: () => Promise<void> = async () => undefined,
  ): Promise<{ paced: number[]; burst: number[] }> {
    const isDone = () => this.#times[kind === 'Pod' ? 'bound' : 'ready'].size === this.#times.applied.size;
    this.#times = new Times();
    for (let index = 0; index < PACED.count; index += 1) {
      void this.#create(manifest(`paced-${index}`));
      await sleep(PACED.everyMs);
    }
    await until(`${kind}s one by one`, isDone);
    const paced = this.#tell(kind, 'one at a time');
    this.#times = new Times();
    const began = performance.now();
    for (let at = 0; at < COUNT; at += AT_ONCE)
      await Promise.all(
        Array.from({ length: Math.min(AT_ONCE, COUNT - at) }, (_, index) =>
          this.#create(manifest(`burst-${at + index}`)),
        ),
      );
    const applied = performance.now() - began;
    await until(`${kind}s at once`, isDone);
    this.report.series(`${kind}: all ${COUNT} applied`, 's', [applied / 1_000]);
    const last = kind === 'Pod' ? 'bound' : 'Ready';
    this.report.series(`${kind}: all ${COUNT} ${last}`, 's', [(performance.now() - began) / 1_000]);
    const burst = this.#tell(kind, 'all at once');
    await whileThere();
    const removing = performance.now();
    const objects = informer.list('default');
    for (let at = 0; at < objects.length; at += AT_ONCE)
      await Promise.all(
        objects
          .slice(at, at + AT_ONCE)
          .map(({ metadata: { namespace, name } }) => this.#plane.store.delete({ kind, namespace, name })),
      );
    const left = () => this.#plane.pods.list('default').length + this.#plane.sandboxes.list('default').length;
    await until(`${kind}s are gone`, () => left() === 0);
    this.report.series(`${kind}: all removed`, 's', [(performance.now() - removing) / 1_000]);
    return { paced, burst };
  }

  async #create(manifest: ObjectManifest): Promise<void> {
    this.#times.applied.set(manifest.metadata.name, performance.now());
    await this.#plane.store.create(manifest);
  }

  #tell(kind: 'Pod' | 'Sandbox', how: string): number[] {
    const bound = this.#times.between('applied', 'bound');
    this.report.series(`${kind}, ${how}: apply to bound`, 'ms', bound);
    this.report.series(`${kind}, ${how}: the same, p99`, 'ms', [percentile(bound, 99)]);
    if (kind === 'Sandbox') {
      const ready = this.#times.between('bound', 'ready');
      this.report.series(`${kind}, ${how}: bound to Ready`, 'ms', ready);
      this.report.series(`${kind}, ${how}: the same, p99`, 'ms', [percentile(ready, 99)]);
    }
    return bound;
  }

  async #agentRequests(): Promise<number> {
    const figures = await Promise.all(this.#fleet.agents.map((agent) => agent.figures()));
    return figures.reduce((all, { requests }) => all + requests, 0);
  }

  async #memory(): Promise<void> {
    const { controllers, agents } = this.#fleet;
    this.report.series('resident memory of the controller', 'MiB', controllers.map(residentMiB));
    await sleep(IDLE_MS);
    this.report.series(`- after ${IDLE_MS / 1_000} s of rest`, 'MiB', controllers.map(residentMiB));
    this.report.series('- of each agent, fakes included', 'MiB', agents.map(residentMiB));
  }
}

await using plane = await ControlPlane.start({ nodes: NODES });
await using fleet = new Fleet(plane, { counted: false });
await fleet.startController(['--secure-metrics-address', METRICS]);
for (const node of NODES) await fleet.startAgent(node);
const bench = new Bench(plane, fleet);
await bench.run();
bench.report.print();
