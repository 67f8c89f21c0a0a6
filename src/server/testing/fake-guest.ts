// A guest without a VM: commands are functions of this process.
import { PassThrough, type Readable, Writable } from 'node:stream';
import { BulkheadError } from '../../api/errors.ts';
import type {
  AgentHello,
  ExecRequest,
  GuestAgent,
  GuestProcess,
  OutputChunk,
  ProcessExit,
  SessionInfo,
} from '../../guest/agent.ts';
import { FakeFiles } from './fake-files.ts';

export const CLEAN_EXIT: ProcessExit = { exitCode: 0, signal: '', timedOut: false, oomKilled: false };

/** Less than the 256 KiB of a real one, as the last piece goes beyond it. */
const WINDOW_BYTES = 192 * 1024;

/** What a fake command can do. */
export interface CommandContext {
  request: ExecRequest;
  /** Input as it arrives; reading slowly holds the sender back. */
  stdin: Readable;
  /** Resolves when the host has taken the chunk. */
  out(data: string | Uint8Array, stream?: 'stdout' | 'stderr'): Promise<void>;
  /** Signals and sizes as they arrive. */
  signals: string[];
  sizes: { columns: number; rows: number }[];
  /** Resolves with the next signal. */
  nextSignal(): Promise<string>;
  nextSize(): Promise<{ columns: number; rows: number }>;
}

/** How a fake command ends; `outputGoesOn`: its streams do not end with it. */
export type FakeExit = Partial<ProcessExit> & { outputGoesOn?: boolean };

export type FakeCommand = (context: CommandContext) => Promise<FakeExit>;

export class FakeProcess implements GuestProcess {
  readonly sessionId: string;
  readonly pid = 42;
  readonly stdin?: Writable;
  readonly stdout = new PassThrough();
  readonly stderr = new PassThrough();
  readonly exited: Promise<ProcessExit>;
  readonly signals: string[] = [];
  readonly sizes: { columns: number; rows: number }[] = [];
  readonly released: Promise<void>;
  /** Bytes taken by the host. */
  taken = 0;
  #received = 0;
  #release: () => void;
  #end: (exit: ProcessExit) => void;
  #chunks: { chunk: OutputChunk; taken: () => void }[] = [];
  #done = false;
  /** Everything it put out, for a host that goes back. */
  readonly #history: OutputChunk[] = [];
  #lengths = { stdout: 0, stderr: 0 };
  /** What the host said is delivered. */
  readonly acknowledged = { stdout: 0, stderr: 0 };
  readonly #isAcknowledged: boolean;
  readonly #onAcknowledged: (() => void)[] = [];
  stdinOffset = 0;
  readonly stdinOpen: boolean;
  #wake: () => void = () => {};
  #signalWaiters: ((name: string) => void)[] = [];
  #sizeWaiters: ((size: { columns: number; rows: number }) => void)[] = [];

  constructor(request: ExecRequest, command: FakeCommand) {
    this.sessionId = request.sessionId;
    const { promise: exited, resolve: end } = Promise.withResolvers<ProcessExit>();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    this.exited = exited;
    this.released = released;
    this.#end = end;
    this.#release = release;
    const input = new PassThrough({ highWaterMark: 64 * 1024 });
    this.stdinOpen = request.stdin;
    this.#isAcknowledged = request.delivered === 'when-acknowledged';
    if (request.stdin) {
      this.stdin = new Writable({
        highWaterMark: 64 * 1024,
        write: (chunk: Buffer, _encoding, done) => {
          this.#received += chunk.length;
          if (input.write(chunk)) done();
          else input.once('drain', () => done());
        },
        final: (done) => {
          input.end();
          done();
        },
      });
    }
    const context: CommandContext = {
      request,
      stdin: input,
      signals: this.signals,
      sizes: this.sizes,
      out: (data, stream = 'stdout') => this.#out(Buffer.from(data), stream),
      nextSignal: () => new Promise((resolve) => this.#signalWaiters.push(resolve)),
      nextSize: () => new Promise((resolve) => this.#sizeWaiters.push(resolve)),
    };
    void command(context).then(({ outputGoesOn, ...exit }) => {
      if (!outputGoesOn) {
        this.#done = true;
        this.#wake();
      }
      end({ ...CLEAN_EXIT, ...exit });
    });
  }

  #out(data: Uint8Array, stream: 'stdout' | 'stderr'): Promise<void> {
    const chunk = { stream, offset: this.#lengths[stream], data, lostBefore: 0 };
    this.#lengths[stream] += data.byteLength;
    this.#history.push(chunk);
    const taken = new Promise<void>((resolve) => {
      this.#chunks.push({ chunk, taken: resolve });
      this.#wake();
    });
    return taken.then(() => this.#room(stream));
  }

  /** Of a process whose output is acknowledged: a guest sends one window ahead of that. */
  async #room(stream: 'stdout' | 'stderr'): Promise<void> {
    while (this.#isAcknowledged && this.#lengths[stream] - this.acknowledged[stream] > WINDOW_BYTES)
      await new Promise<void>((resolve) => this.#onAcknowledged.push(resolve));
  }

  acknowledge(stream: 'stdout' | 'stderr', offset: number): void {
    this.acknowledged[stream] = offset;
    for (const resolve of this.#onAcknowledged.splice(0)) resolve();
  }

  /** Another host takes it up. */
  rewind(from: { stdout: number; stderr: number }): void {
    this.stdinOffset = this.#received;
    this.#chunks = this.#history
      .filter(({ stream, offset, data }) => offset + data.byteLength > from[stream])
      .map(({ stream, offset, data }) => {
        const skip = Math.max(0, from[stream] - offset);
        const chunk = { stream, offset: offset + skip, data: data.subarray(skip), lostBefore: 0 };
        return { chunk, taken: () => {} };
      });
  }

  async *output(): AsyncGenerator<OutputChunk> {
    for (;;) {
      const next = this.#chunks.shift();
      if (next !== undefined) {
        yield next.chunk;
        this.taken += next.chunk.data.byteLength;
        next.taken();
      } else if (this.#done) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  async signal(name: string): Promise<void> {
    this.signals.push(name);
    for (const resolve of this.#signalWaiters.splice(0)) resolve(name);
  }

  async resize(size: { columns: number; rows: number }): Promise<void> {
    this.sizes.push(size);
    for (const resolve of this.#sizeWaiters.splice(0)) resolve(size);
  }

  async release(): Promise<void> {
    this.#end({ ...CLEAN_EXIT, exitCode: 137, signal: 'SIGKILL' });
    this.#done = true;
    this.#wake();
    this.#release();
  }
}

/** Runs the commands it was given; COMMAND_NOT_FOUND for any other. */
export class FakeAgent implements GuestAgent {
  /** Sessions that `attach` finds. */
  readonly hello = { sessions: [] as SessionInfo[] } as unknown as AgentHello;
  readonly connected = true;
  readonly files = new FakeFiles();
  readonly requests: ExecRequest[] = [];
  readonly processes: FakeProcess[] = [];
  readonly commands: Record<string, FakeCommand>;

  constructor(commands: Record<string, FakeCommand>) {
    this.commands = commands;
  }

  async exec(request: ExecRequest): Promise<FakeProcess> {
    this.requests.push(request);
    const name = request.argv[0] ?? '';
    const command = this.commands[name];
    if (command === undefined) throw new BulkheadError('COMMAND_NOT_FOUND', `no such command: ${name}`);
    const process = new FakeProcess(request, command);
    this.processes.push(process);
    return process;
  }

  async stats(): ReturnType<GuestAgent['stats']> {
    throw new BulkheadError('TIMEOUT', 'the fake guest has no figures');
  }

  onConnectionChange(): () => void {
    return () => {};
  }
  /** As after a restart of the daemon: those of before are the guest's alone. */
  noteSessions(): void {
    this.hello.sessions = this.processes.map(({ sessionId }) => ({ sessionId, pid: 42, running: true }));
  }

  async attach(sessionId: string, from: { stdout: number; stderr: number }): Promise<FakeProcess> {
    const process = this.processes.find((each) => each.sessionId === sessionId);
    if (process === undefined) throw new BulkheadError('NOT_FOUND', `there is no session ${sessionId}`);
    process.rewind(from);
    return process;
  }
  async endSession(): Promise<never> {
    throw new Error('not used by the server');
  }
  async mountRoot(): Promise<never> {
    throw new Error('not used by the server');
  }
  async personalize(): Promise<never> {
    throw new Error('not used by the server');
  }
  async mountVolumes(): Promise<never> {
    throw new Error('not used by the server');
  }
  async writeVolumeFiles(): Promise<never> {
    throw new Error('not used by the server');
  }
  async dial(): Promise<never> {
    throw new Error('not used by the server');
  }
  async setClock(): Promise<never> {
    throw new Error('not used by the server');
  }
  async freezeRoot(): Promise<never> {
    throw new Error('not used by the server');
  }
  async thawRoot(): Promise<never> {
    throw new Error('not used by the server');
  }
  async shutdown(): Promise<never> {
    throw new Error('not used by the server');
  }
  async close(): Promise<void> {}
}

/** The commands that most tests need. */
export const BASIC_COMMANDS: Record<string, FakeCommand> = {
  echo: async ({ request, out }) => {
    await out(`${request.argv.slice(1).join(' ')}\n`);
    return {};
  },
  exit: async ({ request }) => ({ exitCode: Number(request.argv[1]) }),
  fail: async ({ out }) => {
    await out('to stdout\n');
    await out('to stderr\n', 'stderr');
    return { exitCode: 3 };
  },
  killed: async () => ({ exitCode: 137, signal: 'SIGKILL' }),
  cat: async ({ stdin, out }) => {
    for await (const chunk of stdin as AsyncIterable<Buffer>) await out(chunk);
    return {};
  },
  env: async ({ request, out }) => {
    await out(`${request.env.join('\n')}\n`);
    return {};
  },
  /** Ends with the first signal, and tells it. */
  trap: async ({ out, nextSignal }) => {
    void out('ready\n');
    const name = await nextSignal();
    void out(`${name}\n`);
    return { exitCode: 9 };
  },
  /** Has ended, but the end of its output does not come. */
  lingering: async ({ out }) => {
    await out('x');
    return { exitCode: 7, outputGoesOn: true };
  },
  /** Tells the sizes of its terminal, the first and the next. */
  size: async ({ request, out, nextSize }) => {
    const text = ({ columns, rows }: { columns: number; rows: number }) => `${columns}x${rows}\n`;
    const next = nextSize();
    await out(request.tty ? text(request.tty) : 'no terminal\n');
    await out(text(await next));
    return {};
  },
};
