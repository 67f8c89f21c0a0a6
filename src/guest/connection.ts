// One connection to the agent: hello, then messages both ways, until either end breaks it.
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { BulkheadError } from '../api/errors.ts';
import type { GuestClock } from './clock.ts';
import { encodeFrame, FrameDecoder, protocolError } from './frames.ts';
import {
  type GuestHello,
  type GuestMessage,
  GuestMessageSchema,
  type HostMessage,
  HostMessageSchema,
} from './generated/agent_pb.js';
import { MAX_REQUEST_BYTES } from './limits.ts';
import { PROTOCOL_VERSION } from './messages.ts';

/** What the host says; see HostMessage in the schema. */
export type HostBody = NonNullable<Exclude<MessageInitShape<typeof HostMessageSchema>, HostMessage>['body']>;

export interface ConnectionListener {
  /** Anything but the hello. What it throws ends the connection. */
  onMessage(message: GuestMessage): void;
  /** There is room for data again. */
  onWritable(): void;
  /** Once, with the reason: AGENT_PROTOCOL is the guest's fault, anything else the channel's. */
  onClose(error: BulkheadError): void;
}

const NONCE_BYTES = 16;

/** The channel was open, and nothing came. */
export class SilenceError extends BulkheadError {
  constructor(message: string) {
    super('AGENT_UNREACHABLE', message);
  }
}

export class Connection {
  readonly #duplex: Duplex;
  readonly #nonce = randomBytes(NONCE_BYTES);
  readonly #decoder = new FrameDecoder(this.#nonce);
  #listener: ConnectionListener | undefined;
  #onHello: ((hello: GuestHello) => void) | undefined;
  #onEarlyClose: ((error: BulkheadError) => void) | undefined;
  #closed = false;

  private constructor(duplex: Duplex) {
    this.#duplex = duplex;
    duplex.on('data', (chunk: Buffer) => this.#receive(chunk));
    duplex.on('drain', () => this.#listener?.onWritable());
    duplex.on('error', (error) => this.#end(unreachable(error.message, error)));
    duplex.on('close', () => this.#end(unreachable('the connection was closed')));
    duplex.on('end', () => this.#end(unreachable('the guest ended the connection')));
  }

  /**
   * Says hello and waits for the answer. Owns the duplex from here on: it is destroyed on every failure.
   * @param filler ends a half frame that a former host may have left in the guest.
   */
  static open(
    duplex: Duplex,
    options: { timeoutMs: number; filler: boolean; clock: GuestClock; signal: AbortSignal },
  ): Promise<{ connection: Connection; hello: GuestHello }> {
    const connection = new Connection(duplex);
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        cancel();
        options.signal.removeEventListener('abort', onAbort);
        connection.#onHello = undefined;
        connection.#onEarlyClose = undefined;
      };
      const cancel = options.clock.after(options.timeoutMs, () =>
        connection.#end(new SilenceError(`no hello within ${options.timeoutMs} ms`)),
      );
      const onAbort = (): void => connection.#end(unreachable('connecting was given up'));
      options.signal.addEventListener('abort', onAbort);
      connection.#onHello = (hello) => {
        finish();
        resolve({ connection, hello });
      };
      connection.#onEarlyClose = (error) => {
        finish();
        reject(error);
      };
      if (options.signal.aborted) {
        onAbort();
        return;
      }
      if (options.filler) duplex.write(Buffer.alloc(MAX_REQUEST_BYTES));
      connection.send(0, {
        case: 'hello',
        value: { nonce: connection.#nonce, protocolVersion: PROTOCOL_VERSION },
      });
    });
  }

  /** Call in the same turn in which `open` resolved, or messages are lost. */
  listen(listener: ConnectionListener): void {
    this.#listener = listener;
  }

  /** False while the channel has as much waiting as it should. Data waits for it; requests do not. */
  get writable(): boolean {
    return !this.#closed && !this.#duplex.writableNeedDrain;
  }

  /** Throws TOO_LARGE. Sending on a closed connection does nothing: its end is reported to the listener. */
  send(requestId: number, body: HostBody): void {
    const payload = toBinary(
      HostMessageSchema,
      create(HostMessageSchema, { requestId: BigInt(requestId), body }),
    );
    const frame = encodeFrame(payload);
    if (!this.#closed) this.#duplex.write(frame);
  }

  close(): void {
    this.#end(unreachable('the connection was closed by this side'));
  }

  #receive(chunk: Buffer): void {
    try {
      for (const payload of this.#decoder.push(chunk)) {
        if (this.#closed) return;
        this.#dispatch(decodeMessage(payload));
      }
    } catch (error) {
      this.#end(error instanceof BulkheadError ? error : protocolError(String(error)));
    }
  }

  #dispatch(message: GuestMessage): void {
    if (message.body.case === 'hello') {
      if (!this.#onHello) throw protocolError('a second hello');
      this.#onHello(message.body.value);
    } else if (this.#listener) {
      this.#listener.onMessage(message);
    } else {
      throw protocolError('a message before the hello');
    }
  }

  #end(error: BulkheadError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#duplex.destroy();
    this.#onEarlyClose?.(error);
    this.#listener?.onClose(error);
  }
}

function unreachable(message: string, cause?: unknown): BulkheadError {
  return new BulkheadError('AGENT_UNREACHABLE', message, { cause });
}

/** Throws AGENT_PROTOCOL for bytes that are no known message. */
export function decodeMessage(payload: Uint8Array): GuestMessage {
  let message: GuestMessage;
  try {
    message = fromBinary(GuestMessageSchema, payload, { readUnknownFields: false });
  } catch (error) {
    throw protocolError(
      `a message that cannot be decoded (${error instanceof Error ? error.message : String(error)})`,
    );
  }
  if (message.body.case === undefined) throw protocolError('a message of an unknown kind');
  return message;
}
