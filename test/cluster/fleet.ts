// Bulkhead's parts on a control plane, each a process of its own behind a proxy of its own, and a count of every VM that ever ran.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { ControlPlane } from './control-plane.ts';
import { InjectingProxy } from './injecting-proxy.ts';

const PROJECT = resolve(import.meta.dirname, '..', '..');
const NODE = join(PROJECT, 'node_modules', '.bin', 'node');
const FLAGS = ['--expose-gc', '--disable-warning=ExperimentalWarning'];
/** Of a leader that dies: short, so that many can; a machine that builds beside does not renew more often. */
const LEASE_DURATION = '6s';
const READY_MS = 120_000;

/** A VM from its start to its end, by the machine's monotonic clock, in milliseconds. */
interface Run {
  node: string;
  from: number;
  to: number;
}

export interface Figures {
  requests: number;
  residentMiB: number;
  running: number;
  now: number;
}

/** One process. */
export class Part {
  readonly name: string;
  readonly child: ChildProcess;
  readonly proxy: InjectingProxy | undefined;
  leads = false;
  /** The test ended it, or is about to. */
  isEnded = false;
  #figures = Promise.withResolvers<Figures>();

  constructor(name: string, child: ChildProcess, proxy: InjectingProxy | undefined) {
    this.name = name;
    this.child = child;
    this.proxy = proxy;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Of an agent. */
  async figures(): Promise<Figures> {
    this.#figures = Promise.withResolvers();
    this.child.stdin?.write('figures\n');
    return this.#figures.promise;
  }

  hear(figures: Figures): void {
    this.#figures.resolve(figures);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.isEnded = true;
    if (!this.running) return;
    const exited = once(this.child, 'exit');
    this.child.kill(signal);
    await exited;
  }
}

export class Fleet implements AsyncDisposable {
  readonly controllers: Part[] = [];
  readonly agents: Part[] = [];
  /** By uid of the sandbox. */
  readonly runs = new Map<string, Run[]>();
  readonly #plane: ControlPlane;
  readonly #counted: boolean;
  readonly #proxies: InjectingProxy[] = [];
  #made = 0;

  /** `counted`: requests pass a proxy each, which a bench of times leaves out. */
  constructor(plane: ControlPlane, { counted = true }: { counted?: boolean } = {}) {
    this.#plane = plane;
    this.#counted = counted;
  }

  get proxies(): readonly InjectingProxy[] {
    return this.#proxies;
  }

  /** Resolves when it waits to lead, or leads. */
  async startController(flags: readonly string[] = []): Promise<Part> {
    this.#made += 1;
    const name = `controller-${this.#made}`;
    const cli = join(PROJECT, 'src', 'cli', 'main.ts');
    const options = [
      '--leader-elect-lease-duration',
      LEASE_DURATION,
      '--reservation-image',
      'pause',
      ...flags,
    ];
    const part = await this.#start(name, (kubeconfig) => [
      cli,
      'controller',
      '--kubeconfig',
      kubeconfig,
      ...options,
    ]);
    this.controllers.push(part);
    // As its Deployment does: one that loses its lease, on a machine without time for it, ends by itself.
    part.child.once('exit', () => {
      if (!part.isEnded) void this.startController(flags).catch(() => undefined);
    });
    await this.#said(
      part,
      ({ msg }) => msg === 'waits to lead',
      ({ msg }) => {
        if (msg === 'leads') part.leads = true;
      },
    );
    return part;
  }

  /** Resolves when it works. `skewMs`: its clock is off by so much. */
  async startAgent(node: string, skewMs = 0): Promise<Part> {
    const dir = join(this.#plane.server.root, node);
    await mkdir(dir, { recursive: true });
    const program = join(import.meta.dirname, 'fake-node.ts');
    const part = await this.#start(node, (kubeconfig) => [program, node, kubeconfig, dir, String(skewMs)]);
    this.agents.push(part);
    await this.#said(
      part,
      ({ ready }) => ready !== undefined,
      (line) => this.#note(part, line),
    );
    return part;
  }

  get leader(): Part | undefined {
    return this.controllers.find(({ leads, running }) => leads && running);
  }

  /** VMs of a sandbox that run now. */
  running(uid: string): Run[] {
    return (this.runs.get(uid) ?? []).filter(({ to }) => to === Number.POSITIVE_INFINITY);
  }

  /** Sandboxes of which two VMs ran at once, with where and for how long. */
  doubles(): string[] {
    const doubles: string[] = [];
    for (const [uid, runs] of this.runs) {
      const sorted = runs.toSorted((a, b) => a.from - b.from);
      for (const [index, run] of sorted.entries()) {
        const next = sorted[index + 1];
        if (next !== undefined && next.from < run.to)
          doubles.push(`${uid}: on ${run.node} and ${next.node} for ${Math.round(run.to - next.from)} ms`);
      }
    }
    return doubles;
  }

  async #start(name: string, command: (kubeconfig: string) => string[]): Promise<Part> {
    const { server, kubeconfig } = this.#plane;
    const proxy = this.#counted ? await InjectingProxy.start(server) : undefined;
    if (proxy !== undefined) this.#proxies.push(proxy);
    const config = proxy === undefined ? kubeconfig : await this.#plane.kubeconfigFor(proxy.url, name);
    const log = await open(join(server.root, 'logs', `${name}.log`), 'a');
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', NODE, ...FLAGS, ...command(config)], {
      stdio: ['pipe', 'pipe', log.fd],
      env: { ...process.env, LOG_LEVEL: 'warn' },
    });
    await log.close();
    return new Part(name, child, proxy);
  }

  /** Resolves at the first line that is awaited; every line is told. */
  async #said(part: Part, awaited: (line: Line) => boolean, tell: (line: Line) => void): Promise<void> {
    const said = Promise.withResolvers<void>();
    const late = setTimeout(() => said.reject(new Error(`${part.name} does not get ready`)), READY_MS);
    part.child.once('exit', (code) => said.reject(new Error(`${part.name} ended with ${code}`)));
    createInterface({ input: part.child.stdout as Readable }).on('line', (text) => {
      const line = JSON.parse(text) as Line;
      tell(line);
      if (awaited(line)) said.resolve();
    });
    await said.promise.finally(() => clearTimeout(late));
  }

  #note(part: Part, { started, ended, at = 0, figures }: Line): void {
    if (figures !== undefined) part.hear(figures);
    if (started !== undefined) {
      const runs = this.runs.get(started) ?? [];
      this.runs.set(started, runs);
      runs.push({ node: part.name, from: at, to: Number.POSITIVE_INFINITY });
    }
    const run = this.runs
      .get(ended ?? '')
      ?.find(({ node, to }) => node === part.name && to === Number.POSITIVE_INFINITY);
    if (run !== undefined) run.to = at;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.controllers, ...this.agents].map((part) => part.end('SIGKILL')));
    for (const proxy of this.#proxies) await proxy[Symbol.asyncDispose]();
  }
}

interface Line {
  msg?: string;
  ready?: string;
  started?: string;
  ended?: string;
  at?: number;
  figures?: Figures;
}

/** Fails with what ran twice. */
export function assertNoDoubles(fleet: Fleet): void {
  assert.deepEqual(fleet.doubles(), []);
}
