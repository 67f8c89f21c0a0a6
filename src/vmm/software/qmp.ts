// QEMU's machine protocol: one JSON object a line. QEMU is jailed but runs a hostile guest, so its words are bounded too.
import type { Socket } from 'node:net';
import { BulkheadError } from '../../api/errors.ts';
import type { DialledSocket } from '../dial.ts';
import type { HostLibrary } from '../ffi.ts';

/** The answers used here are below 4 KiB. */
const MAX_LINE_BYTES = 256 * 1024;
/** A command is answered within milliseconds; under heavy load a TCG machine may take seconds. */
const COMMAND_TIMEOUT_MS = 60_000;

type Json = Record<string, unknown>;

interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

function parseLine(line: string): Json {
  const value: unknown = JSON.parse(line);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('not an object');
  return { ...value };
}

/** A session after the greeting and qmp_capabilities. Commands go one at a time, in order. */
export class QmpClient {
  readonly #host: HostLibrary;
  readonly #socket: Socket;
  readonly #fd: number;
  readonly #waiters = new Map<number, Waiter>();
  #greeted: Waiter | undefined;
  #buffer = '';
  #nextId = 1;
  #failure: Error | undefined;
  /** Resolves at the next event, rejects when the connection ends. */
  #news = Promise.withResolvers<void>();

  private constructor(host: HostLibrary, dialled: DialledSocket) {
    this.#host = host;
    this.#news.promise.catch(() => {}); // a client that awaits no events misses none
    this.#socket = dialled.socket;
    this.#fd = dialled.fd;
    this.#socket.setEncoding('utf8');
    this.#socket.on('data', (data: string) => this.#onData(data));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => this.#fail(new Error('QEMU closed the connection')));
  }

  /** Takes over a fresh connection. Rejects when QEMU ends or `signal` aborts before the greeting. */
  static async connect(host: HostLibrary, dialled: DialledSocket, signal: AbortSignal): Promise<QmpClient> {
    const client = new QmpClient(host, dialled);
    try {
      await client.#wait(signal, (waiter) => {
        client.#greeted = waiter;
      });
      await client.execute('qmp_capabilities', {}, signal);
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** The command's `return`. Rejects with VM_START_FAILED and QEMU's words on an error answer. */
  execute(command: string, parameters: Json, signal: AbortSignal): Promise<unknown> {
    return this.#send(command, parameters, signal, (bytes) => this.#socket.write(bytes));
  }

  /** The same with a descriptor beside it. */
  executeWithFd(command: string, parameters: Json, fd: number, signal: AbortSignal): Promise<unknown> {
    return this.#send(command, parameters, signal, (bytes) => this.#host.sendFd(this.#fd, bytes, fd));
  }

  /**
   * Resolves at the next event after this call, whichever it is: what it means is asked for by a command, so that one that
   * came too early, or twice, tells the same. Rejects when the connection ends.
   */
  nextEvent(): Promise<void> {
    return this.#news.promise;
  }

  close(): void {
    this.#socket.destroy();
  }

  #send(
    command: string,
    parameters: Json,
    signal: AbortSignal,
    write: (bytes: Buffer) => void,
  ): Promise<unknown> {
    const id = this.#nextId++;
    const bytes = Buffer.from(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
    return this.#wait(signal, (waiter) => {
      this.#waiters.set(id, waiter);
      write(bytes);
    }).finally(() => this.#waiters.delete(id));
  }

  async #wait(signal: AbortSignal, begin: (waiter: Waiter) => void): Promise<unknown> {
    signal.throwIfAborted();
    if (this.#failure) throw this.#failure;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const abort = () => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    const timer = setTimeout(
      () => reject(new BulkheadError('TIMEOUT', 'QEMU does not answer')),
      COMMAND_TIMEOUT_MS,
    );
    signal.addEventListener('abort', abort, { once: true });
    try {
      begin({ resolve, reject });
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    }
  }

  #onData(data: string): void {
    this.#buffer += data;
    try {
      for (let end = this.#buffer.indexOf('\n'); end >= 0; end = this.#buffer.indexOf('\n')) {
        const line = this.#buffer.slice(0, end);
        this.#buffer = this.#buffer.slice(end + 1);
        if (line.trim() !== '') this.#onMessage(parseLine(line));
      }
      if (this.#buffer.length > MAX_LINE_BYTES) throw new Error('endless line');
    } catch (error) {
      this.#fail(new Error('QEMU broke the protocol', { cause: error }));
    }
  }

  #onMessage(message: Json): void {
    if ('QMP' in message) {
      this.#greeted?.resolve(undefined);
      this.#greeted = undefined;
      return;
    }
    if ('event' in message) {
      if (this.#failure) return;
      this.#news.resolve();
      this.#news = Promise.withResolvers<void>();
      this.#news.promise.catch(() => {});
      return;
    }
    if (typeof message.id !== 'number') return;
    const waiter = this.#waiters.get(message.id);
    if ('return' in message) waiter?.resolve(message.return);
    else
      waiter?.reject(new BulkheadError('VM_START_FAILED', `QEMU refused: ${describeError(message.error)}`));
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = new BulkheadError('VM_START_FAILED', `control channel of QEMU: ${error.message}`, {
      cause: error,
    });
    this.#socket.destroy();
    this.#greeted?.reject(this.#failure);
    this.#news.reject(this.#failure);
    for (const waiter of this.#waiters.values()) waiter.reject(this.#failure);
  }
}

function describeError(error: unknown): string {
  const text =
    typeof error === 'object' && error !== null && 'desc' in error ? String(error.desc) : 'no reason';
  return text.replace(/[^\x20-\x7e]/g, ' ').slice(0, 300);
}
