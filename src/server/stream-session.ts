// One exec or attach on a WebSocket: channel frames on one side, a guest process on the other, back-pressure through both.
import type { Duplex, Writable } from 'node:stream';
import type { WebSocket } from 'ws';
import {
  type AckMessage,
  CHANNEL,
  CLOSE_CODE,
  EXIT_CAUSE,
  frame,
  type InputAckMessage,
  type LostMessage,
  type StartedMessage,
  type StreamProtocol,
} from '../api/channels.ts';
import { asBulkheadError, type BulkheadError } from '../api/errors.ts';
import { type Status, type StatusCause, statusOf } from '../api/status.ts';
import type { OutputChunk, ProcessExit } from '../guest/agent.ts';
import { success } from './failures.ts';
import {
  CONTROL_MESSAGE_BYTES_MAX,
  INPUT_ACK_BYTES,
  STREAM_BUFFER_BYTES,
  STREAM_CLOSE_TIMEOUT_MS,
  STREAM_PING_INTERVAL_MS,
  TERMINAL_SIZE_MAX,
} from './limits.ts';

/** WebSocket close codes (RFC 6455, 7.4.1). */
const CLOSE = { ...CLOSE_CODE, protocolError: 1002, unsupportedData: 1003 } as const;

/** The process at the other end: a new exec, or a view of the main process. */
export interface StreamProcess {
  /** In the guest; told to clients that asked for it. */
  readonly pid?: number;
  readonly stdin?: Writable;
  output(): AsyncIterable<OutputChunk>;
  readonly exited: Promise<ProcessExit>;
  signal(name: string): Promise<void>;
  resize(size: { columns: number; rows: number }): Promise<void>;
  /** Of a command that outlives its connection. */
  readonly resumable?: {
    /** Where its stdin stands now: bytes that arrived, and that the guest was given. */
    stdin(): { arrived: number; taken: number; open: boolean };
    /** `onTaken` tells how far the guest has been given it. False where the client sent more than it may. */
    write(payload: Buffer, onTaken: (taken: number) => void): boolean;
    /** False where it acknowledges what was not sent. */
    acknowledge(offsets: AckMessage): boolean;
  };
}

export interface StreamOptions {
  protocol: StreamProtocol;
  stdout: boolean;
  stderr: boolean;
  /** The client wants to know when the command runs. */
  started: boolean;
  /** Aborts when the server closes. */
  closing: AbortSignal;
  /** What the WebSocket writes to. */
  transport: Duplex;
}

const SIGNAL_NAME = /^SIG[A-Z0-9+-]{1,12}$/;

/** How a process ended, as Kubernetes tells it on the error channel. */
export function exitStatus(exit: ProcessExit): Status {
  if (exit.exitCode === 0 && exit.signal === '') return success('');
  const causes: StatusCause[] = [{ reason: EXIT_CAUSE.exitCode, message: String(exit.exitCode) }];
  if (exit.signal !== '') causes.push({ reason: EXIT_CAUSE.signal, message: exit.signal });
  if (exit.timedOut) causes.push({ reason: EXIT_CAUSE.timedOut, message: 'killed when its time was up' });
  if (exit.oomKilled) causes.push({ reason: EXIT_CAUSE.oomKilled, message: 'the guest ran out of memory' });
  return {
    apiVersion: 'v1',
    kind: 'Status',
    metadata: {},
    status: 'Failure',
    message: `command terminated with exit code ${exit.exitCode}`,
    reason: 'NonZeroExitCode',
    code: 500,
    details: { causes },
  };
}

/** A failure of Bulkhead's own, with the exit code that the command line ends with. */
function failureStatus(error: BulkheadError): Status {
  const causes = [{ reason: EXIT_CAUSE.exitCode, message: String(error.row.exitCode) }];
  return statusOf(error, { causes });
}

/**
 * One connection. Made right after the upgrade, with the socket paused, so that nothing a client sends early is lost;
 * `run` connects it to the process.
 */
export class StreamSession {
  readonly #socket: WebSocket;
  readonly #options: StreamOptions;
  readonly #gone = new AbortController();
  readonly #ping: NodeJS.Timeout;
  #process: StreamProcess | undefined;
  /** How it ended, from when that is known; its output may still be on the way. */
  #exit: ProcessExit | undefined;
  #stdinOpen = true;
  #isGathering = false;
  /** Of a resumable command: what its client was told. */
  #inputAcknowledged = 0;
  readonly #closed = Promise.withResolvers<{ inOrder: boolean }>();

  constructor(socket: WebSocket, options: StreamOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.pause();
    socket.on('message', (data, isBinary) => this.#receive(data as Buffer, isBinary));
    // An error is always followed by close.
    socket.on('error', () => {});
    socket.once('close', (code) => {
      this.#leave();
      this.#closed.resolve({ inOrder: code === CLOSE.normal });
    });
    // The answer does not matter: writing to a connection whose peer is gone fails, and that closes it.
    this.#ping = setInterval(() => socket.ping(), STREAM_PING_INTERVAL_MS);
    const close = () => this.#close(CLOSE.goingAway, 'the server closes');
    options.closing.addEventListener('abort', close, { once: true });
    this.#gone.signal.addEventListener('abort', () => options.closing.removeEventListener('abort', close));
  }

  /** Aborts when the connection is over, whoever ended it. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Resolves when nothing of the connection is left: whether the client closed it in order, and needs the command no more. */
  get closed(): Promise<{ inOrder: boolean }> {
    return this.#closed.promise;
  }

  /** Another connection has its command now. */
  replace(): void {
    this.#close(CLOSE.resumedElsewhere, 'another connection has taken the command up');
  }

  /** Ends the connection with a failure of Bulkhead's own on the error channel. */
  fail(error: unknown): void {
    this.#finish(failureStatus(asBulkheadError(error)));
  }

  /** Carries bytes until the process has ended and its output is delivered, or the client is gone. Never rejects. */
  async run(process: StreamProcess): Promise<void> {
    this.#process = process;
    process.exited.then(
      (exit) => {
        this.#exit = exit;
      },
      () => {}, // told below
    );
    this.#followStdin(process);
    this.#socket.resume();
    try {
      if (this.#options.started || process.resumable !== undefined) await this.#sendStarted(process);
      await this.#pumpOutput(process);
      if (this.gone.aborted) return;
      const exit = await Promise.race([process.exited, aborted(this.gone)]);
      if (exit !== undefined) this.#finish(exitStatus(exit));
    } catch (error) {
      this.fail(error);
    }
  }

  /** A command that may be resumed is never held back by its connection: its client keeps to a window. */
  #followStdin({ stdin, resumable }: StreamProcess): void {
    this.#inputAcknowledged = resumable?.stdin().taken ?? 0;
    if (stdin === undefined || resumable !== undefined) return;
    const onError = () => this.#stopStdin();
    const onDrain = () => this.#socket.resume();
    stdin.on('error', onError).on('drain', onDrain);
    this.gone.addEventListener('abort', () => stdin.off('error', onError).off('drain', onDrain), {
      once: true,
    });
  }

  #sendStarted({ pid = 0, resumable }: StreamProcess): Promise<void> {
    const stdin = resumable?.stdin();
    const message: StartedMessage = {
      pid,
      ...(stdin === undefined
        ? {}
        : { stdin: stdin.arrived, stdinTaken: stdin.taken, stdinOpen: stdin.open }),
    };
    return this.#send(CHANNEL.started, Buffer.from(JSON.stringify(message)));
  }

  async #pumpOutput(process: StreamProcess): Promise<void> {
    const output = process.output()[Symbol.asyncIterator]();
    try {
      while (!this.gone.aborted) {
        const next = await Promise.race([output.next(), aborted(this.gone)]);
        if (next === undefined || next.done) return;
        await this.#sendOutput(next.value);
      }
    } finally {
      // Not awaited: a generator that waits for its guest ends only when the process does.
      if (this.gone.aborted) void output.return?.().catch(() => {});
    }
  }

  async #sendOutput(chunk: OutputChunk): Promise<void> {
    if (chunk.lostBefore > 0 && this.#process?.resumable !== undefined) {
      const message: LostMessage = { stream: chunk.stream, bytes: chunk.lostBefore };
      await this.#send(CHANNEL.lost, Buffer.from(JSON.stringify(message)));
    } else if (chunk.lostBefore > 0 && this.#options.stderr) {
      const note = `bulkhead: ${chunk.lostBefore} bytes of ${chunk.stream} were lost here\n`;
      await this.#send(CHANNEL.stderr, Buffer.from(note));
    }
    if (this.#options[chunk.stream] && chunk.data.byteLength > 0)
      await this.#send(CHANNEL[chunk.stream], chunk.data);
  }

  /** Resolves at once while little is unsent, else when this message has left: that holds the guest back. */
  #send(channel: number, payload: Uint8Array): Promise<void> {
    if (this.#socket.readyState !== this.#socket.OPEN) {
      // What is sent to a closing connection is dropped at once; going on would be a loop that never waits.
      this.#leave();
      return Promise.resolve();
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gather();
    this.#socket.send(frame(channel, payload), () => resolve());
    return this.#socket.bufferedAmount < STREAM_BUFFER_BYTES ? Promise.resolve() : promise;
  }

  #receive(message: Buffer, isBinary: boolean): void {
    if (!isBinary) {
      this.#close(CLOSE.unsupportedData, 'text messages carry no channel');
      return;
    }
    const violation = this.#dispatch(message);
    if (violation !== undefined) this.#close(CLOSE.protocolError, violation);
  }

  /** Acts on one message; what is wrong with it, where something is. */
  #dispatch(message: Buffer): string | undefined {
    const channel = message[0];
    const payload = message.subarray(1);
    switch (channel) {
      case CHANNEL.stdin:
        return this.#receiveStdin(payload);
      case CHANNEL.resize:
        return this.#receiveResize(payload);
      case CHANNEL.signal:
        return this.#receiveSignal(payload);
      case CHANNEL.close:
        return this.#receiveClose(payload);
      case CHANNEL.ack:
        return this.#receiveAck(payload);
      default:
        return channel === undefined ? 'empty message' : `channel ${channel} is not for clients`;
    }
  }

  #receiveStdin(payload: Buffer): string | undefined {
    const stdin = this.#process?.stdin;
    const resumable = this.#process?.resumable;
    if (resumable !== undefined) {
      // Behind its close a connection has no say.
      if (this.gone.aborted || !this.#stdinOpen) return undefined;
      const isFine = resumable.write(payload, (taken) => this.#acknowledgeInput(taken));
      return isFine ? undefined : 'more input than may be on its way';
    }
    if (stdin === undefined || !this.#stdinOpen || payload.length === 0) return undefined;
    // Frames that are parsed already still arrive after pause; they are bounded by what the socket had read.
    if (!stdin.write(payload)) this.#socket.pause();
    return undefined;
  }

  #acknowledgeInput(taken: number): void {
    if (this.gone.aborted || taken - this.#inputAcknowledged < INPUT_ACK_BYTES) return;
    this.#inputAcknowledged = taken;
    const message: InputAckMessage = { stdin: taken };
    void this.#send(CHANNEL.ack, Buffer.from(JSON.stringify(message)));
  }

  #receiveAck(payload: Buffer): string | undefined {
    const resumable = this.#process?.resumable;
    const offsets = payload.length <= CONTROL_MESSAGE_BYTES_MAX ? parseAck(payload.toString()) : undefined;
    if (offsets === undefined || resumable === undefined) return 'malformed acknowledgement';
    return resumable.acknowledge(offsets) ? undefined : 'an acknowledgement of what was not sent';
  }

  #receiveClose(payload: Buffer): string | undefined {
    if (this.#options.protocol !== 'v5.channel.k8s.io' || payload.length !== 1)
      return 'malformed close signal';
    if (payload[0] === CHANNEL.stdin && this.#stdinOpen) {
      this.#stdinOpen = false;
      this.#process?.stdin?.end();
    }
    return undefined;
  }

  #receiveResize(payload: Buffer): string | undefined {
    const size = payload.length <= CONTROL_MESSAGE_BYTES_MAX ? parseSize(payload.toString()) : undefined;
    if (size === undefined) return 'malformed resize';
    // A process that has ended meanwhile has no size.
    this.#process?.resize(size).catch(() => {});
    return undefined;
  }

  #receiveSignal(payload: Buffer): string | undefined {
    const name = payload.length <= CONTROL_MESSAGE_BYTES_MAX ? payload.toString() : '';
    if (!SIGNAL_NAME.test(name)) return 'malformed signal';
    // Who signals a process that has ended does not want to wait for the rest of its output.
    if (this.#exit !== undefined) this.#finish(exitStatus(this.#exit));
    else this.#process?.signal(name).catch(() => {});
    return undefined;
  }

  /** The process no longer reads: what else comes is dropped, as a shell's pipe would with SIGPIPE ignored. */
  #stopStdin(): void {
    this.#stdinOpen = false;
    this.#socket.resume();
  }

  #finish(status: Status): void {
    if (this.gone.aborted) return;
    this.#gather();
    this.#socket.send(frame(CHANNEL.error, Buffer.from(JSON.stringify(status))));
    this.#close(CLOSE.normal, '');
  }

  /** All that one turn has to say leaves in one piece: of a short command output, end and closing, which wakes its client once. */
  #gather(): void {
    if (this.#isGathering) return;
    this.#isGathering = true;
    const { transport } = this.#options;
    transport.cork();
    setImmediate(() => {
      this.#isGathering = false;
      transport.uncork();
    });
  }

  #close(code: number, reason: string): void {
    this.#stdinOpen = false;
    this.#socket.resume();
    this.#socket.close(code, reason);
    // Protocol violations end the process now; a peer that never answers the close is not waited for.
    if (code !== CLOSE.normal) this.#leave();
    setTimeout(() => this.#socket.terminate(), STREAM_CLOSE_TIMEOUT_MS).unref();
  }

  #leave(): void {
    clearInterval(this.#ping);
    this.#gone.abort();
  }
}

function parseObject(text: string): Record<string, unknown> {
  try {
    return (JSON.parse(text) ?? {}) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function parseSize(text: string): { columns: number; rows: number } | undefined {
  const { Width: columns, Height: rows } = parseObject(text);
  return isTerminalSize(columns) && isTerminalSize(rows) ? { columns, rows } : undefined;
}

function parseAck(text: string): AckMessage | undefined {
  const { stdout, stderr } = parseObject(text);
  return isOffset(stdout) && isOffset(stderr) ? { stdout, stderr } : undefined;
}

function isOffset(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isTerminalSize(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= TERMINAL_SIZE_MAX;
}

/** Resolves with undefined when the signal aborts. One promise per signal, so that long streams add no listeners. */
function aborted(signal: AbortSignal): Promise<undefined> {
  let promise = abortions.get(signal);
  if (promise === undefined) {
    promise = new Promise((resolve) => {
      if (signal.aborted) resolve(undefined);
      else signal.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    abortions.set(signal, promise);
  }
  return promise;
}
const abortions = new WeakMap<AbortSignal, Promise<undefined>>();
