// The sessions of this host in one guest: starting them, taking them up after a break, and sharing the channel.
import { BulkheadError } from '../api/errors.ts';
import type { Delivered, GuestProcess } from './agent.ts';
import type { HostBody } from './connection.ts';
import { protocolError } from './frames.ts';
import type { GuestMessage } from './generated/agent_pb.js';
import { checkSessionId } from './messages.ts';
import { GuestProcessImpl, type ProcessLink, sessionLost } from './process.ts';
import { type Answer, isRefusal, type Requests } from './requests.ts';

export class Sessions implements ProcessLink {
  readonly #requests: Requests;
  readonly #processes = new Map<string, GuestProcessImpl>();
  /** Whose stdin is looked at next. */
  #turn = 0;

  constructor(requests: Requests) {
    this.#requests = requests;
  }

  /** Starts a session by any of the requests that do (Exec, ReadFile, WriteFile). */
  async start(
    sessionId: string,
    body: HostBody,
    how: { stdin: boolean; delivered?: Delivered | undefined },
    signal?: AbortSignal,
  ): Promise<GuestProcess> {
    checkSessionId(sessionId);
    if (this.#processes.has(sessionId)) {
      throw new BulkheadError('ALREADY_EXISTS', `there is a session ${sessionId} already`);
    }
    const process = new GuestProcessImpl(this, sessionId, how);
    this.#processes.set(sessionId, process);
    try {
      await this.#requests.ask(body, {
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

  /** Takes up a session that another host began. */
  async attach(
    sessionId: string,
    from: { stdout: number; stderr: number },
    delivered?: Delivered,
  ): Promise<GuestProcess> {
    checkSessionId(sessionId);
    if (this.#processes.has(sessionId)) {
      throw new BulkheadError('ALREADY_EXISTS', `session ${sessionId} is attached already`);
    }
    // Whether it has a stdin is known by the guest alone; one that was closed merely takes nothing.
    const process = new GuestProcessImpl(this, sessionId, {
      ...{ stdin: true, from, adopted: true, delivered },
    });
    this.#processes.set(sessionId, process);
    try {
      await this.#requests.ask(process.attachRequest(), {
        expect: 'attached',
        onAnswer: (answer) => process.onAnswer(answer),
      });
      return process;
    } catch (error) {
      process.fail(error instanceof BulkheadError ? error : sessionLost(sessionId));
      throw error;
    }
  }

  /** Ends a session that nobody of this host has. */
  async end(sessionId: string): Promise<void> {
    checkSessionId(sessionId);
    if (this.#processes.has(sessionId)) return;
    await this.#requests.ask({ case: 'release', value: { sessionId } });
  }

  /** A message without a request id. Throws AGENT_PROTOCOL. */
  deliver(body: GuestMessage['body']): void {
    const sessionId = sessionOf(body);
    const process = sessionId === undefined ? undefined : this.#processes.get(sessionId);
    if (!process) throw protocolError('a message for no session of this host');
    process.onMessage(body);
  }

  /** Another connection to the same guest, which has the sessions `known`: each is taken up where it was. */
  resume(known: ReadonlySet<string>): void {
    for (const process of [...this.#processes.values()]) {
      if (known.has(process.sessionId)) this.#reattach(process);
      else if (process.state === 'releasing') process.finish();
      else if (process.state === 'live') process.fail(sessionLost(process.sessionId));
    }
  }

  #reattach(process: GuestProcessImpl): void {
    if (process.complete || process.state === 'releasing') return;
    const { sessionId } = process;
    const pending = this.#requests.find(
      ({ expect, body }) => (expect === 'started' || expect === 'attached') && sessionOf(body) === sessionId,
    );
    if (pending?.expect === 'started') {
      // Its start arrived, though the answer did not: the attach answers it.
      pending.body = process.attachRequest();
      pending.expect = 'attached';
    }
    if (pending) return;
    this.#requests
      .ask(process.attachRequest(), {
        expect: 'attached',
        resend: false,
        onAnswer: (answer) => process.onAnswer(answer),
      })
      .catch((error: unknown) => {
        // On yet another connection it is taken up again; without one the client's end tells it.
        if (isRefusal(error)) process.fail(sessionLost(sessionId));
      });
  }

  /** The connection broke. */
  detach(): void {
    for (const process of this.#processes.values()) process.onDetached();
  }

  fail(error: BulkheadError): void {
    for (const process of [...this.#processes.values()]) process.fail(error);
  }

  // ---- for processes

  post(body: HostBody): void {
    this.#requests.post(body);
  }

  ask(body: HostBody, options: { resend?: boolean } = {}): Promise<unknown> {
    return this.#requests.ask(body, options);
  }

  forget(sessionId: string): void {
    this.#processes.delete(sessionId);
  }

  /** Sends stdin while the channel takes it, one chunk per process in turn. */
  wake(): void {
    let idle = 0;
    while (this.#requests.writable && idle < this.#processes.size) {
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
