// A microVM, from a program: created or found, used, and ended.
import { setTimeout as delay } from 'node:timers/promises';
import { UNHELD_ANNOTATION } from '../api/annotations.ts';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { StoredObject } from '../api/meta.ts';
import type { LogQuery } from '../api/wire.ts';
import { type AttachConfig, type AttachOptions, attachTerminal } from './attach.ts';
import { madeUpName, manifestOf, type SandboxConfig, SHELL_ANNOTATION } from './config.ts';
import { type Connection, type ConnectionOptions, connectionOf } from './connection.ts';
import { withDaemon } from './daemon.ts';
import type { SandboxStatus } from './enums.ts';
import { failure, SandboxStillRunningError, typed, withTypedErrors } from './errors.ts';
import {
  type ExecConfig,
  type ExecHandle,
  type ExecOptions,
  type ExecPlace,
  type ResumeExecOptions,
  resumeExec,
  startExec,
} from './exec.ts';
import type { ExecOutput, ExitStatus } from './exec-output.ts';
import { SandboxFs } from './fs.ts';
import { Hold } from './hold.ts';
import { type CpuMark, MetricsStream, type SandboxMetrics, toMetrics } from './metrics.ts';
import { conditionOf, exitOf, isTrue, refusalOf, sandboxStatusOf, waitUntil } from './objects.ts';
import { createOwned, hasOwned } from './owned.ts';
import { bringCopies } from './patches.ts';
import { bringScripts } from './scripts.ts';

export interface StartOptions extends ConnectionOptions {
  /** Gives up; what was created is removed. */
  signal?: AbortSignal;
  /** How long the start may take, pull included. Default: 10 minutes. */
  timeoutMs?: number;
  /** Told what the start waits for, e.g. how far the pull is. */
  onProgress?: (message: string) => void;
}

export interface StopOptions {
  signal?: AbortSignal;
}

export interface SandboxInfo {
  name: string;
  status: SandboxStatus;
  /** The spec of the Sandbox object as JSON. */
  configJson: string;
  createdAt: Date;
  updatedAt: Date;
}

/** A pull of a large image over a slow line. */
const START_TIMEOUT_MS = 600_000;
/** A graceful stop within the longest usual grace, and the removal of what the sandbox had. */
const STOP_TIMEOUT_MS = 180_000;
const DEFAULT_SHELL = '/bin/sh';
/** For those who wait however long it takes. */
const NEVER = new AbortController().signal;

function deadline(ms: number, signal?: AbortSignal): AbortSignal {
  return signal === undefined ? AbortSignal.timeout(ms) : AbortSignal.any([AbortSignal.timeout(ms), signal]);
}

function infoOf(object: StoredObject): SandboxInfo {
  const { name, creationTimestamp } = object.metadata;
  const conditions = conditionOf(object, 'Ready');
  return {
    ...{ name, status: sandboxStatusOf(object), configJson: JSON.stringify(object.spec) },
    createdAt: new Date(creationTimestamp),
    updatedAt: new Date(conditions?.lastTransitionTime ?? creationTimestamp),
  };
}

async function getObject({ client, namespace }: Connection, name: string): Promise<StoredObject> {
  return client.get(SANDBOX_KIND, namespace, name);
}

/** Deletes and waits until nothing of it is left. */
async function removeAndWait(connection: Connection, name: string, uid?: string, signal?: AbortSignal) {
  const { client, namespace } = connection;
  try {
    await client.delete(SANDBOX_KIND, namespace, name, uid === undefined ? {} : { preconditions: { uid } });
  } catch (error) {
    const { code } = asBulkheadError(error);
    // Gone already, or another one has the name by now.
    if (code === 'NOT_FOUND' || (code === 'CONFLICT' && uid !== undefined)) return;
    throw error;
  }
  await waitUntil(
    connection,
    name,
    (object) => object === undefined || (uid !== undefined && object.metadata.uid !== uid),
    deadline(STOP_TIMEOUT_MS, signal),
  );
}

/** Ready, or a refusal. */
async function waitReady(connection: Connection, name: string, options: StartOptions): Promise<StoredObject> {
  const { timeoutMs = START_TIMEOUT_MS, signal, onProgress } = options;
  let told = '';
  let last: StoredObject | undefined;
  const settled = (object: StoredObject | undefined): boolean => {
    last = object;
    if (object === undefined) return true;
    const { message = '' } = conditionOf(object, 'Ready') ?? {};
    if (message !== '' && message !== told) onProgress?.(message);
    told = message;
    return isTrue(object, 'Ready') || refusalOf(object) !== undefined;
  };
  try {
    await waitUntil(connection, name, settled, deadline(timeoutMs, signal));
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof DOMException)) throw error;
    throw new BulkheadError('TIMEOUT', `sandbox "${name}" was not ready within ${timeoutMs} ms: ${told}`);
  }
  if (last === undefined)
    throw new BulkheadError('NOT_FOUND', `sandbox "${name}" was deleted while it started`);
  const refusal = refusalOf(last);
  if (refusal !== undefined) throw refusal;
  return last;
}

async function create(config: SandboxConfig, options: StartOptions, attached: boolean): Promise<Sandbox> {
  const connection = connectionOf(options);
  const { client, namespace } = connection;
  const mark = madeUpName();
  // What is wrong with it is told before anything is sent.
  manifestOf(config, namespace, attached, mark);
  await withDaemon(connection, () => client.version(), options.signal);
  const digests = await bringCopies(config.patches, (copy) => client.copies.put(copy, options.signal));
  const manifest = manifestOf(config, namespace, attached, mark, digests);
  const { name } = manifest.metadata;
  if (config.replace) await removeAndWait(connection, name, undefined, options.signal);
  const { registryAuth, image } = config;
  if (registryAuth !== undefined) {
    const { registry = registryOf(image), username, password } = registryAuth;
    const policy = manifest.spec.imagePullPolicy as 'Always' | 'IfNotPresent' | 'Never';
    await client.images.pull(
      { reference: image, policy, credentials: [{ registry, username, password }] },
      undefined,
      options.signal,
    );
    manifest.spec.imagePullPolicy = 'IfNotPresent';
  }
  // One that nobody needed may have ended since.
  const create = () => client.create(SANDBOX_KIND, namespace, manifest);
  const object = await withDaemon(connection, create, options.signal);
  const { metadata } = object;
  let hold: Hold | undefined;
  try {
    if (attached) hold = await Hold.take(connection, name);
    if (hasOwned(config)) {
      await createOwned(connection, object, config, mark);
      await client.patch(SANDBOX_KIND, namespace, name, { spec: { operatingMode: 'Running' } });
    }
    const sandbox = new Sandbox(connection, await waitReady(connection, name, options), hold);
    await bringScripts(client.files, { namespace, name }, config, options.signal);
    return sandbox;
  } catch (error) {
    hold?.release();
    // The reason counts; the daemon ends what cannot be removed now, as nobody holds it.
    await removeAndWait(connection, name, metadata.uid).catch(() => {});
    throw error;
  }
}

/** The host of a reference, as the registries of images are named. */
function registryOf(image: string): string {
  const [first = '', ...rest] = image.split('/');
  return rest.length > 0 && /[.:]|^localhost$/.test(first) ? first : 'docker.io';
}

async function start(name: string, options: StartOptions, attached: boolean): Promise<Sandbox> {
  const connection = connectionOf(options);
  const { client, namespace } = connection;
  const annotation = attached ? 'Suspend' : null;
  const patch = {
    metadata: { annotations: { [UNHELD_ANNOTATION]: annotation } },
    spec: { operatingMode: 'Running' },
  };
  await withDaemon(connection, () => client.patch(SANDBOX_KIND, namespace, name, patch), options.signal);
  const hold = attached ? await Hold.take(connection, name) : undefined;
  try {
    return new Sandbox(connection, await waitReady(connection, name, options), hold);
  } catch (error) {
    hold?.release();
    throw error;
  }
}

/** A sandbox that was looked up: what it is now, and what can be done with it from outside. */
export class SandboxHandle {
  readonly #connection: Connection;
  readonly #object: StoredObject;

  constructor(connection: Connection, object: StoredObject) {
    this.#connection = connection;
    this.#object = object;
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

  async metrics(): Promise<SandboxMetrics> {
    const { client, namespace } = this.#connection;
    return withTypedErrors(async () => toMetrics(await client.stats(namespace, this.name)).metrics);
  }

  /** Starts it, held by this program. */
  start(options: StartOptions = {}): Promise<Sandbox> {
    return Sandbox.start(this.name, { ...this.#connection, ...options });
  }

  /** Starts it, to live on without this program. */
  startDetached(options: StartOptions = {}): Promise<Sandbox> {
    return Sandbox.startDetached(this.name, { ...this.#connection, ...options });
  }

  /** Uses one that runs; it lives on without this program. */
  async connect(): Promise<Sandbox> {
    return withTypedErrors(async () => {
      const object = await getObject(this.#connection, this.name);
      if (!isTrue(object, 'Ready'))
        throw new BulkheadError(
          'SANDBOX_NOT_RUNNING',
          `sandbox "${this.name}" is ${sandboxStatusOf(object)}`,
        );
      return new Sandbox(this.#connection, object, undefined);
    });
  }

  async stop(): Promise<void> {
    await new Sandbox(this.#connection, this.#object, undefined).stop();
  }

  async kill(): Promise<void> {
    await new Sandbox(this.#connection, this.#object, undefined).kill();
  }

  /** Fails with SandboxStillRunningError while it runs. */
  async remove(): Promise<void> {
    await Sandbox.remove(this.name, this.#connection);
  }
}

/** A running sandbox. */
export class Sandbox {
  readonly #connection: Connection;
  readonly #uid: string;
  readonly #shell: string;
  /** Commands of this program that end later, those that still connect among them. */
  readonly #running = new Set<Promise<void>>();
  #hold: Hold | undefined;
  #mark: CpuMark | undefined;
  #draining = false;
  readonly name: string;

  /** Use the static methods. */
  constructor(connection: Connection, object: StoredObject, hold: Hold | undefined) {
    this.#connection = connection;
    this.#uid = object.metadata.uid;
    this.#shell = object.metadata.annotations?.[SHELL_ANNOTATION] ?? DEFAULT_SHELL;
    this.#hold = hold;
    this.name = object.metadata.name;
  }

  /** Creates a sandbox that ends with this program, also where that is killed. Resolves when it runs. */
  static create(config: SandboxConfig, options: StartOptions = {}): Promise<Sandbox> {
    return withTypedErrors(() => create(config, options, true));
  }

  /** Creates a sandbox that lives on without this program. */
  static createDetached(config: SandboxConfig, options: StartOptions = {}): Promise<Sandbox> {
    return withTypedErrors(() => create(config, options, false));
  }

  /** Starts a stopped sandbox, held by this program. */
  static start(name: string, options: StartOptions = {}): Promise<Sandbox> {
    return withTypedErrors(() => start(name, options, true));
  }

  /** Starts a stopped sandbox, to live on without this program. */
  static startDetached(name: string, options: StartOptions = {}): Promise<Sandbox> {
    return withTypedErrors(() => start(name, options, false));
  }

  static async get(name: string, options: ConnectionOptions = {}): Promise<SandboxHandle> {
    const connection = connectionOf(options);
    return withTypedErrors(async () => {
      const object = await withDaemon(connection, () => getObject(connection, name));
      return new SandboxHandle(connection, object);
    });
  }

  static async list(options: ConnectionOptions & { labelSelector?: string } = {}): Promise<SandboxInfo[]> {
    const connection = connectionOf(options);
    const { client, namespace } = connection;
    const { labelSelector } = options;
    const query = { namespace, ...(labelSelector === undefined ? {} : { labelSelector }) };
    return withTypedErrors(async () => {
      const { items } = await withDaemon(connection, () => client.list(SANDBOX_KIND, query));
      return items.map(infoOf);
    });
  }

  /** Removes a stopped sandbox with its disks. Fails with SandboxStillRunningError while it runs. */
  static async remove(name: string, options: ConnectionOptions = {}): Promise<void> {
    const connection = connectionOf(options);
    await withTypedErrors(async () => {
      const object = await withDaemon(connection, () => getObject(connection, name));
      const status = sandboxStatusOf(object);
      if (status !== 'stopped' && status !== 'crashed') {
        throw new SandboxStillRunningError('CONFLICT', `sandbox "${name}" is ${status}: stop it first`);
      }
      await removeAndWait(connection, name, object.metadata.uid);
    });
  }

  /** Does it end with this program? */
  get ownsLifecycle(): boolean {
    return this.#hold !== undefined;
  }

  // ---- commands

  /** Runs a command to its end. A code other than 0 is no failure of this call. */
  async exec(cmd: string, args: readonly string[] = [], options: ExecOptions = {}): Promise<ExecOutput> {
    return (await this.execStream(cmd, args, options)).collect();
  }

  async execWithConfig(config: ExecConfig): Promise<ExecOutput> {
    const { cmd, args, ...options } = config;
    return this.exec(cmd, args, options);
  }

  /** Runs a command and gives its events as they come. */
  async execStream(
    cmd: string,
    args: readonly string[] = [],
    options: ExecOptions = {},
  ): Promise<ExecHandle> {
    if (this.#draining) throw failure('SANDBOX_NOT_RUNNING', `sandbox "${this.name}" takes no more commands`);
    return this.#follow(startExec(this.#place, [cmd, ...args], options));
  }

  /**
   * Goes on with a command that runs, or has ended unseen: one that this or another program started and let go of, or lost the
   * connection to. Another program that has it is told that it has it no more.
   */
  resumeExec(id: string, options: ResumeExecOptions = {}): Promise<ExecHandle> {
    return this.#follow(resumeExec(this.#place, id, options));
  }

  get #place(): ExecPlace {
    const { client, namespace } = this.#connection;
    const { name } = this;
    return {
      exec: (query) => client.exec(namespace, name, query),
      execResumable: (query) => client.execResumable(namespace, name, query),
      resumeExec: (id, from, seconds) => client.resumeExec(namespace, name, id, from, seconds),
    };
  }

  /** `drain` waits for it. */
  #follow(starting: Promise<ExecHandle>): Promise<ExecHandle> {
    const ended = starting.then(
      (handle) => handle.ended,
      () => {},
    );
    this.#running.add(ended);
    void ended.then(() => this.#running.delete(ended));
    return starting;
  }

  /** Runs a line of the sandbox's shell. */
  shell(script: string, options: ExecOptions = {}): Promise<ExecOutput> {
    return this.exec(this.#shell, ['-c', script], options);
  }

  shellStream(script: string, options: ExecOptions = {}): Promise<ExecHandle> {
    return this.execStream(this.#shell, ['-c', script], options);
  }

  /** Connects this process's terminal to a command. Resolves with its exit code, or 0 after the detach keys. */
  attach(cmd: string, args: readonly string[] = [], options: AttachOptions = {}): Promise<number> {
    return this.attachWithConfig({ cmd, args, ...options });
  }

  async attachWithConfig(config: AttachConfig): Promise<number> {
    const { client, namespace } = this.#connection;
    return withTypedErrors(() =>
      attachTerminal((query, retry) => client.execResumable(namespace, this.name, query, retry), config),
    );
  }

  attachShell(options: AttachOptions = {}): Promise<number> {
    return this.attach(this.#shell, [], options);
  }

  // ---- files, figures, output

  fs(): SandboxFs {
    const { client, namespace } = this.#connection;
    return new SandboxFs(client.files, { namespace, name: this.name });
  }

  async metrics(): Promise<SandboxMetrics> {
    const { client, namespace } = this.#connection;
    return withTypedErrors(async () => {
      const { metrics, mark } = toMetrics(await client.stats(namespace, this.name), this.#mark);
      this.#mark = mark;
      return metrics;
    });
  }

  /** Figures every so many milliseconds until the sandbox ends or the reader stops. Default: 1000. */
  metricsStream(intervalMs = 1000, options: { signal?: AbortSignal } = {}): MetricsStream {
    const { client, namespace } = this.#connection;
    const { name } = this;
    const stop = new AbortController();
    const signal =
      options.signal === undefined ? stop.signal : AbortSignal.any([stop.signal, options.signal]);
    async function* figures(): AsyncGenerator<SandboxMetrics, void> {
      let former: CpuMark | undefined;
      while (!signal.aborted) {
        try {
          const { metrics, mark } = toMetrics(await client.stats(namespace, name), former);
          former = mark;
          yield metrics;
        } catch (error) {
          if (['NOT_FOUND', 'SANDBOX_NOT_RUNNING'].includes(asBulkheadError(error).code)) return;
          throw typed(error);
        }
        await delay(intervalMs, undefined, { signal }).catch(() => {}); // whoever stops it waits for nothing
      }
    }
    return new MetricsStream(figures(), stop);
  }

  /** What the sandbox's own program put out, as bytes; with `follow` as it comes. */
  async *logs(query: LogQuery & { signal?: AbortSignal } = {}): AsyncGenerator<Buffer, void> {
    const { client, namespace } = this.#connection;
    const { signal, ...rest } = query;
    const stream = await withTypedErrors(() => client.logs(namespace, this.name, rest, signal));
    try {
      for await (const piece of stream as AsyncIterable<Buffer>) yield piece;
    } finally {
      stream.destroy();
    }
  }

  // ---- the end

  /** Asks it to stop: its processes get their grace, its disks are kept. Resolves when that is on its way. */
  async stop(): Promise<void> {
    await withTypedErrors(() => this.#suspend({}));
  }

  /** Stops it and resolves with how its own program ended, when the VM is gone. */
  async stopAndWait(options: StopOptions = {}): Promise<ExitStatus> {
    await this.stop();
    return this.wait(options);
  }

  /** Ends it without grace, and resolves when the VM is gone. */
  async kill(options: StopOptions = {}): Promise<void> {
    const { client, namespace } = this.#connection;
    await withTypedErrors(async () => {
      const { spec } = await getObject(this.#connection, this.name);
      const { terminationGracePeriodSeconds } = spec as { terminationGracePeriodSeconds?: number };
      await this.#suspend({ terminationGracePeriodSeconds: 0 });
      await this.#waitEnded(deadline(STOP_TIMEOUT_MS, options.signal));
      // For its next start.
      const patch = { metadata: { uid: this.#uid }, spec: { terminationGracePeriodSeconds } };
      await client.patch(SANDBOX_KIND, namespace, this.name, patch);
    });
  }

  /** Takes no more commands, lets those of this program end, then stops it. */
  async drain(): Promise<void> {
    this.#draining = true;
    await Promise.all(this.#running);
    await this.stop();
  }

  /** Resolves with how its own program ended, when the VM is gone. */
  async wait(options: StopOptions = {}): Promise<ExitStatus> {
    return withTypedErrors(async () => exitOf(await this.#waitEnded(options.signal ?? NEVER)));
  }

  /** Lets it live on without this program. */
  async detach(): Promise<void> {
    const hold = this.#hold;
    if (hold === undefined) return;
    const { client, namespace } = this.#connection;
    const patch = { metadata: { uid: this.#uid, annotations: { [UNHELD_ANNOTATION]: null } } };
    await withTypedErrors(() => client.patch(SANDBOX_KIND, namespace, this.name, patch));
    this.#hold = undefined;
    hold.release();
  }

  /** Ends it and removes its disks; resolves when nothing of it is left. */
  async removePersisted(options: StopOptions = {}): Promise<void> {
    await withTypedErrors(() => removeAndWait(this.#connection, this.name, this.#uid, options.signal));
    this.#hold?.release();
    this.#hold = undefined;
  }

  /** `await using`: an attached sandbox is removed, any other one is left as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.ownsLifecycle) await this.removePersisted();
  }

  async #suspend(spec: Record<string, unknown>): Promise<void> {
    const { client, namespace } = this.#connection;
    const patch = {
      metadata: { uid: this.#uid, annotations: { [UNHELD_ANNOTATION]: null } },
      spec: { operatingMode: 'Suspended', ...spec },
    };
    await client.patch(SANDBOX_KIND, namespace, this.name, patch);
    this.#hold?.release();
    this.#hold = undefined;
  }

  #waitEnded(signal: AbortSignal): Promise<StoredObject | undefined> {
    return waitUntil(
      this.#connection,
      this.name,
      (object) =>
        object === undefined ||
        object.metadata.uid !== this.#uid ||
        isTrue(object, 'Finished') ||
        isTrue(object, 'Suspended'),
      signal,
    );
  }
}

/** Figures of every running sandbox, by name. */
export async function allSandboxMetrics(
  options: ConnectionOptions = {},
): Promise<Record<string, SandboxMetrics>> {
  const { client, namespace } = connectionOf(options);
  const running = (await Sandbox.list(options)).filter(({ status }) => status === 'running');
  const figures = await Promise.all(
    running.map(async ({ name }) => {
      try {
        return [[name, toMetrics(await client.stats(namespace, name)).metrics] as const];
      } catch (error) {
        // It ended meanwhile.
        if (['NOT_FOUND', 'SANDBOX_NOT_RUNNING', 'AGENT_UNREACHABLE'].includes(asBulkheadError(error).code))
          return [];
        throw typed(error);
      }
    }),
  );
  return Object.fromEntries(figures.flat());
}
