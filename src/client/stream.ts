// The client's end of an exec or attach: plain streams over a `v5.channel.k8s.io` WebSocket.
import { Readable, Writable } from 'node:stream';
import { WebSocket } from 'ws';
import { CHANNEL, CLOSE_CODE, EXIT_CAUSE, frame } from '../api/channels.ts';
import { BulkheadError } from '../api/errors.ts';
import { isStatus, type Status } from '../api/status.ts';
import { deferred } from './deferred.ts';
import { dial } from './dial.ts';
import { type Endpoint, errorOf } from './endpoint.ts';
import type { QueryValue } from './transport.ts';

/** Unsent input above which writers wait. */
const SEND_BUFFER_BYTES = 512 * 1024;
/** One message of input; servers take at most 1 MiB. */
export const INPUT_MESSAGE_BYTES = 64 * 1024;

/** How the command ended. */
export interface StreamExit {
  /** 0 to 255; 128 + N for signal N. */
  exitCode: number;
  /** Such as `SIGKILL`; empty for a normal end. */
  signal: string;
  timedOut: boolean;
  oomKilled: boolean;
}

export interface StreamConnection {
  /** Ending it ends the command's standard input. */
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /**
   * Process id in the guest, when the command runs; only where `started` was asked for. Rejects when the connection ends
   * before that.
   */
  readonly started: Promise<number>;
  /** Rejects when the command could not be started, or the connection broke before it ended. */
  readonly exited: Promise<StreamExit>;
  resize(size: { columns: number; rows: number }): void;
  signal(name: string): void;
  /** Leaves at once. An exec ends with its connection, a main process does not. */
  close(): void;
}

export function exitOf(status: Status): StreamExit {
  if (status.status === 'Success') return { exitCode: 0, signal: '', timedOut: false, oomKilled: false };
  if (status.reason !== 'NonZeroExitCode') throw errorOf(status);
  const cause = (reason: string) => status.details?.causes?.find((each) => each.reason === reason);
  return {
    exitCode: Number(cause(EXIT_CAUSE.exitCode)?.message ?? 1),
    signal: cause(EXIT_CAUSE.signal)?.message ?? '',
    timedOut: cause(EXIT_CAUSE.timedOut) !== undefined,
    oomKilled: cause(EXIT_CAUSE.oomKilled) !== undefined,
  };
}

/** Connects. Fails with the server's own error where it refuses the upgrade. */
export async function openStream(
  endpoint: Endpoint,
  path: string,
  query: Record<string, QueryValue>,
): Promise<StreamConnection> {
  return dial(endpoint, path, query, (socket) => new Connection(socket, endpoint));
}

class Connection implements StreamConnection {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly started: Promise<number>;
  readonly exited: Promise<StreamExit>;
  readonly #started = deferred<number>();
  readonly #exit = deferred<StreamExit>();
  readonly #socket: WebSocket;
  #status: Status | undefined;
  #over = false;
  /** Why the connection ended, should it end without a result. */
  #failure: BulkheadError;

  constructor(socket: WebSocket, endpoint: Endpoint) {
    this.#socket = socket;
    this.#failure = endpoint.failure({ code: 'ECONNRESET' });
    this.exited = this.#exit.promise;
    this.started = this.#started.promise;
    // Nobody may be listening yet when the connection breaks; whoever asks later still gets the rejection.
    this.started.catch(() => {});
    this.exited.catch(() => {});
    this.stdin = new Writable({
      write: (chunk: Buffer, _encoding, done) => this.#sendInput(chunk, done),
      final: (done) => {
        if (socket.readyState !== WebSocket.OPEN) done(this.#lostInput());
        else socket.send(frame(CHANNEL.close, Buffer.of(CHANNEL.stdin)), () => done());
      },
    });
    // Writing to a command that has ended is no failure of the client; `exited` tells what happened.
    this.stdin.on('error', () => {});
    this.stdout = this.#output();
    this.stderr = this.#output();
    socket.on('message', (data) => this.#receive(data as Buffer));
    socket.on('error', (error) => {
      this.#failure = endpoint.failure(error);
    });
    socket.once('close', () => this.#end());
  }

  resize({ columns, rows }: { columns: number; rows: number }): void {
    this.#control(CHANNEL.resize, JSON.stringify({ Width: columns, Height: rows }));
  }

  signal(name: string): void {
    this.#control(CHANNEL.signal, name);
  }

  close(): void {
    this.#socket.terminate();
  }

  /** Nothing more comes: the command's end was told, or the connection broke. */
  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.stdout.push(null);
    this.stderr.push(null);
    try {
      if (this.#status === undefined) throw this.#failure;
      this.#exit.resolve(exitOf(this.#status));
    } catch (error) {
      this.#exit.reject(error);
    }
    this.#started.reject(new BulkheadError('SANDBOX_NOT_RUNNING', 'the command did not start'));
  }

  /** A connection that broke; a command that has ended merely takes no more. */
  #lostInput(): BulkheadError | undefined {
    return this.#status === undefined ? this.#failure : undefined;
  }

  #control(channel: number, text: string): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(frame(channel, Buffer.from(text)));
  }

  #sendInput(payload: Buffer, done: (error?: Error | null) => void): void {
    if (this.#socket.readyState !== WebSocket.OPEN) {
      done(this.#lostInput() ?? new BulkheadError('SANDBOX_NOT_RUNNING', 'the command has ended'));
      return;
    }
    let last = 0;
    for (; last + INPUT_MESSAGE_BYTES < payload.length; last += INPUT_MESSAGE_BYTES) {
      this.#socket.send(frame(CHANNEL.stdin, payload.subarray(last, last + INPUT_MESSAGE_BYTES)));
    }
    const wait = this.#socket.bufferedAmount >= SEND_BUFFER_BYTES;
    this.#socket.send(frame(CHANNEL.stdin, payload.subarray(last)), (error) => {
      if (wait) done(error ?? null);
    });
    if (!wait) done();
  }

  /** A stream whose slow reader holds the connection, and so the guest, back. */
  #output(): Readable {
    return new Readable({ read: () => this.#socket.resume() });
  }

  #receive(message: Buffer): void {
    if (this.#over) return;
    const payload = message.subarray(1);
    switch (message[0]) {
      case CHANNEL.stdout:
        if (!this.stdout.push(payload)) this.#socket.pause();
        break;
      case CHANNEL.stderr:
        if (!this.stderr.push(payload)) this.#socket.pause();
        break;
      case CHANNEL.started:
        this.#receiveStarted(payload);
        break;
      case CHANNEL.error:
        this.#receiveStatus(payload);
        break;
      default:
        // A newer server may say more; what is unknown is skipped.
        break;
    }
  }

  #receiveStarted(payload: Buffer): void {
    try {
      const { pid } = JSON.parse(payload.toString()) as { pid?: unknown };
      if (typeof pid === 'number') this.#started.resolve(pid);
    } catch {
      // Shows as a command that was never told to have started.
    }
  }

  #receiveStatus(payload: Buffer): void {
    try {
      const status: unknown = JSON.parse(payload.toString());
      if (!isStatus(status)) return;
      this.#status = status;
    } catch {
      return; // Shows as a connection that closed without a result.
    }
    // It is the last word, so nobody waits for the closing: that would cost one more way there and back.
    this.#end();
    this.#socket.close(CLOSE_CODE.normal);
  }
}
