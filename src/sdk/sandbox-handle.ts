// A sandbox that was looked up.
import { BulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { StoredObject } from '../api/meta.ts';
import type { Connection, WaitOptions } from './connection.ts';
import type { SandboxStatus } from './enums.ts';
import { withTypedErrors } from './errors.ts';
import {
  killSandbox,
  removeStopped,
  type Started,
  type StartOptions,
  startSandbox,
  suspendSandbox,
} from './lifecycle.ts';
import { type SandboxMetrics, toMetrics } from './metrics.ts';
import { infoOf, isTrue, sandboxStatusOf } from './objects.ts';
import type { Sandbox } from './sandbox.ts';

/** What it is now, and what can be done with it from outside. */
export class SandboxHandle {
  readonly #connection: Connection;
  readonly #object: StoredObject;

  readonly #open: (started: Started) => Sandbox;

  /** `Sandbox.get` makes one. `open` makes a Sandbox of one that runs. */
  constructor(connection: Connection, object: StoredObject, open: (started: Started) => Sandbox) {
    this.#connection = connection;
    this.#object = object;
    this.#open = open;
  }

  get name(): string {
    return this.#object.metadata.name;
  }
  /** When it was looked up. */
  get status(): SandboxStatus {
    return sandboxStatusOf(this.#object);
  }
  get configJson(): string {
    return infoOf(this.#object).configJson;
  }
  get createdAt(): Date {
    return infoOf(this.#object).createdAt;
  }
  get updatedAt(): Date {
    return infoOf(this.#object).updatedAt;
  }
  get labels(): Readonly<Record<string, string>> {
    return this.#object.metadata.labels ?? {};
  }

  async metrics(options: WaitOptions = {}): Promise<SandboxMetrics> {
    const { client, namespace } = this.#connection;
    return withTypedErrors(
      async () => toMetrics(await client.stats(namespace, this.name, options.signal)).metrics,
    );
  }

  /** Starts it, held by this program. */
  start(options: StartOptions = {}): Promise<Sandbox> {
    return this.#start(options, true);
  }

  /** Starts it, to live on without this program. */
  startDetached(options: StartOptions = {}): Promise<Sandbox> {
    return this.#start(options, false);
  }

  /** Uses one that runs; it lives on without this program. */
  async connect(options: WaitOptions = {}): Promise<Sandbox> {
    const { client, namespace } = this.#connection;
    return withTypedErrors(async () => {
      const object = await client.get(SANDBOX_KIND, namespace, this.name, options.signal);
      if (!isTrue(object, 'Ready'))
        throw new BulkheadError(
          'SANDBOX_NOT_RUNNING',
          `sandbox "${this.name}" is ${sandboxStatusOf(object)}`,
        );
      return this.#open({ connection: this.#connection, object, hold: undefined });
    });
  }

  async stop(options: WaitOptions = {}): Promise<void> {
    await withTypedErrors(() =>
      suspendSandbox(this.#connection, this.name, this.#object.metadata.uid, options),
    );
  }

  async kill(options: WaitOptions = {}): Promise<void> {
    await withTypedErrors(() =>
      killSandbox(this.#connection, this.name, this.#object.metadata.uid, options.signal),
    );
  }

  /** Fails with SandboxStillRunningError while it runs. */
  async remove(options: WaitOptions = {}): Promise<void> {
    await withTypedErrors(() => removeStopped(this.#connection, this.name, options.signal));
  }

  #start(options: StartOptions, attached: boolean): Promise<Sandbox> {
    const where = { ...this.#connection, ...options };
    return withTypedErrors(async () => this.#open(await startSandbox(this.name, where, attached)));
  }
}
