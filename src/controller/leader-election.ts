// One of several equal programs leads: the one that holds a Lease of the cluster and renews it in time.
import { asBulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { ObjectKey, Store } from '../store/store.ts';
import { type Clock, sleep } from './clock.ts';
import type { Log } from './log.ts';

/** That of Kubernetes' own controllers. */
export const DEFAULT_LEASE_DURATION_MS = 15_000;
/** Parts of the lease's duration, as Kubernetes has them. A leader that cannot renew gives up before others may follow it. */
const RENEW_DEADLINE = 2 / 3;
const RETRY = 2 / 15;

interface LeaseSpec {
  holderIdentity?: string;
  leaseDurationSeconds?: number;
  acquireTime?: string;
  renewTime?: string;
  leaseTransitions?: number;
}

export interface LeaderElectionOptions {
  store: Store;
  clock: Clock;
  log: Log;
  /** The Lease. */
  namespace: string;
  name: string;
  /** Of this program among its equals; another one for each run. */
  identity: string;
  /** How long others wait for a leader that is silent; the same for all of them. */
  leaseDurationMs?: number;
}

/**
 * How long others held the lease is measured by our own clock, from when we saw it renewed last, so that clocks of machines need
 * not agree.
 */
export class LeaderElection {
  readonly #options: LeaderElectionOptions;
  readonly #durationMs: number;
  /** What the lease said when we saw it change last, and when that was. */
  #seen: { version: string; at: number } | undefined;

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#durationMs = options.leaseDurationMs ?? DEFAULT_LEASE_DURATION_MS;
  }

  /** Resolves when this program leads; or when `signal` aborts. */
  async acquire(signal: AbortSignal): Promise<void> {
    const { clock, log, identity } = this.#options;
    while (!signal.aborted) {
      const holder = await this.#try().catch((error: unknown) => {
        log.warn({ error }, 'the lease of the leader cannot be read or written');
        return undefined;
      });
      if (holder === identity) return;
      await sleep(clock, this.#durationMs * RETRY, signal);
    }
  }

  /** Renews until `signal` aborts, then lets go of the lease. Throws when it is lost: the program has to end at once. */
  async hold(signal: AbortSignal): Promise<void> {
    const { clock, log, identity } = this.#options;
    const deadlineMs = this.#durationMs * RENEW_DEADLINE;
    let renewed = clock.monotonic();
    while (!signal.aborted) {
      await sleep(clock, this.#durationMs * RETRY, signal);
      if (signal.aborted) break;
      try {
        const holder = await this.#before(renewed + deadlineMs, this.#try());
        if (holder !== identity) throw new LeadershipLost(`${holder} leads now.`);
        renewed = clock.monotonic();
      } catch (error) {
        if (error instanceof LeadershipLost) throw error;
        log.warn({ error }, 'the lease of the leader was not renewed');
        if (clock.monotonic() - renewed >= deadlineMs) throw late();
      }
    }
    await this.#release().catch((error: unknown) =>
      log.warn({ error }, 'the lease of the leader was not released'),
    );
  }

  /** An API server that does not answer is no reason to lead on: what `at` passes before fails. */
  async #before<T>(at: number, attempt: Promise<T>): Promise<T> {
    const { clock } = this.#options;
    const passed = Promise.withResolvers<never>();
    const cancel = clock.after(at - clock.monotonic(), () => passed.reject(late()));
    try {
      return await Promise.race([attempt, passed.promise]);
    } finally {
      cancel();
    }
  }

  /** Who holds the lease after an attempt to have it. */
  async #try(): Promise<string> {
    const { store, clock, identity } = this.#options;
    const lease = await store.get(this.#key());
    if (lease === undefined) {
      await store.create({ ...this.#manifest(), spec: this.#spec({}) });
      return identity;
    }
    const spec = lease.spec as LeaseSpec;
    const version = lease.metadata.resourceVersion;
    if (this.#seen?.version !== version) this.#seen = { version, at: clock.monotonic() };
    const holder = spec.holderIdentity ?? '';
    const isFree = holder === '' || clock.monotonic() - this.#seen.at >= this.#durationMs;
    if (holder !== identity && !isFree) return holder;
    try {
      await store.update({ ...this.#manifest(lease), spec: this.#spec(spec) });
      return identity;
    } catch (error) {
      // Somebody else was quicker; who, the next look shows.
      if (asBulkheadError(error).code === 'CONFLICT') return '';
      throw error;
    }
  }

  async #release(): Promise<void> {
    const lease = await this.#options.store.get(this.#key());
    const spec = lease?.spec as LeaseSpec | undefined;
    if (lease === undefined || spec?.holderIdentity !== this.#options.identity) return;
    await this.#options.store.update({ ...this.#manifest(lease), spec: { ...spec, holderIdentity: '' } });
  }

  #spec(former: LeaseSpec): LeaseSpec {
    const { clock, identity } = this.#options;
    const now = microTime(clock.now());
    const isOurs = former.holderIdentity === identity;
    return {
      holderIdentity: identity,
      // Kubernetes has whole seconds there.
      leaseDurationSeconds: Math.max(1, Math.round(this.#durationMs / 1000)),
      acquireTime: isOurs ? (former.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: (former.leaseTransitions ?? 0) + (isOurs ? 0 : 1),
    };
  }

  #key(): ObjectKey {
    const { namespace, name } = this.#options;
    return { kind: 'Lease', namespace, name };
  }

  #manifest(lease?: StoredObject) {
    const { namespace, name } = this.#options;
    const version = lease === undefined ? {} : { resourceVersion: lease.metadata.resourceVersion };
    return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { namespace, name, ...version } };
  }
}

/** Another one leads, or may. */
export class LeadershipLost extends Error {
  override readonly name = 'LeadershipLost';
}

function late(): LeadershipLost {
  return new LeadershipLost('The lease could not be renewed in time.');
}

/** RFC 3339 with microseconds, as a Lease has its times. */
export function microTime(unixMs: number): string {
  return new Date(unixMs).toISOString().replace(/Z$/, '000Z');
}
