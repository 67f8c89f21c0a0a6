// The sandboxes whose VMs run on this host, for exec, logs, figures and metrics.
import { BulkheadError } from '../../../api/errors.ts';
import type { Clock } from '../../../controller/clock.ts';
import type { GuestAgent } from '../../../guest/agent.ts';
import { within } from '../../elapsed.ts';
import { STATS_CONCURRENCY, STATS_INTERVAL_MS, STATS_TIMEOUT_MS } from '../limits.ts';
import type { LiveSandbox, SandboxRuntime } from './sandbox-runtime.ts';

export class LiveSandboxes {
  readonly #clock: Clock;
  readonly #onSample: (runtime: SandboxRuntime) => void;
  readonly #byUid = new Map<string, SandboxRuntime>();
  /** By namespace/name: more than one while the remains of a deleted namesake are cleaned up. */
  readonly #byName = new Map<string, SandboxRuntime[]>();
  /** By uid: who asked for a sandbox that no reconcile has looked at yet. */
  readonly #awaited = new Map<string, PromiseWithResolvers<SandboxRuntime>>();
  readonly #stop = new AbortController();
  #sampling: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;

  /** `onSample` is told of each guest that has told its figures. */
  constructor(clock: Clock, onSample: (runtime: SandboxRuntime) => void) {
    this.#clock = clock;
    this.#onSample = onSample;
  }

  /** By uid; `undefined` when no VM of it runs. */
  get(uid: string): LiveSandbox | undefined {
    return asLive(this.#byUid.get(uid));
  }

  /** Does a VM of it run? */
  has(uid: string): boolean {
    return this.#byUid.get(uid)?.handle !== undefined;
  }

  /** By name; `undefined` when no VM of it runs. */
  find(namespace: string, name: string): LiveSandbox | undefined {
    for (const runtime of this.named(namespace, name)) {
      const live = asLive(runtime);
      if (live !== undefined) return live;
    }
    return undefined;
  }

  /** The guest of a sandbox by uid. Throws SANDBOX_NOT_RUNNING or AGENT_UNREACHABLE. */
  agentOf(uid: string): GuestAgent {
    const live = this.get(uid);
    if (live === undefined) throw new BulkheadError('SANDBOX_NOT_RUNNING', 'The sandbox has no running VM.');
    if (live.agent?.connected !== true) {
      throw new BulkheadError('AGENT_UNREACHABLE', 'The guest of the sandbox does not answer now.');
    }
    return live.agent;
  }

  list(): LiveSandbox[] {
    return [...this.#byUid.values()].map(asLive).filter((live) => live !== undefined);
  }

  /** For the reconciler: everything this process holds, running or not. */
  runtimes(): SandboxRuntime[] {
    return [...this.#byUid.values()];
  }

  named(namespace: string, name: string): readonly SandboxRuntime[] {
    return this.#byName.get(`${namespace}/${name}`) ?? [];
  }

  runtime(uid: string): SandboxRuntime | undefined {
    return this.#byUid.get(uid);
  }

  /**
   * Resolves when this process knows what runs of the sandbox, after `ms` at the latest: a daemon serves before it has taken up
   * the VMs of the one before it, and what is asked of those is not to fail for that.
   */
  async takenUp(uid: string, ms: number): Promise<void> {
    let runtime = this.#byUid.get(uid);
    if (runtime === undefined) {
      const awaited = this.#awaited.get(uid) ?? Promise.withResolvers<SandboxRuntime>();
      this.#awaited.set(uid, awaited);
      runtime = await within(this.#clock, ms, awaited.promise);
      if (runtime === undefined) this.#awaited.delete(uid);
    }
    if (runtime !== undefined) await within(this.#clock, ms, runtime.takenUp);
  }

  add(runtime: SandboxRuntime): void {
    this.#byUid.set(runtime.uid, runtime);
    this.#awaited.get(runtime.uid)?.resolve(runtime);
    this.#awaited.delete(runtime.uid);
    const name = `${runtime.key.namespace}/${runtime.key.name}`;
    this.#byName.set(name, [...(this.#byName.get(name) ?? []), runtime]);
  }

  remove(runtime: SandboxRuntime): void {
    this.#byUid.delete(runtime.uid);
    const name = `${runtime.key.namespace}/${runtime.key.name}`;
    const others = (this.#byName.get(name) ?? []).filter((each) => each !== runtime);
    if (others.length === 0) this.#byName.delete(name);
    else this.#byName.set(name, others);
  }

  /** Asks every guest for its figures now and then; a guest that does not answer holds up nobody. */
  startSampling(): void {
    this.#cancelTimer = this.#clock.after(STATS_INTERVAL_MS, () => {
      this.#sampling = this.#sampleAll().finally(() => {
        if (!this.#stop.signal.aborted) this.startSampling();
      });
    });
  }

  async stopSampling(): Promise<void> {
    this.#cancelTimer?.();
    this.#stop.abort();
    await this.#sampling;
  }

  async #sampleAll(): Promise<void> {
    const queue = [...this.#byUid.values()].filter((runtime) => runtime.agent?.connected === true);
    const worker = async (): Promise<void> => {
      for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
        if (this.#stop.signal.aborted) return;
        await this.#sample(next);
      }
    };
    await Promise.all(Array.from({ length: STATS_CONCURRENCY }, worker));
  }

  async #sample(runtime: SandboxRuntime): Promise<void> {
    const { agent } = runtime;
    if (agent === undefined) return;
    const late = new AbortController();
    const asked = agent.stats(AbortSignal.any([late.signal, this.#stop.signal])).catch(() => undefined);
    const stats = await within(this.#clock, STATS_TIMEOUT_MS, asked);
    late.abort();
    if (stats !== undefined && runtime.agent === agent) {
      runtime.lastGuestStats = { at: new Date(this.#clock.now()), stats };
      this.#onSample(runtime);
    }
  }
}

function asLive(runtime: SandboxRuntime | undefined): LiveSandbox | undefined {
  const handle = runtime?.handle;
  if (runtime === undefined || handle === undefined) return undefined;
  const { uid, key, agent, stages, lastGuestStats, execDefaults } = runtime;
  return {
    uid,
    key,
    handle,
    agent,
    startedAt: handle.startedAt,
    stages,
    lastGuestStats,
    execDefaults,
    main: runtime.main?.process,
    use: () => runtime.use.begin(),
  };
}
