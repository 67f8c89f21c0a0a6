// Commands in a sandbox: collected, or as a stream of events with an input.
import { randomUUID } from 'node:crypto';
import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { BulkheadError } from '../api/errors.ts';
import type { ExecQuery } from '../api/wire.ts';
import type { StreamConnection, StreamExit } from '../client/stream.ts';
import { ExecTimeoutError, failure, typed, withTypedErrors } from './errors.ts';

/** What a command may be given beside its words. */
export interface ExecOptions {
  /** Directory in which it starts. */
  cwd?: string;
  /** name, uid, name:group or uid:gid. */
  user?: string;
  env?: Record<string, string>;
  /** The command is killed after so long; its promise rejects with ExecTimeoutError. Rounded up to whole seconds. */
  timeoutMs?: number;
  /** `null` (the default): nothing. `pipe`: what is written to the sink. Bytes: these. */
  stdin?: 'null' | 'pipe' | Uint8Array;
  /** Gives it a terminal; its stderr is its stdout then. */
  tty?: boolean;
  /** Ends the command. */
  signal?: AbortSignal;
  /** Collected output beyond this is an error: stream it instead. Default: 64 MiB. */
  maxOutputBytes?: number;
}

export interface ExecConfig extends ExecOptions {
  cmd: string;
  args?: readonly string[];
}

export interface ExitStatus {
  /** 0 to 255; 128 + N for signal N. */
  code: number;
  success: boolean;
}

export type ExecEventType = 'started' | 'stdout' | 'stderr' | 'exited';

export type ExecEvent =
  | { eventType: 'started'; pid: number }
  | { eventType: 'stdout' | 'stderr'; data: Buffer }
  | { eventType: 'exited'; code: number };

const DEFAULT_MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** A command that has ended, with all it said. */
export class ExecOutput {
  readonly #exit: StreamExit;
  readonly #stdout: Buffer;
  readonly #stderr: Buffer;

  constructor(exit: StreamExit, stdout: Buffer, stderr: Buffer) {
    this.#exit = exit;
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  get code(): number {
    return this.#exit.exitCode;
  }
  get success(): boolean {
    return this.code === 0;
  }
  /** Such as `SIGKILL`; empty for a normal end. */
  get signal(): string {
    return this.#exit.signal;
  }
  /** The guest's kernel ended it for want of memory. */
  get oomKilled(): boolean {
    return this.#exit.oomKilled;
  }
  /** As UTF-8. */
  stdout(): string {
    return this.#stdout.toString();
  }
  stderr(): string {
    return this.#stderr.toString();
  }
  stdoutBytes(): Buffer {
    return this.#stdout;
  }
  stderrBytes(): Buffer {
    return this.#stderr;
  }
  status(): ExitStatus {
    return { code: this.code, success: this.success };
  }
}

/** The input of a command. */
export class ExecSink {
  readonly #stdin: Writable;

  constructor(stdin: Writable) {
    this.#stdin = stdin;
  }

  /** Resolves when there is room for more. Rejects where the command cannot be given it any more. */
  async write(data: Uint8Array | string): Promise<void> {
    const { promise, resolve, reject } = settle();
    this.#stdin.write(data, (error) => (error ? reject(this.#failure(error)) : resolve()));
    await promise;
  }

  /**
   * Ends the input. Rejects where not all that was written, or its end, went to the command; the end of the command itself is
   * no such failure.
   */
  async close(): Promise<void> {
    this.#stdin.end();
    await finished(this.#stdin, { readable: false }).catch((error: unknown) => {
      throw this.#failure(error);
    });
  }

  /** What broke first, not what Node says of a stream that is broken. */
  #failure(error: unknown): unknown {
    return typed(this.#stdin.errored ?? error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function settle(): { promise: Promise<void>; resolve: () => void; reject: (reason: unknown) => void } {
  let resolve: () => void = () => {};
  let reject: (reason: unknown) => void = () => {};
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

/**
 * A command that runs. Its events come in order, at the pace of their reader; who does not read holds this command back and
 * no other.
 */
export class ExecHandle implements AsyncIterable<ExecEvent> {
  readonly id = randomUUID();
  /** Resolves when it has ended, however that was. */
  readonly ended: Promise<void>;
  readonly #connection: StreamConnection;
  readonly #events: AsyncGenerator<ExecEvent, void>;
  readonly #maxOutputBytes: number;
  readonly #stopListening: () => void;
  readonly #signal: AbortSignal | undefined;
  #sink: ExecSink | undefined;

  constructor(connection: StreamConnection, options: ExecOptions) {
    this.#connection = connection;
    this.#events = eventsOf(connection);
    this.#maxOutputBytes = options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT_BYTES;
    const { stdin = 'null', signal } = options;
    if (stdin === 'pipe') this.#sink = new ExecSink(connection.stdin);
    else connection.stdin.end(stdin === 'null' ? undefined : stdin);
    const abort = (): void => connection.close();
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    this.#stopListening = () => signal?.removeEventListener('abort', abort);
    this.ended = connection.exited.then(this.#stopListening, this.#stopListening);
    this.#signal = signal;
  }

  /** The next event; `null` after the last one. */
  async recv(): Promise<ExecEvent | null> {
    const next = await this.#guard(() => this.#events.next());
    return next.done ? null : next.value;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ExecEvent, void> {
    try {
      for (let event = await this.recv(); event !== null; event = await this.recv()) yield event;
    } finally {
      // Who stops reading early would leave a command that waits for ever to be read.
      await this.#events.return();
    }
  }

  /** The input, once; `null` where it was taken already or none was asked for. */
  takeStdin(): ExecSink | null {
    const sink = this.#sink ?? null;
    this.#sink = undefined;
    return sink;
  }

  /** Throws away output that nobody reads, and resolves with how it ended. */
  async wait(): Promise<ExitStatus> {
    this.#connection.stdout.resume();
    this.#connection.stderr.resume();
    const { exitCode } = await this.#guard(() => this.#connection.exited);
    return { code: exitCode, success: exitCode === 0 };
  }

  /** Everything it said. Rejects with ExecTimeoutError when its time was up. */
  async collect(): Promise<ExecOutput> {
    const { stdout, stderr } = this.#connection;
    return this.#guard(async () => {
      const [out, err, exit] = await Promise.all([
        bytesOf(stdout, this.#maxOutputBytes),
        bytesOf(stderr, this.#maxOutputBytes),
        this.#connection.exited,
      ]);
      if (exit.timedOut) throw new ExecTimeoutError('TIMEOUT', 'the command was killed when its time was up');
      return new ExecOutput(exit, out, err);
    }).catch((error: unknown) => {
      this.#connection.close();
      throw error;
    });
  }

  /** By number or name: 15, `SIGTERM`. */
  async signal(signal: number | string): Promise<void> {
    this.#connection.signal(typeof signal === 'string' ? signal : nameOfSignal(signal));
  }

  async kill(): Promise<void> {
    await this.signal('SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.close();
    await this.#connection.exited.catch(() => {});
  }

  /** What ends the connection on purpose shows as that, not as a broken connection. */
  async #guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (this.#signal?.aborted) throw this.#signal.reason;
      throw typed(error);
    }
  }
}

/** The signals that mean the same on every Linux machine. */
const SIGNALS: Record<number, string> = {
  ...{ 1: 'SIGHUP', 2: 'SIGINT', 3: 'SIGQUIT', 6: 'SIGABRT', 9: 'SIGKILL', 10: 'SIGUSR1', 12: 'SIGUSR2' },
  ...{ 13: 'SIGPIPE', 14: 'SIGALRM', 15: 'SIGTERM', 18: 'SIGCONT', 19: 'SIGSTOP', 28: 'SIGWINCH' },
};

function nameOfSignal(number: number): string {
  const name = SIGNALS[number];
  if (name === undefined) throw failure('INVALID', `give signal ${number} by its name, such as SIGTERM`);
  return name;
}

async function bytesOf(stream: Readable, most: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of stream as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > most)
      throw new BulkheadError('TOO_LARGE', `the command put out more than ${most} bytes; stream it instead`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

type Piece = { name: 'stdout' | 'stderr'; next: IteratorResult<Buffer> };

async function* eventsOf(connection: StreamConnection): AsyncGenerator<ExecEvent, void> {
  try {
    const pid = await connection.started.catch(async (error: unknown) => {
      // The true reason is how it ended.
      await connection.exited;
      throw error;
    });
    yield { eventType: 'started', pid };
    const streams = { stdout: iterate(connection.stdout), stderr: iterate(connection.stderr) };
    const waiting = new Map<Piece['name'], Promise<Piece>>();
    const ask = (name: Piece['name']) =>
      waiting.set(
        name,
        streams[name].next().then((next) => ({ name, next })),
      );
    ask('stdout');
    ask('stderr');
    while (waiting.size > 0) {
      const { name, next } = await Promise.race(waiting.values());
      waiting.delete(name);
      if (next.done) continue;
      ask(name);
      yield { eventType: name, data: next.value };
    }
    const exit = await connection.exited;
    if (exit.timedOut) throw new ExecTimeoutError('TIMEOUT', 'the command was killed when its time was up');
    yield { eventType: 'exited', code: exit.exitCode };
  } finally {
    connection.close();
  }
}

function iterate(stream: Readable): AsyncIterator<Buffer> {
  return stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
}

/** The first wait before a sandbox with too many commands is asked again, and the longest. */
const RETRY_MS = { first: 20, most: 500 };

/** Starts a command. One that finds too many others waits for its turn until `signal` aborts. */
export async function startExec(
  open: (query: ExecQuery) => Promise<StreamConnection>,
  words: readonly string[],
  options: ExecOptions,
): Promise<ExecHandle> {
  const { cwd, user, env, timeoutMs, tty = false, signal } = options;
  if (timeoutMs !== undefined && !(timeoutMs > 0))
    throw failure('INVALID', 'timeoutMs must be a number above 0');
  const query: ExecQuery = {
    command: [...words],
    stdin: (options.stdin ?? 'null') !== 'null',
    stdout: true,
    stderr: true,
    tty,
    started: true,
    ...(env === undefined ? {} : { env: Object.entries(env).map(([name, value]) => `${name}=${value}`) }),
    ...(cwd === undefined ? {} : { workingDir: cwd }),
    ...(user === undefined ? {} : { user }),
    ...(timeoutMs === undefined ? {} : { timeoutSeconds: Math.ceil(timeoutMs / 1000) }),
  };
  return withTypedErrors(async () => {
    for (let wait = RETRY_MS.first; ; wait = Math.min(wait * 2, RETRY_MS.most)) {
      signal?.throwIfAborted();
      try {
        return new ExecHandle(await open(query), options);
      } catch (error) {
        if (!(error instanceof BulkheadError) || error.code !== 'TOO_MANY_REQUESTS') throw error;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  });
}
