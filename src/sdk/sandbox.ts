// A microVM, from a program: created or found, used, and ended.
import type { Duplex } from 'node:stream';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { LogQuery } from '../api/wire.ts';
import type { AttachConfig, AttachOptions } from './attach.ts';
import { Commands } from './commands.ts';
import { type SandboxConfig, SHELL_ANNOTATION } from './config.ts';
import { type CallOptions, type Connection, connectionOf, type WaitOptions } from './connection.ts';
import { withDaemon } from './daemon.ts';
import { withTypedErrors } from './errors.ts';
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
import type { Hold } from './hold.ts';
import {
  createSandbox,
  killSandbox,
  letGo,
  removeSandbox,
  removeStopped,
  type Started,
  type StartOptions,
  startSandbox,
  suspendSandbox,
  waitEnded,
} from './lifecycle.ts';
import { type CpuMark, MetricsStream, type SandboxMetrics, toMetrics } from './metrics.ts';
import { exitOf, infoOf, type SandboxInfo } from './objects.ts';
import { connectPort, type ForwardedPort, type ForwardPortOptions, forwardPort } from './ports.ts';
import { SandboxHandle } from './sandbox-handle.ts';

const DEFAULT_SHELL = '/bin/sh';
/** For those who wait however long it takes. */
const NEVER = new AbortController().signal;

/** A running sandbox. */
export class Sandbox {
  readonly #connection: Connection;
  readonly #uid: string;
  readonly #shell: string;
  readonly #commands = new Commands();
  #hold: Hold | undefined;
  #mark: CpuMark | undefined;
  readonly name: string;

  /** Use the static methods. */
  constructor({ connection, object, hold }: Started) {
    this.#connection = connection;
    this.#uid = object.metadata.uid;
    this.#shell = object.metadata.annotations?.[SHELL_ANNOTATION] ?? DEFAULT_SHELL;
    this.#hold = hold;
    this.name = object.metadata.name;
  }

  /** Creates a sandbox that ends with this program, also where that is killed. Resolves when it runs. */
  static create(config: SandboxConfig, options: StartOptions = {}): Promise<Sandbox> {
    return withTypedErrors(async () => new Sandbox(await createSandbox(config, options, true)));
  }

  /** Creates a sandbox that lives on without this program. */
  static createDetached(config: SandboxConfig, options: StartOptions = {}): Promise<Sandbox> {
    return withTypedErrors(async () => new Sandbox(await createSandbox(config, options, false)));
  }

  /** Starts a stopped sandbox, held by this program. */
  static start(name: string, options: StartOptions = {}): Promise<Sandbox> {
    return withTypedErrors(async () => new Sandbox(await startSandbox(name, options, true)));
  }

  /** Starts a stopped sandbox, to live on without this program. */
  static startDetached(name: string, options: StartOptions = {}): Promise<Sandbox> {
    return withTypedErrors(async () => new Sandbox(await startSandbox(name, options, false)));
  }

  static async get(name: string, options: CallOptions = {}): Promise<SandboxHandle> {
    const connection = await withTypedErrors(() => connectionOf(options));
    return withTypedErrors(async () => {
      const { client, namespace } = connection;
      const get = () => client.get(SANDBOX_KIND, namespace, name, options.signal);
      const object = await withDaemon(connection, get, options.signal);
      return new SandboxHandle(connection, object, openSandbox);
    });
  }

  static async list(options: CallOptions & { labelSelector?: string } = {}): Promise<SandboxInfo[]> {
    const connection = await withTypedErrors(() => connectionOf(options));
    const { client, namespace } = connection;
    const { labelSelector, signal } = options;
    const query = {
      namespace,
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(signal === undefined ? {} : { signal }),
    };
    return withTypedErrors(async () => {
      const { items } = await withDaemon(connection, () => client.list(SANDBOX_KIND, query), signal);
      return items.map(infoOf);
    });
  }

  /** Removes a stopped sandbox with its disks. Fails with SandboxStillRunningError while it runs. */
  static async remove(name: string, options: CallOptions = {}): Promise<void> {
    const connection = await withTypedErrors(() => connectionOf(options));
    await withTypedErrors(async () => {
      const remove = () => removeStopped(connection, name, options.signal);
      await withDaemon(connection, remove, options.signal);
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
    return this.#commands.run(() => startExec(this.#place, [cmd, ...args], options));
  }

  /**
   * Goes on with a command that runs, or has ended unseen: one that this or another program started and let go of, or lost the
   * connection to. Another program that has it is told that it has it no more.
   */
  resumeExec(id: string, options: ResumeExecOptions = {}): Promise<ExecHandle> {
    return this.#commands.follow(resumeExec(this.#place, id, options));
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
    // What few programs use is loaded by those that do.
    const { attachTerminal } = await import('./attach.ts');
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

  async metrics(options: WaitOptions = {}): Promise<SandboxMetrics> {
    const { client, namespace } = this.#connection;
    return withTypedErrors(async () => {
      const { metrics, mark } = toMetrics(
        await client.stats(namespace, this.name, options.signal),
        this.#mark,
      );
      this.#mark = mark;
      return metrics;
    });
  }

  /** Figures every so many milliseconds until the sandbox ends or the reader stops. Default: 1000. */
  metricsStream(intervalMs = 1000, options: WaitOptions = {}): MetricsStream {
    return MetricsStream.open(this.#connection, this.name, intervalMs, options.signal);
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

  // ---- ports

  /** Listens on a port of this machine; what connects there reaches this port of the sandbox. */
  forwardPort(port: number, options: ForwardPortOptions = {}): Promise<ForwardedPort> {
    return forwardPort(this.#connection, this.name, port, options);
  }

  /**
   * Connects to a TCP port of the sandbox. Rejects with code PORT_UNREACHABLE where nothing takes it. The stream ends when the
   * other side does.
   */
  connectPort(port: number): Promise<Duplex> {
    return connectPort(this.#connection, this.name, port);
  }

  // ---- the end

  /** Asks it to stop: its processes get their grace, its disks are kept. Resolves when that is on its way. */
  async stop(options: WaitOptions = {}): Promise<void> {
    await withTypedErrors(() => suspendSandbox(this.#connection, this.name, this.#uid, options));
    this.#release();
  }

  /** Stops it and resolves with how its own program ended, when the VM is gone. */
  async stopAndWait(options: WaitOptions = {}): Promise<ExitStatus> {
    await this.stop(options);
    return this.wait(options);
  }

  /** Ends it without grace, and resolves when the VM is gone. */
  async kill(options: WaitOptions = {}): Promise<void> {
    await withTypedErrors(() => killSandbox(this.#connection, this.name, this.#uid, options.signal));
    this.#release();
  }

  /** Takes no more commands, lets those of this program end, then stops it. */
  async drain(): Promise<void> {
    await this.#commands.drain();
    await this.stop();
  }

  /** Resolves with how its own program ended, when the VM is gone. */
  async wait(options: WaitOptions = {}): Promise<ExitStatus> {
    return withTypedErrors(async () =>
      exitOf(await waitEnded(this.#connection, this.name, this.#uid, options.signal ?? NEVER)),
    );
  }

  /** Lets it live on without this program. */
  async detach(options: WaitOptions = {}): Promise<void> {
    if (this.#hold === undefined) return;
    await withTypedErrors(() => letGo(this.#connection, this.name, this.#uid, options.signal));
    this.#release();
  }

  /** Ends it and removes its disks; resolves when nothing of it is left. */
  async removePersisted(options: WaitOptions = {}): Promise<void> {
    await withTypedErrors(() => removeSandbox(this.#connection, this.name, this.#uid, options.signal));
    this.#release();
  }

  /** `await using`: an attached sandbox is removed, any other one is left as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.ownsLifecycle) await this.removePersisted();
  }

  #release(): void {
    this.#hold?.release();
    this.#hold = undefined;
  }
}

function openSandbox(started: Started): Sandbox {
  return new Sandbox(started);
}
