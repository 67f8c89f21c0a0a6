// The supervised connection to the agent of one VM.
import type { Duplex } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import type {
  AgentHello,
  Delivered,
  ExecRequest,
  GuestAgent,
  GuestFiles,
  GuestProcess,
  GuestStats,
  GuestVolume,
  GuestVolumeFile,
  GuestVolumeMount,
  Personality,
  RootMount,
} from './agent.ts';
import { type GuestClock, systemClock } from './clock.ts';
import { Connection, SilenceError } from './connection.ts';
import { dialGuest } from './dial.ts';
import { SessionFiles } from './files.ts';
import { protocolError } from './frames.ts';
import { PING_TIMEOUT_MS, startHeartbeat } from './heartbeat.ts';
import {
  CLOCK_SKEW_MAX_MS,
  FILLER_AFTER_SILENCES,
  FIRST_HELLO_TIMEOUT_MS,
  HELLO_TIMEOUT_MS,
  MOUNT_TIMEOUT_MS,
  REDIAL_GROWTH,
  REDIAL_MAX_MS,
  REDIAL_MIN_MS,
  SHUTDOWN_EXTRA_MS,
} from './limits.ts';
import { toAgentHello, toExec, toGuestStats, toPersonalize } from './messages.ts';
import { Requests } from './requests.ts';
import { Sessions } from './sessions.ts';
import { signalNumber } from './signals.ts';
import { toMountVolumes, toVolumeFiles } from './volumes.ts';

export interface ConnectOptions {
  /** Gives up connecting. Once connected it has no meaning: `close` ends the host side then. */
  signal?: AbortSignal;
  /** The longest wait for a hello on one connection; the first attempts wait less. */
  helloTimeoutMs?: number;
  clock?: GuestClock;
}

/**
 * Connects to the agent and keeps connected. Dials until the guest answers, the signal aborts, or `dial` rejects with
 * SANDBOX_NOT_RUNNING, which says that the VM is gone: then every process and request fails and dialling ends.
 * Throws AGENT_PROTOCOL when what answers is no agent of this protocol, AGENT_UNREACHABLE when the signal aborts.
 */
export async function connectGuest(
  dial: (signal: AbortSignal) => Promise<Duplex>,
  options: ConnectOptions = {},
): Promise<GuestAgent> {
  const client = new GuestClient(dial, options);
  await client.connect();
  return client;
}

class GuestClient implements GuestAgent {
  readonly #dial: (signal: AbortSignal) => Promise<Duplex>;
  readonly #clock: GuestClock;
  readonly #helloTimeoutMs: number;
  readonly #abort = new AbortController();
  readonly #outerSignal: AbortSignal | undefined;
  readonly #listeners = new Set<(connected: boolean) => void>();
  readonly #requests: Requests;
  readonly #sessions: Sessions;
  /** Boot ids that this host gave the guest; any other that is new belongs to another guest. */
  readonly #acceptedBootIds = new Set<string>();
  readonly files: GuestFiles;
  #hello: AgentHello | undefined;
  #connection: Connection | undefined;
  #connected = false;
  #failure: BulkheadError | undefined;
  #stopHeartbeat: () => void = () => {};

  constructor(dial: (signal: AbortSignal) => Promise<Duplex>, options: ConnectOptions) {
    this.#dial = dial;
    this.#clock = options.clock ?? systemClock;
    this.#helloTimeoutMs = options.helloTimeoutMs ?? HELLO_TIMEOUT_MS;
    this.#requests = new Requests(this.#clock, (error) => this.#end(error));
    this.#sessions = new Sessions(this.#requests);
    this.files = new SessionFiles(this.#sessions, () => this.hello.features);
    this.#outerSignal = options.signal;
    this.#outerSignal?.addEventListener('abort', this.#onAbort, { once: true });
    if (this.#outerSignal?.aborted) this.#onAbort();
  }

  readonly #onAbort = (): void =>
    this.#end(new BulkheadError('AGENT_UNREACHABLE', 'the connection to the guest was given up'));

  get hello(): AgentHello {
    if (!this.#hello) throw new BulkheadError('AGENT_UNREACHABLE', 'the guest has not answered yet');
    return this.#hello;
  }
  get connected(): boolean {
    return this.#connected;
  }
  onConnectionChange(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // ---- requests

  async mountRoot(root: RootMount, signal?: AbortSignal): Promise<void> {
    await this.#requests.ask({ case: 'mountRoot', value: root }, { timeoutMs: MOUNT_TIMEOUT_MS, signal });
    if (this.#hello) this.#hello = { ...this.#hello, rootMounted: true };
  }

  async personalize(personality: Personality, signal?: AbortSignal): Promise<void> {
    const value = toPersonalize(personality, this.#clock.now());
    // Known before it is sent: should the answer be lost, the next hello already carries it.
    const former = this.hello.bootId;
    this.#acceptedBootIds.add(value.bootId);
    try {
      await this.#requests.ask({ case: 'personalize', value }, { signal });
    } catch (error) {
      if (this.#hello?.bootId === former) this.#acceptedBootIds.delete(value.bootId);
      throw error;
    }
    if (this.#hello) this.#hello = { ...this.#hello, bootId: value.bootId, personalized: true };
  }

  async mountVolumes(
    volumes: readonly GuestVolume[],
    mounts: readonly GuestVolumeMount[],
    signal?: AbortSignal,
  ): Promise<void> {
    const value = toMountVolumes(volumes, mounts);
    await this.#requests.ask({ case: 'mountVolumes', value }, { timeoutMs: MOUNT_TIMEOUT_MS, signal });
  }

  async writeVolumeFiles(
    volume: string,
    files: readonly GuestVolumeFile[],
    signal?: AbortSignal,
  ): Promise<void> {
    for (const value of toVolumeFiles(volume, files)) {
      // A part that came twice would be there twice: what failed is written anew from its first part on.
      await this.#requests.ask({ case: 'writeVolumeFiles', value }, { resend: false, signal });
    }
  }

  async setClock(): Promise<void> {
    if (!this.#connected || this.hello.timeMs === undefined) return;
    // Not asked again on another connection: the time would be an old one then.
    const timeMs = BigInt(Math.round(this.#clock.now()));
    await this.#requests.ask({ case: 'setClock', value: { timeMs } }, { resend: false });
  }

  async freezeRoot(deadlineMs: number, signal?: AbortSignal): Promise<void> {
    // Not asked again on another connection: nobody knows how long it would be frozen then.
    const body = { case: 'freezeRoot', value: { deadlineMs } } as const;
    await this.#requests.ask(body, { resend: false, ...(signal === undefined ? {} : { signal }) });
  }

  async thawRoot(signal?: AbortSignal): Promise<void> {
    const body = { case: 'thawRoot', value: {} } as const;
    await this.#requests.ask(body, { resend: false, ...(signal === undefined ? {} : { signal }) });
  }

  exec(request: ExecRequest, signal?: AbortSignal): Promise<GuestProcess> {
    return this.#sessions.start(
      request.sessionId,
      { case: 'exec', value: toExec(request) },
      { stdin: request.stdin || request.tty !== undefined, delivered: request.delivered },
      signal,
    );
  }

  attach(
    sessionId: string,
    from: { stdout: number; stderr: number },
    delivered?: Delivered,
  ): Promise<GuestProcess> {
    return this.#sessions.attach(sessionId, from, delivered);
  }

  async endSession(sessionId: string): Promise<void> {
    await this.#sessions.end(sessionId);
  }

  dial(target: { address: string; port: number }, signal?: AbortSignal): Promise<Duplex> {
    return dialGuest(this.#sessions, this.hello.features, target, signal);
  }

  async stats(signal?: AbortSignal): Promise<GuestStats> {
    const answer = await this.#requests.ask({ case: 'getStats', value: {} }, { expect: 'stats', signal });
    if (answer.case !== 'stats') throw protocolError('statistics without figures');
    return toGuestStats(answer.value);
  }

  async shutdown(options: { graceMs: number; signal?: string }): Promise<void> {
    await this.#requests.ask(
      {
        case: 'shutdown',
        value: {
          graceMs: Math.max(0, Math.round(options.graceMs)),
          signal: signalNumber(options.signal ?? 'SIGTERM'),
        },
      },
      { timeoutMs: options.graceMs + SHUTDOWN_EXTRA_MS },
    );
    // All is on the disks; the guest reboots by itself should this be lost.
    this.#requests.post({ case: 'reboot', value: {} });
  }

  close(reason?: BulkheadError): Promise<void> {
    this.#end(
      reason ?? new BulkheadError('AGENT_UNREACHABLE', 'the connection to the guest was closed by this side'),
    );
    return Promise.resolve();
  }

  // ---- the connection

  /** Dials until a guest answers. Throws only when there is no use in going on. */
  async connect(): Promise<void> {
    let pause = REDIAL_MIN_MS;
    let silences = 0;
    while (!this.#failure) {
      try {
        await this.#tryOnce(silences);
        this.#outerSignal?.removeEventListener('abort', this.#onAbort);
        return;
      } catch (error) {
        if (error instanceof SilenceError) silences++;
        if (isFinal(error)) this.#end(error);
        else await this.#pause(pause);
        pause = Math.min(pause * REDIAL_GROWTH, REDIAL_MAX_MS);
      }
    }
    throw this.#failure;
  }

  /** `silences`: how many hellos were not answered before. */
  async #tryOnce(silences: number): Promise<void> {
    const duplex = await this.#dial(this.#abort.signal);
    const askedAt = this.#clock.now();
    const { connection, hello } = await Connection.open(duplex, {
      timeoutMs: Math.min(FIRST_HELLO_TIMEOUT_MS * 2 ** silences, this.#helloTimeoutMs),
      filler: silences >= FILLER_AFTER_SILENCES,
      clock: this.#clock,
      signal: this.#abort.signal,
    });
    if (this.#failure) {
      connection.close();
      throw this.#failure;
    }
    connection.listen({
      onMessage: (message) =>
        message.requestId === 0n ? this.#sessions.deliver(message.body) : this.#requests.answered(message),
      onWritable: () => this.#sessions.wake(),
      onClose: (error) => this.#disconnected(connection, error),
    });
    this.#connection = connection;
    try {
      this.#resume(toAgentHello(hello));
    } catch (error) {
      this.#connection = undefined;
      connection.close();
      throw error;
    }
    this.#requests.connected(connection);
    this.#setConnected(true);
    this.#sessions.wake();
    // Should it fail, the guest goes on with the clock it has; the next hello is another chance.
    if (this.#isClockOff(askedAt)) this.setClock().catch(() => {});
    this.#stopHeartbeat = startHeartbeat(
      this.#clock,
      () => this.#requests.ask({ case: 'ping', value: {} }, { resend: false, timeoutMs: PING_TIMEOUT_MS }),
      () => connection.close(),
    );
  }

  /** A guest that is nobody yet is given its time with its name. The guest read its clock after `askedAt`. */
  #isClockOff(askedAt: number): boolean {
    const { personalized, timeMs } = this.hello;
    if (!personalized || timeMs === undefined) return false;
    return timeMs < askedAt - CLOCK_SKEW_MAX_MS || timeMs > this.#clock.now() + CLOCK_SKEW_MAX_MS;
  }

  /** Takes up every session where it was. */
  #resume(hello: AgentHello): void {
    const former = this.#hello;
    this.#hello = hello;
    if (former && hello.bootId !== former.bootId && !this.#acceptedBootIds.has(hello.bootId)) {
      const error = new BulkheadError('AGENT_UNREACHABLE', 'another guest answers than before');
      this.#sessions.fail(error);
      this.#requests.fail(error);
    }
    this.#sessions.resume(new Set(hello.sessions.map((session) => session.sessionId)));
  }

  #disconnected(connection: Connection, error: BulkheadError): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#stopHeartbeat();
    this.#sessions.detach();
    if (error.code === 'AGENT_PROTOCOL') {
      this.#end(error);
      return;
    }
    this.#requests.disconnected(error.message);
    this.#setConnected(false);
    // Its failure has told everyone already.
    this.connect().catch(() => {});
  }

  #setConnected(connected: boolean): void {
    if (this.#connected === connected) return;
    this.#connected = connected;
    for (const listener of [...this.#listeners]) listener(connected);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#abort.signal.aborted) {
        resolve();
        return;
      }
      const finish = (): void => {
        cancel();
        this.#abort.signal.removeEventListener('abort', finish);
        resolve();
      };
      const cancel = this.#clock.after(ms, finish);
      this.#abort.signal.addEventListener('abort', finish);
    });
  }

  /** The host side ends here, for this reason; the guest, if there is one, goes on. */
  #end(error: BulkheadError): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#outerSignal?.removeEventListener('abort', this.#onAbort);
    this.#stopHeartbeat();
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close();
    this.#abort.abort(error);
    this.#requests.end(error);
    this.#sessions.fail(error);
    this.#setConnected(false);
  }
}

function isFinal(error: unknown): error is BulkheadError {
  return (
    error instanceof BulkheadError &&
    (error.code === 'AGENT_PROTOCOL' || error.code === 'SANDBOX_NOT_RUNNING')
  );
}
