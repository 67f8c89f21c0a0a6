// A command that goes on when the connection to it breaks: taken up again on another one, from where its output was, with the
// input that had not arrived. Whatever cannot be made good is a failure, or is counted.
import { Readable, Writable } from 'node:stream';
import { WebSocket } from 'ws';
import {
  type AckMessage,
  CHANNEL,
  CLOSE_CODE,
  frame,
  INPUT_WINDOW_BYTES,
  type InputAckMessage,
  type LostMessage,
  type StartedMessage,
} from '../api/channels.ts';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import { isStatus } from '../api/status.ts';
import type { ExecQuery } from '../api/wire.ts';
import { deferred } from './deferred.ts';
import { dial } from './dial.ts';
import type { Endpoint } from './endpoint.ts';
import { InputHistory } from './input-history.ts';
import { exitOf, INPUT_MESSAGE_BYTES, type StreamConnection, type StreamExit } from './stream.ts';
import type { QueryValue } from './transport.ts';

/** Output after which the server is told how far it came. It sends 256 KiB ahead of that. */
const ACK_BYTES = 32 * 1024;
/** Between tries to reach a daemon that is being restarted: soon at first, and never often enough to be a load. */
const RETRY_MS = { first: 20, most: 500 };
/** What passes while a daemon or the agent of a node comes back: it is not there, has not found the guest yet, or is busy with others. */
function isPassing({ code, row }: BulkheadError): boolean {
  return code === 'TOO_MANY_REQUESTS' || (row.httpStatus === 503 && !row.terminal);
}

/** Signals that wait for a connection; more are a program that does not look at what it does. */
const SIGNALS_WAITING_MAX = 16;
/** How long the server may take to answer the close. */
const CLOSE_TIMEOUT_MS = 1000;

export type Offsets = AckMessage;

export interface ResumableConnection extends StreamConnection {
  /** What of each stream has arrived or is lost: where a later program would go on. */
  readonly offsets: Readonly<Offsets>;
  /** Bytes of each stream that were lost, as the command put out more than is kept while nobody was there. */
  readonly lost: Readonly<Offsets>;
  /** Lets go of the command, which waits to be resumed. */
  leave(): void;
}

export async function startResumable(
  endpoint: Endpoint,
  path: string,
  query: ExecQuery & { id: string; resumeSeconds: number },
  retrySeconds = query.resumeSeconds,
): Promise<ResumableConnection> {
  const from = { stdout: 0, stderr: 0 };
  const connection = new Resumable({ endpoint, path, id: query.id, retrySeconds, from, isNew: true });
  await connection.open({ ...query });
  return connection;
}

export async function takeUpResumable(
  endpoint: Endpoint,
  path: string,
  { id, from, retrySeconds }: { id: string; from: Offsets; retrySeconds: number },
): Promise<ResumableConnection> {
  const connection = new Resumable({ endpoint, path, id, retrySeconds, from, isNew: false });
  await connection.open(connection.resumeQuery());
  // Where its input stands is known then, and whether there is such a command.
  await connection.started;
  return connection;
}

interface Target {
  endpoint: Endpoint;
  path: string;
  id: string;
  /** How long a connection that broke is tried again. */
  retrySeconds: number;
  from: Offsets;
  isNew: boolean;
}

class Resumable implements ResumableConnection {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly started: Promise<number>;
  readonly exited: Promise<StreamExit>;
  readonly offsets: Offsets;
  readonly lost: Offsets = { stdout: 0, stderr: 0 };
  readonly #target: Target;
  readonly #input: InputHistory;
  readonly #exit = deferred<StreamExit>();
  readonly #start = deferred<number>();
  readonly #signals: string[] = [];
  #socket: WebSocket | undefined;
  #size: { columns: number; rows: number } | undefined;
  #acknowledged: Offsets;
  /** The server has said where stdin stands: from then on it may be sent. */
  #ready = false;
  /** It was ready once. */
  #hasStarted = false;
  /** By when the command is to be reached again; monotonic milliseconds. */
  #deadline: number | undefined;
  #pauseMs = RETRY_MS.first;
  /** Told once there is room for more input. */
  #onRoom: ((error?: Error | null) => void) | undefined;
  #inputEnded = false;
  /** The command takes more of it. */
  #takesInput = true;
  /** Of the chunk that is being written, what was not sent yet on any connection. */
  #unsent: Buffer | undefined;
  /** Offsets: what was sent on this connection, and what the guest has been given. */
  #sent = 0;
  #taken = 0;
  #endSent = false;
  #isFull = false;
  #over = false;
  /** Why, where it is over and not by its own end. */
  #failure: BulkheadError | undefined;
  /** How this side leaves a connection that stands only once it is over. */
  #closeCode: number = CLOSE_CODE.normal;

  constructor(target: Target) {
    this.#target = target;
    this.offsets = { ...target.from };
    this.#acknowledged = { ...target.from };
    this.#input = new InputHistory();
    this.exited = this.#exit.promise;
    this.started = this.#start.promise;
    // Nobody may be listening yet; whoever asks later still gets the rejection.
    this.exited.catch(() => {});
    this.started.catch(() => {});
    this.stdin = new Writable({
      write: (chunk: Buffer, _encoding, done) => this.#write(chunk, done),
      final: (done) => this.#endInput(done),
    });
    // `exited` tells what happened to a command that takes no more.
    this.stdin.on('error', () => {});
    this.stdout = this.#output();
    this.stderr = this.#output();
  }

  resumeQuery(): Record<string, QueryValue> {
    const { stdout, stderr } = this.offsets;
    return { resume: this.#target.id, stdoutOffset: stdout, stderrOffset: stderr };
  }

  async open(query: Record<string, QueryValue>): Promise<void> {
    const { endpoint, path } = this.#target;
    await dial(endpoint, path, query, (socket) => this.#take(socket));
    if (this.#over) this.#closeSocket();
  }

  resize(size: { columns: number; rows: number }): void {
    this.#size = size;
    this.#sendSize();
  }

  signal(name: string): void {
    if (this.#ready) this.#send(CHANNEL.signal, name);
    else if (this.#signals.length < SIGNALS_WAITING_MAX) this.#signals.push(name);
  }

  close(): void {
    this.#fail(new BulkheadError('SANDBOX_NOT_RUNNING', 'the command was given up'));
    this.#closeSocket();
  }

  leave(): void {
    this.#closeCode = CLOSE_CODE.goingAway;
    this.#fail(new BulkheadError('COMMAND_LOST', 'this program has let go of the command, which goes on'));
    this.#closeSocket();
  }

  /** The code is what tells an end that is meant from a connection that broke. */
  #closeSocket(): void {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return;
    socket.resume();
    socket.close(this.#closeCode);
    const late = setTimeout(() => socket.terminate(), CLOSE_TIMEOUT_MS);
    late.unref();
    socket.once('close', () => clearTimeout(late));
  }

  // ---- one connection

  #take(socket: WebSocket): void {
    let failure: unknown = { code: 'ECONNRESET' };
    let hasOpened = false;
    /** The server has had its last word on it. */
    let isTold = false;
    this.#socket = socket;
    socket.on('message', (data) => {
      const message = data as Buffer;
      if (this.#over || isTold) return;
      if (message[0] !== CHANNEL.error) this.#receive(message[0], message.subarray(1));
      else {
        const status = parse(message.subarray(1));
        if (!isStatus(status)) return;
        isTold = true;
        this.#ready = false;
        // Nobody waits for the closing: that would cost one more way there and back.
        this.#closeSocket();
        this.#ended(status);
      }
    });
    socket.on('error', (error) => {
      failure = error;
    });
    socket.once('open', () => {
      hasOpened = true;
      if (this.#isFull) socket.pause();
    });
    socket.once('close', (code) => {
      // One that never opened is told by whoever dialled.
      if (!hasOpened || isTold || this.#over) return;
      this.#ready = false;
      if (code === CLOSE_CODE.resumedElsewhere)
        this.#fail(new BulkheadError('COMMAND_LOST', 'another client has taken the command up'));
      else void this.#resume(this.#target.endpoint.failure(failure));
    });
  }

  #ended(status: Parameters<typeof exitOf>[0]): void {
    try {
      const exit = exitOf(status);
      this.#finish();
      this.#exit.resolve(exit);
    } catch (error) {
      const failure = asBulkheadError(error);
      // One that was never told to run is not taken up: it did not start.
      if (isPassing(failure) && (this.#hasStarted || !this.#target.isNew)) void this.#resume(failure);
      else this.#fail(failure);
    }
  }

  /** Tries for as long as the command waits. */
  async #resume(reason: BulkheadError): Promise<void> {
    this.#deadline ??= performance.now() + this.#target.retrySeconds * 1000;
    let last = reason;
    while (!this.#over) {
      if (performance.now() > this.#deadline) return this.#fail(last);
      await new Promise((resolve) => setTimeout(resolve, this.#pauseMs));
      this.#pauseMs = Math.min(this.#pauseMs * 2, RETRY_MS.most);
      try {
        return await this.open(this.resumeQuery());
      } catch (error) {
        last = asBulkheadError(error);
        if (!isPassing(last)) return this.#fail(last);
      }
    }
  }

  #fail(error: BulkheadError): void {
    if (this.#over) return;
    this.#finish(error);
    this.#exit.reject(error);
  }

  #finish(error?: BulkheadError): void {
    this.#over = true;
    this.#failure = error;
    this.#ready = false;
    this.stdout.push(null);
    this.stderr.push(null);
    this.#start.reject(error ?? new BulkheadError('SANDBOX_NOT_RUNNING', 'the command did not start'));
    this.#room(this.#inputEnded ? error : (error ?? hasEnded()));
  }

  // ---- output

  /** A stream whose slow reader holds the connection, and so the guest, back. */
  #output(): Readable {
    return new Readable({
      read: () => {
        this.#isFull = false;
        this.#socket?.resume();
      },
    });
  }

  #receive(channel: number | undefined, payload: Buffer): void {
    switch (channel) {
      case CHANNEL.stdout:
        this.#receiveOutput('stdout', payload);
        break;
      case CHANNEL.stderr:
        this.#receiveOutput('stderr', payload);
        break;
      case CHANNEL.lost:
        this.#receiveLost(parse(payload) as Partial<LostMessage>);
        break;
      case CHANNEL.started:
        this.#receiveStarted(parse(payload) as Partial<StartedMessage>);
        break;
      case CHANNEL.ack:
        this.#receiveInputAck(parse(payload) as Partial<InputAckMessage>);
        break;
      default:
        // A newer server may say more; what is unknown is skipped.
        break;
    }
  }

  #receiveOutput(name: 'stdout' | 'stderr', payload: Buffer): void {
    this.offsets[name] += payload.length;
    if (!this[name].push(payload)) {
      this.#isFull = true;
      this.#socket?.pause();
    }
    this.#acknowledge();
  }

  #receiveLost({ stream, bytes }: Partial<LostMessage>): void {
    if ((stream !== 'stdout' && stream !== 'stderr') || bytes === undefined || !(bytes > 0)) return;
    this.offsets[stream] += bytes;
    this.lost[stream] += bytes;
    this.#acknowledge();
  }

  #acknowledge(): void {
    const { stdout, stderr } = this.offsets;
    if (stdout - this.#acknowledged.stdout + stderr - this.#acknowledged.stderr < ACK_BYTES) return;
    this.#acknowledged = { stdout, stderr };
    this.#send(CHANNEL.ack, JSON.stringify(this.#acknowledged));
  }

  // ---- input

  #receiveStarted({ pid, stdin = 0, stdinTaken = 0, stdinOpen = false }: Partial<StartedMessage>): void {
    if (typeof pid === 'number') this.#start.resolve(pid);
    if (!this.#hasStarted && !this.#target.isNew) this.#input.begin(stdin);
    if (stdinOpen && !this.#input.has(stdin)) {
      this.#fail(new BulkheadError('COMMAND_LOST', 'more input was lost with the connection than is kept'));
      this.#closeSocket();
      return;
    }
    this.#hasStarted = true;
    this.#deadline = undefined;
    this.#pauseMs = RETRY_MS.first;
    this.#ready = true;
    this.#takesInput = stdinOpen;
    this.#sent = stdin;
    this.#taken = stdinTaken;
    this.#endSent = false;
    this.#sendSize();
    for (const name of this.#signals.splice(0)) this.#send(CHANNEL.signal, name);
    this.#pumpInput();
  }

  #receiveInputAck({ stdin }: Partial<InputAckMessage>): void {
    if (stdin === undefined || !(stdin > this.#taken)) return;
    this.#taken = stdin;
    this.#pumpInput();
  }

  #write(chunk: Buffer, done: (error?: Error | null) => void): void {
    if (this.#over) {
      done(this.#failure ?? hasEnded());
      return;
    }
    this.#unsent = chunk;
    this.#onRoom = done;
    this.#pumpInput();
  }

  #endInput(done: (error?: Error | null) => void): void {
    this.#inputEnded = true;
    if (this.#over) {
      done(this.#failure);
      return;
    }
    this.#onRoom = done;
    this.#pumpInput();
  }

  /** Sends what may be on its way: first what a former connection may have lost, then what is new. */
  #pumpInput(): void {
    if (!this.#ready) return;
    // What the command takes no more is thrown away, as a shell's pipe would with SIGPIPE ignored.
    if (!this.#takesInput) this.#unsent = undefined;
    while (this.#takesInput && this.#sent - this.#taken < INPUT_WINDOW_BYTES) {
      const piece = this.#input.piece(this.#sent) ?? this.#nextPiece();
      if (piece === undefined) break;
      this.#sent += piece.length;
      this.#socket?.send(frame(CHANNEL.stdin, piece));
    }
    if (this.#unsent !== undefined || (this.#takesInput && this.#sent < this.#input.end)) return;
    if (this.#inputEnded && this.#takesInput && !this.#endSent) {
      this.#endSent = true;
      this.#socket?.send(frame(CHANNEL.close, Buffer.of(CHANNEL.stdin)));
    }
    this.#room();
  }

  #nextPiece(): Buffer | undefined {
    const unsent = this.#unsent;
    if (unsent === undefined) return undefined;
    const rest = unsent.subarray(INPUT_MESSAGE_BYTES);
    this.#unsent = rest.length === 0 ? undefined : rest;
    return this.#input.add(unsent.subarray(0, INPUT_MESSAGE_BYTES));
  }

  /** Whoever waits to write may go on. */
  #room(error?: BulkheadError): void {
    const done = this.#onRoom;
    this.#onRoom = undefined;
    done?.(error);
  }

  #sendSize(): void {
    if (this.#size === undefined) return;
    const { columns, rows } = this.#size;
    this.#send(CHANNEL.resize, JSON.stringify({ Width: columns, Height: rows }));
  }

  #send(channel: number, text: string): void {
    if (this.#ready && this.#socket?.readyState === WebSocket.OPEN)
      this.#socket.send(frame(channel, Buffer.from(text)));
  }
}

function hasEnded(): BulkheadError {
  return new BulkheadError('SANDBOX_NOT_RUNNING', 'the command has ended');
}

function parse(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString()) ?? {};
  } catch {
    return {};
  }
}
