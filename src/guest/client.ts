// The supervised connection to the agent of one VM.
import { randomInt } from 'node:crypto';
import type { Duplex, Readable } from 'node:stream';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import type {
  AgentHello,
  ExecRequest,
  GuestAgent,
  GuestProcess,
  GuestStats,
  Personality,
  RootMount,
} from './agent.ts';
import { type GuestClock, systemClock } from './clock.ts';
import { Connection, type HostBody } from './connection.ts';
import { readGuestFile, writeGuestFile } from './files.ts';
import { protocolError } from './frames.ts';
import type { GuestMessage } from './generated/agent_pb.js';
import {
  FILLER_FROM_ATTEMPT,
  FIRST_HELLO_TIMEOUT_MS,
  HELLO_TIMEOUT_MS,
  MAX_ABANDONED_REQUESTS,
  MOUNT_TIMEOUT_MS,
  PING_INTERVAL_MS,
  PING_MISSES,
  REDIAL_MAX_MS,
  REDIAL_MIN_MS,
  REQUEST_TIMEOUT_MS,
  SHUTDOWN_EXTRA_MS,
} from './limits.ts';
import {
  checkSessionId,
  MAIN_SESSION,
  toAgentHello,
  toError,
  toExec,
  toGuestStats,
  toPersonalize,
} from './messages.ts';
import { GuestProcessImpl, type ProcessLink, sessionLost } from './process.ts';
import { signalNumber } from './signals.ts';

type Answer = GuestMessage['body'];
type AnswerCase = NonNullable<Answer['case']>;

interface Pending {
  id: number;
  body: HostBody;
  expect: AnswerCase;
  /** May be asked again on another connection when the answer was lost. */
  resend: boolean;
  sent: boolean;
  /** In the turn of the answer itself: the messages behind it may depend on it. What it throws ends the connection. */
  onAnswer: ((answer: Answer) => void) | undefined;
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
  stop: () => void;
}

interface RequestOptions {
  expect?: AnswerCase;
  timeoutMs?: number;
  resend?: boolean;
  onAnswer?: (answer: Answer) => void;
  signal?: AbortSignal | undefined;
}

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

class GuestClient implements GuestAgent, ProcessLink {
  readonly #dial: (signal: AbortSignal) => Promise<Duplex>;
  readonly #clock: GuestClock;
  readonly #helloTimeoutMs: number;
  readonly #abort = new AbortController();
  readonly #outerSignal: AbortSignal | undefined;
  readonly #listeners = new Set<(connected: boolean) => void>();
  readonly #processes = new Map<string, GuestProcessImpl>();
  readonly #pending = new Map<number, Pending>();
  /** Answers that may still come to requests which nobody waits for any more. */
  readonly #abandoned = new Set<number>();
  // Answers meant for a host that died must not fit requests of ours.
  #nextId = randomInt(1, 2 ** 46);
  #hello: AgentHello | undefined;
  #connection: Connection | undefined;
  #connected = false;
  #failure: BulkheadError | undefined;
  #stopPing: () => void = () => {};
  #turn = 0;

  constructor(dial: (signal: AbortSignal) => Promise<Duplex>, options: ConnectOptions) {
    this.#dial = dial;
    this.#clock = options.clock ?? systemClock;
    this.#helloTimeoutMs = options.helloTimeoutMs ?? HELLO_TIMEOUT_MS;
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
    await this.#request({ case: 'mountRoot', value: root }, { timeoutMs: MOUNT_TIMEOUT_MS, signal });
    if (this.#hello) this.#hello = { ...this.#hello, rootMounted: true };
  }

  async personalize(personality: Personality, signal?: AbortSignal): Promise<void> {
    const value = toPersonalize(personality, this.#clock.now());
    // Known before it is sent: should the answer be lost, the next hello already carries it.
    const former = this.hello.bootId;
    this.#acceptedBootIds.add(value.bootId);
    try {
      await this.#request({ case: 'personalize', value }, { signal });
    } catch (error) {
      if (this.#hello?.bootId === former) this.#acceptedBootIds.delete(value.bootId);
      throw error;
    }
    if (this.#hello) this.#hello = { ...this.#hello, bootId: value.bootId, personalized: true };
  }

  readonly #acceptedBootIds = new Set<string>();

  async exec(request: ExecRequest, signal?: AbortSignal): Promise<GuestProcess> {
    return this.startSession(
      request.sessionId,
      { case: 'exec', value: toExec(request) },
      request.stdin || request.tty !== undefined,
      signal,
    );
  }

  /** Starts a session by any of the requests that do (Exec, ReadFile, WriteFile). */
  async startSession(
    sessionId: string,
    body: HostBody,
    stdin: boolean,
    signal?: AbortSignal,
  ): Promise<GuestProcess> {
    checkSessionId(sessionId);
    if (this.#processes.has(sessionId)) {
      throw new BulkheadError('ALREADY_EXISTS', `there is a session ${sessionId} already`);
    }
    const process = new GuestProcessImpl(this, sessionId, { stdin });
    this.#processes.set(sessionId, process);
    try {
      await this.#request(body, {
        expect: 'started',
        onAnswer: (answer) => process.onAnswer(answer),
        signal,
      });
      return process;
    } catch (error) {
      if (isRefusal(error)) process.finish();
      else void process.release().catch(() => {});
      throw error;
    }
  }

  async attach(sessionId: string, from: { stdout: number; stderr: number }): Promise<GuestProcess> {
    checkSessionId(sessionId);
    if (this.#processes.has(sessionId)) {
      throw new BulkheadError('ALREADY_EXISTS', `session ${sessionId} is attached already`);
    }
    // Whether it has a stdin is known by the guest alone; one that was closed merely takes nothing.
    const process = new GuestProcessImpl(this, sessionId, { stdin: true, from, adopted: true });
    this.#processes.set(sessionId, process);
    try {
      await this.#request(process.attachRequest(), {
        expect: 'attached',
        onAnswer: (answer) => process.onAnswer(answer),
      });
      return process;
    } catch (error) {
      process.fail(error instanceof BulkheadError ? error : sessionLost(sessionId));
      throw error;
    }
  }

  async stats(signal?: AbortSignal): Promise<GuestStats> {
    const answer = await this.#request({ case: 'getStats', value: {} }, { expect: 'stats', signal });
    if (answer.case !== 'stats') throw protocolError('statistics without figures');
    return toGuestStats(answer.value);
  }

  readFile(path: string, signal?: AbortSignal): Promise<Readable> {
    return readGuestFile(this, path, signal);
  }

  writeFile(
    path: string,
    content: AsyncIterable<Uint8Array>,
    options: { mode: number; user?: string },
    signal?: AbortSignal,
  ): Promise<void> {
    return writeGuestFile(this, path, content, options, signal);
  }

  async bindDisks(devices: string[], signal?: AbortSignal): Promise<void> {
    await this.#request({ case: 'bindDisks', value: { devices } }, { resend: false, signal });
  }

  async unbindDisks(devices: string[], signal?: AbortSignal): Promise<void> {
    await this.#request({ case: 'unbindDisks', value: { devices } }, { resend: false, signal });
  }

  async shutdown(options: { graceMs: number; signal?: string }): Promise<void> {
    await this.#request(
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
    this.post({ case: 'reboot', value: {} });
  }

  close(): Promise<void> {
    this.#end(new BulkheadError('AGENT_UNREACHABLE', 'the connection to the guest was closed by this side'));
    return Promise.resolve();
  }

  // ---- for processes

  post(body: HostBody): void {
    this.#connection?.send(0, body);
  }

  ask(body: HostBody, options: { resend?: boolean } = {}): Promise<unknown> {
    return this.#request(body, options);
  }

  forget(sessionId: string): void {
    this.#processes.delete(sessionId);
  }

  /** Sends stdin while the channel takes it, one chunk per process in turn. */
  wake(): void {
    let idle = 0;
    while (this.#connection?.writable && idle < this.#processes.size) {
      const waiting = [...this.#processes.values()];
      const process = waiting[this.#turn++ % waiting.length];
      const step = process?.attached ? process.input?.next() : undefined;
      if (!process || !step) {
        idle++;
        continue;
      }
      idle = 0;
      const head = { sessionId: process.sessionId, offset: BigInt(step.offset) };
      if (step.kind === 'data') this.post({ case: 'stdinData', value: { ...head, data: step.data } });
      else this.post({ case: 'stdinEnd', value: head });
    }
  }

  #request(body: HostBody, options: RequestOptions): Promise<Answer> {
    const { signal } = options;
    const timeoutMs = options.timeoutMs ?? REQUEST_TIMEOUT_MS;
    return new Promise<Answer>((resolve, reject) => {
      if (this.#failure) {
        reject(this.#failure);
        return;
      }
      const id = this.#nextId++;
      const giveUp = (code: ErrorCode, message: string): void => {
        if (!this.#pending.delete(id)) return;
        pending.stop();
        if (pending.sent && this.#connection) this.#abandon(id);
        reject(new BulkheadError(code, message));
      };
      const cancel = this.#clock.after(timeoutMs, () =>
        giveUp(
          this.#connected ? 'TIMEOUT' : 'AGENT_UNREACHABLE',
          `the guest did not answer ${body?.case} within ${timeoutMs} ms`,
        ),
      );
      const onAbort = (): void =>
        giveUp('TIMEOUT', `waiting for the guest's answer to ${body?.case} was given up`);
      const pending: Pending = {
        id,
        body,
        expect: options.expect ?? 'done',
        resend: options.resend ?? true,
        sent: false,
        onAnswer: options.onAnswer,
        resolve,
        reject,
        stop: () => {
          cancel();
          signal?.removeEventListener('abort', onAbort);
        },
      };
      this.#pending.set(id, pending);
      signal?.addEventListener('abort', onAbort);
      if (signal?.aborted) onAbort();
      else if (this.#connected) this.#transmit(pending);
    });
  }

  #transmit(pending: Pending): void {
    try {
      pending.sent = true; // first: the answer may come in this very turn
      this.#connection?.send(pending.id, pending.body);
    } catch (error) {
      this.#pending.delete(pending.id);
      pending.stop();
      pending.reject(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #abandon(id: number): void {
    this.#abandoned.add(id);
    if (this.#abandoned.size > MAX_ABANDONED_REQUESTS) {
      this.#end(
        new BulkheadError('AGENT_UNREACHABLE', 'the guest leaves too many requests without an answer'),
      );
    }
  }

  // ---- the connection

  /** Dials until a guest answers. Throws only when there is no use in going on. */
  async connect(): Promise<void> {
    let pause = REDIAL_MIN_MS;
    for (let attempt = 1; !this.#failure; attempt++) {
      try {
        await this.#tryOnce(attempt);
        this.#outerSignal?.removeEventListener('abort', this.#onAbort);
        return;
      } catch (error) {
        if (isFinal(error)) this.#end(error);
        else await this.#pause(pause);
        pause = Math.min(pause * 2, REDIAL_MAX_MS);
      }
    }
    throw this.#failure;
  }

  async #tryOnce(attempt: number): Promise<void> {
    const duplex = await this.#dial(this.#abort.signal);
    const { connection, hello } = await Connection.open(duplex, {
      timeoutMs: Math.min(FIRST_HELLO_TIMEOUT_MS * 2 ** (attempt - 1), this.#helloTimeoutMs),
      filler: attempt >= FILLER_FROM_ATTEMPT,
      clock: this.#clock,
      signal: this.#abort.signal,
    });
    if (this.#failure) {
      connection.close();
      throw this.#failure;
    }
    connection.listen({
      onMessage: (message) => this.#receive(message),
      onWritable: () => this.wake(),
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
    this.#setConnected(true);
    for (const pending of this.#pending.values()) if (!pending.sent) this.#transmit(pending);
    this.wake();
    this.#schedulePing();
  }

  /** Takes up every session where it was. */
  #resume(hello: AgentHello): void {
    const former = this.#hello;
    this.#hello = hello;
    if (former && hello.bootId !== former.bootId && !this.#acceptedBootIds.has(hello.bootId)) {
      const error = new BulkheadError('AGENT_UNREACHABLE', 'another guest answers than before');
      for (const process of [...this.#processes.values()]) process.fail(error);
      this.#dropPending(error);
    }
    const known = new Set(hello.sessions.map((session) => session.sessionId));
    for (const process of [...this.#processes.values()]) {
      if (known.has(process.sessionId)) this.#reattach(process);
      else if (process.state === 'releasing') process.finish();
      else if (process.state === 'live') process.fail(sessionLost(process.sessionId));
    }
  }

  #reattach(process: GuestProcessImpl): void {
    if (process.complete || process.state === 'releasing') return;
    for (const pending of this.#pending.values()) {
      // Its start arrived, though the answer did not: the attach answers it.
      if (pending.expect === 'started' && sessionOf(pending.body) === process.sessionId) {
        pending.body = process.attachRequest();
        pending.expect = 'attached';
        return;
      }
      if (pending.expect === 'attached' && sessionOf(pending.body) === process.sessionId) return;
    }
    this.#request(process.attachRequest(), {
      expect: 'attached',
      resend: false,
      onAnswer: (answer) => process.onAnswer(answer),
    }).catch((error: unknown) => {
      // On yet another connection it is taken up again; without one the client's end tells it.
      if (isRefusal(error)) process.fail(sessionLost(process.sessionId));
    });
  }

  #receive(message: GuestMessage): void {
    const { body } = message;
    if (message.requestId === 0n) {
      const session = sessionOf(body);
      const process = session === undefined ? undefined : this.#processes.get(session);
      if (!process) throw protocolError('a message for no session of this host');
      process.onMessage(body);
      return;
    }
    const id = Number(message.requestId);
    const pending = this.#pending.get(id);
    if (!pending?.sent) {
      if (!this.#abandoned.delete(id)) throw protocolError('an answer that nobody waits for');
      return;
    }
    this.#pending.delete(id);
    pending.stop();
    if (body.case === 'failure') {
      pending.reject(new RefusedError(toError(body.value)));
    } else if (body.case === pending.expect) {
      try {
        pending.onAnswer?.(body);
      } catch (error) {
        pending.reject(error instanceof Error ? error : new Error(String(error)));
        throw error;
      }
      pending.resolve(body);
    } else {
      const error = protocolError(`${body.case} as the answer to ${pending.body?.case}`);
      pending.reject(error);
      throw error;
    }
  }

  #disconnected(connection: Connection, error: BulkheadError): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#stopPing();
    this.#abandoned.clear();
    for (const process of this.#processes.values()) process.onDetached();
    if (error.code === 'AGENT_PROTOCOL') {
      this.#end(error);
      return;
    }
    for (const pending of [...this.#pending.values()]) {
      if (!pending.sent) continue;
      pending.sent = false;
      if (!pending.resend)
        this.#drop(pending, new BulkheadError('AGENT_UNREACHABLE', `the connection broke: ${error.message}`));
    }
    this.#setConnected(false);
    // Its failure has told everyone already.
    this.connect().catch(() => {});
  }

  #setConnected(connected: boolean): void {
    if (this.#connected === connected) return;
    this.#connected = connected;
    for (const listener of [...this.#listeners]) listener(connected);
  }

  #schedulePing(): void {
    let missed = 0;
    const connection = this.#connection;
    const beat = (): void => {
      if (missed >= PING_MISSES) {
        connection?.close();
        return;
      }
      missed++;
      this.#request(
        { case: 'ping', value: {} },
        { resend: false, timeoutMs: PING_INTERVAL_MS * (PING_MISSES + 1) },
      ).then(
        () => {
          missed = 0;
        },
        () => {}, // counted already
      );
      this.#stopPing = this.#clock.after(PING_INTERVAL_MS, beat);
    };
    this.#stopPing = this.#clock.after(PING_INTERVAL_MS, beat);
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

  #drop(pending: Pending, error: Error): void {
    this.#pending.delete(pending.id);
    pending.stop();
    pending.reject(error);
  }

  #dropPending(error: Error): void {
    for (const pending of [...this.#pending.values()]) this.#drop(pending, error);
  }

  /** The host side ends here, for this reason; the guest, if there is one, goes on. */
  #end(error: BulkheadError): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#outerSignal?.removeEventListener('abort', this.#onAbort);
    this.#stopPing();
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close();
    this.#abort.abort(error);
    this.#dropPending(error);
    for (const process of [...this.#processes.values()]) process.fail(error);
    this.#setConnected(false);
  }
}

/** The agent said no; everything is as before the request. */
class RefusedError extends BulkheadError {
  constructor(error: BulkheadError) {
    super(error.code, error.message);
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof RefusedError || (error instanceof BulkheadError && error.code === 'TOO_LARGE');
}

function isFinal(error: unknown): error is BulkheadError {
  return (
    error instanceof BulkheadError &&
    (error.code === 'AGENT_PROTOCOL' || error.code === 'SANDBOX_NOT_RUNNING')
  );
}

function sessionOf(body: HostBody | Answer): string | undefined {
  const value: unknown = body?.value;
  return typeof value === 'object' &&
    value !== null &&
    'sessionId' in value &&
    typeof value.sessionId === 'string'
    ? value.sessionId
    : undefined;
}

export { MAIN_SESSION };
