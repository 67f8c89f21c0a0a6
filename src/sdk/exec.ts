// Commands in a sandbox: collected, or as a stream of events with an input.
import type { Readable } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import { RESUME_SECONDS_MAX } from '../api/exec-sessions.ts';
import type { ExecQuery } from '../api/wire.ts';
import type { ResumableConnection } from '../client/resumable.ts';
import type { StreamConnection } from '../client/stream.ts';
import type { DetachedExec } from './attach.ts';
import { ExecTimeoutError, failure, typed, withTypedErrors } from './errors.ts';
import { ExecOutput, type ExitStatus, type LostOutput } from './exec-output.ts';
import { ExecSink } from './exec-sink.ts';
import { webReadable } from './web.ts';

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
  /**
   * How long the command waits when the connection to the daemon breaks, as when that is restarted; it is taken up again by
   * itself. Then it ends. 0: it ends with its connection. Rounded up to whole seconds, an hour at most. Default: 15 seconds.
   */
  resumeMs?: number;
  /** Collected output beyond this is an error: stream it instead. Default: 64 MiB. */
  maxOutputBytes?: number;
}

export interface ExecConfig extends ExecOptions {
  cmd: string;
  args?: readonly string[];
}

export type ExecEvent =
  | { eventType: 'started'; pid: number }
  | { eventType: 'stdout' | 'stderr'; data: Buffer }
  /** Output that the command put out while no daemon was there for long, and more than is kept. */
  | { eventType: 'lost'; stream: 'stdout' | 'stderr'; bytes: number }
  | { eventType: 'exited'; code: number };

const DEFAULT_MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
/** As long as the daemon waits for the holders of attached sandboxes. */
const DEFAULT_RESUME_MS = 15_000;
const NOTHING_LOST: LostOutput = { stdout: 0, stderr: 0 };

export function newExecId(): string {
  return globalThis.crypto.randomUUID();
}

/**
 * A command that runs. Its events come in order, at the pace of their reader; who does not read holds this command back and
 * no other.
 */
export class ExecHandle implements AsyncIterable<ExecEvent> {
  /** By which `Sandbox.resumeExec` finds it, also from another program. */
  readonly id: string;
  /** Resolves when it has ended, however that was. */
  readonly ended: Promise<void>;
  readonly #connection: StreamConnection;
  readonly #resumable: ResumableConnection | undefined;
  readonly #events: AsyncGenerator<ExecEvent, void>;
  readonly #maxOutputBytes: number;
  readonly #stopListening: () => void;
  readonly #signal: AbortSignal | undefined;
  #sink: ExecSink | undefined;

  constructor(connection: StreamConnection, id: string, options: ExecOptions) {
    this.id = id;
    this.#connection = connection;
    this.#resumable = isResumable(connection) ? connection : undefined;
    this.#events = eventsOf(connection, () => this.lost);
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

  /** Output that is missing so far. */
  get lost(): LostOutput {
    return this.#resumable?.lost ?? NOTHING_LOST;
  }

  /**
   * Lets go of the command, which goes on and waits to be resumed, for as long as it was started with. What was received and
   * not read yet is gone with this handle.
   */
  detach(): DetachedExec {
    if (this.#resumable === undefined)
      throw failure('INVALID', 'a command with resumeMs 0 ends with its connection: it cannot be let go of');
    const { stdout: stdoutOffset, stderr: stderrOffset } = this.#resumable.offsets;
    this.#resumable.leave();
    return { id: this.id, stdoutOffset, stderrOffset };
  }

  /** The next event; `null` after the last one. */
  async recv(): Promise<ExecEvent | null> {
    const next = await this.#guard(() => this.#events.next());
    return next.done ? null : next.value;
  }

  /** The events as a web stream; one that is cancelled ends the command. */
  toWeb(): ReadableStream<ExecEvent> {
    return webReadable<ExecEvent>({
      recv: () => this.recv(),
      close: () => this[Symbol.asyncDispose](),
    });
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

  /** Throws away output that nobody reads, and resolves with how it ended. Rejects with ExecTimeoutError as `collect` does. */
  async wait(): Promise<ExitStatus> {
    this.#connection.stdout.resume();
    this.#connection.stderr.resume();
    const { exitCode, timedOut } = await this.#guard(() => this.#connection.exited);
    if (timedOut) throw timeUp();
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
      if (exit.timedOut) throw timeUp();
      return new ExecOutput(exit, out, err, this.lost);
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

async function* eventsOf(
  connection: StreamConnection,
  lost: () => LostOutput,
): AsyncGenerator<ExecEvent, void> {
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
    const told = { stdout: 0, stderr: 0 };
    while (waiting.size > 0) {
      const { name, next } = await Promise.race(waiting.values());
      waiting.delete(name);
      const bytes = lost()[name] - told[name];
      told[name] += bytes;
      if (bytes > 0) yield { eventType: 'lost', stream: name, bytes };
      if (next.done) continue;
      ask(name);
      yield { eventType: name, data: next.value };
    }
    const exit = await connection.exited;
    if (exit.timedOut) throw timeUp();
    yield { eventType: 'exited', code: exit.exitCode };
  } finally {
    connection.close();
  }
}

function iterate(stream: Readable): AsyncIterator<Buffer> {
  return stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
}

function isResumable(connection: StreamConnection): connection is ResumableConnection {
  return 'leave' in connection;
}

function timeUp(): ExecTimeoutError {
  return new ExecTimeoutError('TIMEOUT', 'the command was killed when its time was up');
}

/** The first wait before a sandbox with too many commands is asked again, and the longest. */
const RETRY_MS = { first: 20, most: 500 };

/** Whole seconds that a command waits for its client; 0 where it ends with its connection. */
function resumeSecondsOf({ resumeMs = DEFAULT_RESUME_MS }: Pick<ExecOptions, 'resumeMs'>): number {
  if (!(resumeMs >= 0 && resumeMs <= RESUME_SECONDS_MAX * 1000))
    throw failure('INVALID', `resumeMs must be a number from 0 to ${RESUME_SECONDS_MAX * 1000}`);
  return Math.ceil(resumeMs / 1000);
}

/** A sandbox of a daemon, as far as commands need it. */
export interface ExecPlace {
  exec(query: ExecQuery): Promise<StreamConnection>;
  execResumable(query: ExecQuery & { id: string; resumeSeconds: number }): Promise<ResumableConnection>;
  resumeExec(
    id: string,
    from: { stdout: number; stderr: number },
    resumeSeconds: number,
  ): Promise<ResumableConnection>;
}

/** Starts a command. One that finds too many others waits for its turn until `signal` aborts. */
export async function startExec(
  place: ExecPlace,
  words: readonly string[],
  options: ExecOptions,
): Promise<ExecHandle> {
  const { cwd, user, env, timeoutMs, tty = false, signal } = options;
  if (timeoutMs !== undefined && !(timeoutMs > 0))
    throw failure('INVALID', 'timeoutMs must be a number above 0');
  const resumeSeconds = resumeSecondsOf(options);
  const id = newExecId();
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
        const connection = await (resumeSeconds === 0
          ? place.exec(query)
          : place.execResumable({ ...query, id, resumeSeconds }));
        return new ExecHandle(connection, id, options);
      } catch (error) {
        if (!(error instanceof BulkheadError) || error.code !== 'TOO_MANY_REQUESTS') throw error;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  });
}

/** What a command that is taken up again may be given. */
export interface ResumeExecOptions extends Pick<ExecOptions, 'signal' | 'maxOutputBytes' | 'resumeMs'> {
  /** Bytes of its output that the program has already; it goes on behind them. Default: 0. */
  stdoutOffset?: number;
  stderrOffset?: number;
}

/** Takes a command up by its id, with its input where that was. Fails with CommandLostError where there is none. */
export async function resumeExec(
  place: ExecPlace,
  id: string,
  options: ResumeExecOptions,
): Promise<ExecHandle> {
  const { stdoutOffset: stdout = 0, stderrOffset: stderr = 0 } = options;
  const resumeSeconds = Math.max(1, resumeSecondsOf(options));
  return withTypedErrors(async () => {
    options.signal?.throwIfAborted();
    const connection = await place.resumeExec(id, { stdout, stderr }, resumeSeconds);
    return new ExecHandle(connection, id, { ...options, stdin: 'pipe' });
  });
}
