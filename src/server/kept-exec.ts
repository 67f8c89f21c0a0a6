// A resumable command: it goes on while its client is away, with the output that the client may not have received.
import { setTimeout as delay } from 'node:timers/promises';
import { type AckMessage, INPUT_WINDOW_BYTES } from '../api/channels.ts';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import type { GuestProcess, OutputChunk } from '../guest/agent.ts';
import { KeptOutput } from './kept-output.ts';
import { HANGUP_GRACE_MS } from './limits.ts';
import type { StreamProcess } from './stream-session.ts';

/** One client's connection to it. */
export interface KeptView extends StreamProcess {
  /** Aborts when another connection takes the command up. */
  readonly replaced: AbortSignal;
}

export class KeptExec {
  readonly #process: GuestProcess;
  readonly #resumeMs: number;
  readonly #forget: () => void;
  readonly #streams: Record<OutputChunk['stream'], KeptOutput>;
  readonly #over = new AbortController();
  #state: { type: 'running' } | { type: 'ended' } | { type: 'failed'; error: BulkheadError } = {
    type: 'running',
  };
  #wake: () => void = () => {};
  /** Of its stdin: what arrived here, and what of that the guest has been given. */
  #stdin: { arrived: number; taken: number };
  #view: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param forget called once it is over, whatever became of the command. */
  constructor(
    process: GuestProcess,
    from: { stdout: number; stderr: number },
    resumeMs: number,
    forget: () => void,
  ) {
    this.#process = process;
    this.#resumeMs = resumeMs;
    this.#forget = forget;
    this.#streams = {
      stdout: new KeptOutput('stdout', from.stdout),
      stderr: new KeptOutput('stderr', from.stderr),
    };
    this.#stdin = { arrived: process.stdinOffset, taken: process.stdinOffset };
    void this.#pump();
  }

  /** Takes it up for a client that has everything before `from`; a former client is replaced. Fails with BAD_REQUEST. */
  view(from: { stdout: number; stderr: number }): KeptView {
    for (const name of ['stdout', 'stderr'] as const)
      if (from[name] > this.#streams[name].end)
        throw new BulkheadError(
          'BAD_REQUEST',
          `the command has put out less than ${from[name]} bytes of ${name}`,
        );
    clearTimeout(this.#timer);
    this.#view?.abort();
    const view = new AbortController();
    this.#view = view;
    const process = this.#process;
    const stdin = process.stdinOpen ? process.stdin : undefined;
    const sent = { ...from };
    // What it acknowledged before may not have arrived, and nothing more would come.
    this.#acknowledge(from, sent);
    return {
      replaced: view.signal,
      pid: process.pid,
      ...(stdin === undefined ? {} : { stdin }),
      exited: process.exited,
      output: () => this.#output(sent, view.signal),
      signal: (name) => process.signal(name),
      resize: (size) => process.resize(size),
      resumable: {
        stdin: () => ({ ...this.#stdin, open: stdin !== undefined && !stdin.writableEnded }),
        write: (payload, onTaken) => this.#write(payload, onTaken),
        acknowledge: (offsets) => this.#acknowledge(offsets, sent),
      },
    };
  }

  /** False where there is more on its way than a client may send. What the command no longer takes counts as taken. */
  #write(payload: Buffer, onTaken: (taken: number) => void): boolean {
    const { stdin } = this.#process;
    this.#stdin.arrived += payload.length;
    // One window of this connection, and one that a former connection left here.
    if (this.#stdin.arrived - this.#stdin.taken > 2 * INPUT_WINDOW_BYTES) return false;
    const took = (): void => {
      this.#stdin.taken += payload.length;
      onTaken(this.#stdin.taken);
    };
    if (stdin === undefined || stdin.writableEnded || stdin.destroyed) took();
    else stdin.write(payload, took);
    return true;
  }

  /** The client of this view is gone: for good, where it said so or has seen the end. */
  async left(view: KeptView, forGood: boolean): Promise<void> {
    // Another one has it, or the daemon ends and leaves it to the next.
    if (view.replaced.aborted || this.#over.signal.aborted) return;
    this.#view = undefined;
    if (forGood) return this.#end();
    this.#timer = setTimeout(() => void this.#end(), this.#resumeMs);
  }

  /** The host side ends; the command is left to who comes after. */
  abandon(): void {
    clearTimeout(this.#timer);
    if (this.#over.signal.aborted) return;
    this.#over.abort();
    this.#forget();
  }

  /** Hangs up on what still runs, as a terminal would, and forgets it. */
  async #end(): Promise<void> {
    if (this.#over.signal.aborted) return;
    const process = this.#process;
    const exited = process.exited.catch(() => {});
    if (this.#state.type === 'running') {
      await process.signal('SIGHUP').catch(() => {});
      await Promise.race([exited, delay(HANGUP_GRACE_MS, undefined, { ref: false })]);
    }
    this.abandon();
    // Fails only where the guest is gone, and the session with it.
    await process.release().catch(() => {});
  }

  async #pump(): Promise<void> {
    let sequence = 0;
    try {
      for await (const chunk of this.#process.output()) {
        this.#streams[chunk.stream].push(chunk, sequence++);
        this.#wake();
      }
      this.#state = { type: 'ended' };
    } catch (error) {
      this.#state = { type: 'failed', error: asBulkheadError(error) };
      // A guest that answers again later still has it: then it is taken up anew.
      this.abandon();
      if (this.#state.error.code === 'AGENT_PROTOCOL') this.#process.release().catch(() => {});
    }
    this.#wake();
  }

  async *#output(sent: AckMessage, replaced: AbortSignal): AsyncGenerator<OutputChunk, void> {
    while (!replaced.aborted) {
      const chunk = this.#next(sent);
      if (chunk !== undefined) {
        sent[chunk.stream] = chunk.offset + chunk.data.byteLength;
        yield chunk;
      } else if (this.#state.type === 'failed') throw this.#state.error;
      else if (this.#state.type === 'ended') return;
      else {
        // There is one view at a time: the former one has no need to wake.
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#wake = resolve;
        await promise;
      }
    }
  }

  /** Of both streams what came first. */
  #next(sent: AckMessage): OutputChunk | undefined {
    const out = this.#streams.stdout.next(sent.stdout);
    const err = this.#streams.stderr.next(sent.stderr);
    if (out === undefined || err === undefined) return out ?? err;
    return out.sequence <= err.sequence ? out : err;
  }

  /** False where the client acknowledges what it was not sent. */
  #acknowledge(offsets: AckMessage, sent: AckMessage): boolean {
    if (offsets.stdout > sent.stdout || offsets.stderr > sent.stderr) return false;
    for (const name of ['stdout', 'stderr'] as const) {
      const { bytes, start } = this.#streams[name].drop(offsets[name]);
      if (bytes > 0) this.#process.acknowledge(name, start, bytes);
    }
    return true;
  }
}
