// The host's end of a session.
import { Readable, type Writable } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import type { Delivered, GuestProcess, OutputChunk, ProcessExit } from './agent.ts';
import type { HostBody } from './connection.ts';
import { protocolError } from './frames.ts';
import { type Attached, type GuestMessage, type SessionState, Stream } from './generated/agent_pb.js';
import { InputStream } from './input-stream.ts';
import { OUTPUT_WINDOW_BYTES } from './limits.ts';
import { safeCount, toProcessExit } from './messages.ts';
import { type OutputPiece, OutputStream } from './output-stream.ts';
import { signalNumber } from './signals.ts';

/** What a process needs of the connection. */
export interface ProcessLink {
  /** Sends at once when connected, else not at all. */
  post(body: HostBody): void;
  /** Asks and waits for Done, over reconnects. */
  ask(body: HostBody, options?: { resend?: boolean }): Promise<unknown>;
  /** There is stdin to send. */
  wake(): void;
  /** The guest has forgotten the session. */
  forget(sessionId: string): void;
}

type OutputName = OutputChunk['stream'];
/** `starting` until the guest has answered, `live` until the host releases it. */
type State = 'starting' | 'live' | 'releasing' | 'gone';

export class GuestProcessImpl implements GuestProcess {
  readonly sessionId: string;
  readonly exited: Promise<ProcessExit>;
  declare readonly stdin?: Writable;
  pid = 0;
  stdinOffset = 0;
  stdinOpen: boolean;
  state: State = 'starting';
  /** Of this connection. */
  attached = false;
  readonly input: InputStream | undefined;
  readonly #link: ProcessLink;
  readonly #streams: Record<OutputName, OutputStream>;
  readonly #readables = new Map<OutputName, Readable>();
  /** Those to which the end was given. */
  readonly #done = new Map<OutputName, Readable>();
  #sequence = 0;
  #exit: ProcessExit | undefined;
  #failure: BulkheadError | undefined;
  #resolveExit: (exit: ProcessExit) => void = () => {};
  #rejectExit: (error: Error) => void = () => {};
  #wakeReader: (() => void) | undefined;

  constructor(
    link: ProcessLink,
    sessionId: string,
    options: {
      stdin: boolean;
      from?: { stdout: number; stderr: number };
      adopted?: boolean;
      delivered?: Delivered | undefined;
    },
  ) {
    this.#link = link;
    this.sessionId = sessionId;
    this.input = options.stdin ? new InputStream(options.adopted === true, () => link.wake()) : undefined;
    if (this.input) this.stdin = this.input.writable;
    this.#streams = {
      stdout: new OutputStream(options.from?.stdout ?? 0, options.delivered === 'when-acknowledged'),
      stderr: new OutputStream(options.from?.stderr ?? 0, options.delivered === 'when-acknowledged'),
    };
    this.stdinOpen = options.stdin;
    this.exited = new Promise((resolve, reject) => {
      this.#resolveExit = resolve;
      this.#rejectExit = reject;
    });
    // Callers that only look at the output must not end the daemon by what nobody waited for.
    this.exited.catch(() => {});
  }

  get stdout(): Readable {
    return this.#readable('stdout');
  }
  get stderr(): Readable {
    return this.#readable('stderr');
  }

  /** Nothing more can come: it needs no place on another connection. */
  get complete(): boolean {
    return this.#exit !== undefined && this.#streams.stdout.ended && this.#streams.stderr.ended;
  }

  async *output(): AsyncGenerator<OutputChunk, void, undefined> {
    for (;;) {
      const stream = this.#oldest();
      if (stream) {
        const piece = this.#take(stream);
        if (piece) yield { stream, offset: piece.offset, data: piece.data, lostBefore: piece.lostBefore };
      } else if (this.#streams.stdout.finished && this.#streams.stderr.finished) {
        return;
      } else if (this.#failure) {
        throw this.#failure;
      } else {
        await new Promise<void>((resolve) => {
          this.#wakeReader = resolve;
        });
      }
    }
  }

  acknowledge(name: OutputName, offset: number, bytes: number): void {
    this.#streams[name].acknowledge(offset, bytes);
    this.#giveCredit(name);
  }

  async signal(name: string): Promise<void> {
    await this.#link.ask(
      { case: 'signal', value: { sessionId: this.sessionId, signal: signalNumber(name) } },
      { resend: false },
    );
  }

  async resize(size: { columns: number; rows: number }): Promise<void> {
    await this.#link.ask({ case: 'resize', value: { sessionId: this.sessionId, terminal: size } });
  }

  async release(): Promise<void> {
    if (this.state === 'gone') return;
    this.state = 'releasing';
    await this.#link.ask({ case: 'release', value: { sessionId: this.sessionId } });
    this.finish();
  }

  /** The guest has no such session any more. */
  finish(): void {
    this.state = 'gone';
    this.#link.forget(this.sessionId);
    this.#resolveExit(this.#exit ?? { exitCode: 137, signal: 'SIGKILL', timedOut: false, oomKilled: false });
    this.input?.close();
    for (const stream of Object.values(this.#streams)) stream.clear();
    this.#notify();
  }

  /** The VM, or the trust in it, is gone. */
  fail(error: BulkheadError): void {
    if (this.state === 'gone') return;
    this.state = 'gone';
    this.#failure = error;
    this.#link.forget(this.sessionId);
    this.#rejectExit(error);
    this.input?.close(error);
    this.#notify();
  }

  // ---- from the connection

  attachRequest(): HostBody {
    return {
      case: 'attach',
      value: {
        sessionId: this.sessionId,
        stdoutOffset: BigInt(this.#streams.stdout.received),
        stderrOffset: BigInt(this.#streams.stderr.received),
        stdoutCredit: this.#streams.stdout.reattach(),
        stderrCredit: this.#streams.stderr.reattach(),
      },
    };
  }

  /** The answer to the start or to an attach; over a reconnect the second may stand for the first. */
  onAnswer(answer: GuestMessage['body']): void {
    if (answer.case === 'started') {
      this.pid = answer.value.pid;
      this.input?.open(answer.value.stdinCredit);
    } else if (answer.case === 'attached') {
      const state = requireState(answer.value, this.sessionId);
      this.pid = state.pid;
      if (this.state === 'starting') {
        this.stdinOffset = safeCount(state.stdinOffset);
        this.stdinOpen = state.stdinOpen;
      }
      this.input?.reattach(safeCount(state.stdinOffset), answer.value.stdinCredit, state.stdinOpen);
      if (state.exit && !this.#exit) this.#ended(toProcessExit(state.exit));
    }
    this.attached = true;
    if (this.state === 'starting') this.state = 'live';
    this.#link.wake();
  }

  onDetached(): void {
    this.attached = false;
    this.input?.detach();
  }

  /** Output, ends, credit and exit. Throws AGENT_PROTOCOL. */
  onMessage(body: GuestMessage['body']): void {
    if (!this.attached) throw protocolError('output of a session that this connection did not ask for');
    switch (body.case) {
      case 'output':
        this.#stream(body.value.stream).push(safeCount(body.value.offset), body.value.data, this.#sequence++);
        break;
      case 'outputEnd':
        this.#stream(body.value.stream).end(safeCount(body.value.offset));
        break;
      case 'stdinCredit':
        if (!this.input) throw protocolError('credit for a stdin that does not exist');
        if (body.value.bytes === 0) throw protocolError('an empty grant');
        if (this.#exit === undefined) {
          this.input.acknowledge(safeCount(body.value.acknowledged));
          this.input.grant(body.value.bytes);
        }
        this.#link.wake();
        return;
      case 'exited':
        if (this.#exit || !body.value.status) throw protocolError('a second end of a process');
        this.#ended(toProcessExit(body.value.status));
        return;
      default:
        throw protocolError('a message that no session has');
    }
    this.#notify();
  }

  #ended(exit: ProcessExit): void {
    this.#exit = exit;
    this.input?.close();
    this.#resolveExit(exit);
    this.#notify();
  }

  #stream(stream: Stream): OutputStream {
    if (stream === Stream.STDOUT) return this.#streams.stdout;
    if (stream === Stream.STDERR) return this.#streams.stderr;
    throw protocolError('output on a stream that is none');
  }

  // ---- readers

  #oldest(): OutputName | undefined {
    const { stdout, stderr } = this.#streams;
    if (!stdout.first) return stderr.first ? 'stderr' : undefined;
    return !stderr.first || stdout.first.sequence < stderr.first.sequence ? 'stdout' : 'stderr';
  }

  #take(name: OutputName): OutputPiece | undefined {
    const piece = this.#streams[name].shift();
    this.#giveCredit(name);
    return piece;
  }

  #giveCredit(name: OutputName): void {
    const credit = this.attached ? this.#streams[name].takeCredit() : undefined;
    if (credit === undefined) return;
    this.#link.post({
      case: 'credit',
      value: {
        sessionId: this.sessionId,
        stream: name === 'stdout' ? Stream.STDOUT : Stream.STDERR,
        acknowledged: BigInt(credit.acknowledged),
        bytes: credit.bytes,
      },
    });
  }

  #notify(): void {
    const wake = this.#wakeReader;
    this.#wakeReader = undefined;
    wake?.();
    for (const name of this.#readables.keys()) this.#fill(name);
  }

  #readable(name: OutputName): Readable {
    let readable = this.#readables.get(name) ?? this.#done.get(name);
    if (!readable) {
      readable = new Readable({ highWaterMark: OUTPUT_WINDOW_BYTES / 4, read: () => this.#fill(name) });
      readable.on('error', () => {});
      this.#readables.set(name, readable);
    }
    return readable;
  }

  #fill(name: OutputName): void {
    const readable = this.#readables.get(name);
    const stream = this.#streams[name];
    if (!readable || readable.destroyed || readable.readableEnded) return;
    while (stream.first && readable.readableLength < readable.readableHighWaterMark) {
      const piece = this.#take(name);
      if (piece) readable.push(piece.data);
    }
    if (stream.finished) {
      this.#readables.delete(name);
      this.#done.set(name, readable);
      readable.push(null);
    } else if (this.#failure && !stream.first) {
      readable.destroy(this.#failure);
    }
  }
}

function requireState(attached: Attached, sessionId: string): SessionState {
  if (attached.state?.sessionId !== sessionId) throw protocolError('the state of another session');
  return attached.state;
}

/** For a session of which the guest says that it does not exist. */
export function sessionLost(sessionId: string): BulkheadError {
  return new BulkheadError('AGENT_UNREACHABLE', `the guest that answers does not have session ${sessionId}`);
}
