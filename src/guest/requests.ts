// Requests to the agent and their answers: ids, time limits, and what becomes of them when a connection breaks.
import { randomInt } from 'node:crypto';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import type { GuestClock } from './clock.ts';
import type { Connection, HostBody } from './connection.ts';
import { protocolError } from './frames.ts';
import type { GuestMessage } from './generated/agent_pb.js';
import { MAX_ABANDONED_REQUESTS, REQUEST_TIMEOUT_MS } from './limits.ts';
import { toError } from './messages.ts';

export type Answer = GuestMessage['body'];
export type AnswerCase = NonNullable<Answer['case']>;

export interface RequestOptions {
  /** The answer that fits; `done` unless said. */
  expect?: AnswerCase;
  timeoutMs?: number;
  /** May be asked again on another connection when the answer was lost; true unless said. */
  resend?: boolean;
  /** In the turn of the answer itself: the messages behind it may depend on it. What it throws ends the connection. */
  onAnswer?: (answer: Answer) => void;
  signal?: AbortSignal | undefined;
}

/** A request without its answer. Whoever knows a better question for the same answer may replace body and expect. */
export interface PendingRequest {
  readonly id: number;
  body: HostBody;
  expect: AnswerCase;
  readonly resend: boolean;
  sent: boolean;
  readonly onAnswer: ((answer: Answer) => void) | undefined;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  /** Ends its timer and its listening to the signal. */
  readonly stop: () => void;
}

/** The agent said no; everything is as before the request. */
class RefusedError extends BulkheadError {
  constructor(error: BulkheadError) {
    super(error.code, error.message);
  }
}

/** Whether a request certainly had no effect. */
export function isRefusal(error: unknown): boolean {
  return error instanceof RefusedError || (error instanceof BulkheadError && error.code === 'TOO_LARGE');
}

export class Requests {
  readonly #clock: GuestClock;
  readonly #onFlood: (error: BulkheadError) => void;
  readonly #pending = new Map<number, PendingRequest>();
  /** Answers that may still come to requests which nobody waits for any more. */
  readonly #abandoned = new Set<number>();
  // Answers meant for a host that died must not fit requests of ours.
  #nextId = randomInt(1, 2 ** 46);
  #connection: Connection | undefined;
  #failure: BulkheadError | undefined;

  /** @param onFlood the guest leaves so many requests without an answer that it is not worth asking. */
  constructor(clock: GuestClock, onFlood: (error: BulkheadError) => void) {
    this.#clock = clock;
    this.#onFlood = onFlood;
  }

  /** True while there is a connection with room for data. */
  get writable(): boolean {
    return this.#connection?.writable === true;
  }

  /** Sends at once when connected, else not at all. */
  post(body: HostBody): void {
    this.#connection?.send(0, body);
  }

  /**
   * Resolves with the answer. While there is no connection the request waits for one, within its time limit. Rejects
   * with the agent's refusal, TIMEOUT, AGENT_UNREACHABLE, TOO_LARGE, or with what all was ended with.
   */
  ask(body: HostBody, options: RequestOptions = {}): Promise<Answer> {
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
          this.#connection ? 'TIMEOUT' : 'AGENT_UNREACHABLE',
          `the guest did not answer ${body?.case} within ${timeoutMs} ms`,
        ),
      );
      const onAbort = (): void =>
        giveUp('TIMEOUT', `waiting for the guest's answer to ${body?.case} was given up`);
      const pending: PendingRequest = {
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
      else this.#transmit(pending);
    });
  }

  /** The first request without an answer that `matches`. */
  find(matches: (pending: PendingRequest) => boolean): PendingRequest | undefined {
    return [...this.#pending.values()].find(matches);
  }

  /** There is a connection: what waited goes out. */
  connected(connection: Connection): void {
    this.#connection = connection;
    for (const pending of [...this.#pending.values()]) if (!pending.sent) this.#transmit(pending);
  }

  /** The connection broke. What may not be asked twice fails, the rest waits for the next one. */
  disconnected(reason: string): void {
    this.#connection = undefined;
    this.#abandoned.clear();
    for (const pending of [...this.#pending.values()]) {
      if (!pending.sent) continue;
      pending.sent = false;
      if (!pending.resend)
        this.#drop(pending, new BulkheadError('AGENT_UNREACHABLE', `the connection broke: ${reason}`));
    }
  }

  /** A message with a request id. Throws AGENT_PROTOCOL when it answers nothing that was asked. */
  answered(message: GuestMessage): void {
    const { body } = message;
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

  /** Fails all that has no answer; others may be asked. */
  fail(error: BulkheadError): void {
    for (const pending of [...this.#pending.values()]) this.#drop(pending, error);
  }

  /** Fails all that has no answer, and all that will be asked. */
  end(error: BulkheadError): void {
    this.#failure = error;
    this.#connection = undefined;
    this.fail(error);
  }

  #transmit(pending: PendingRequest): void {
    if (!this.#connection) return;
    try {
      pending.sent = true; // first: the answer may come in this very turn
      this.#connection.send(pending.id, pending.body);
    } catch (error) {
      this.#drop(pending, error instanceof Error ? error : new Error(String(error)));
    }
  }

  #abandon(id: number): void {
    this.#abandoned.add(id);
    if (this.#abandoned.size > MAX_ABANDONED_REQUESTS) {
      this.#onFlood(
        new BulkheadError('AGENT_UNREACHABLE', 'the guest leaves too many requests without an answer'),
      );
    }
  }

  #drop(pending: PendingRequest, error: Error): void {
    this.#pending.delete(pending.id);
    pending.stop();
    pending.reject(error);
  }
}
