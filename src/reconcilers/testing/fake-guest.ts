// A guest as the agent contract shows it: one state per booted VM, and a connection per daemon process.
import { type Duplex, duplexPair, Readable } from 'node:stream';

import { BulkheadError } from '../../api/errors.ts';
import type {
  AgentHello,
  ExecRequest,
  GuestAgent,
  GuestFiles,
  GuestProcess,
  GuestStats,
  GuestVolume,
  GuestVolumeFile,
  GuestVolumeMount,
  OutputChunk,
  Personality,
  ProcessExit,
  RootMount,
  SessionInfo,
} from '../../guest/agent.ts';
import { type FakeFile, FakeGuestFiles } from './fake-guest-files.ts';
import type { Faults } from './faults.ts';
import type { FakeProcess } from './process.ts';

const GOOD_EXIT: ProcessExit = { exitCode: 0, signal: '', timedOut: false, oomKilled: false };

/** Output and end of one process in the guest. */
export class FakeSession {
  readonly request: ExecRequest;
  readonly pid: number;
  readonly chunks: { stream: 'stdout' | 'stderr'; offset: number; data: Uint8Array }[] = [];
  readonly ends = { stdout: 0, stderr: 0 };
  exit: ProcessExit | undefined;
  readonly #listeners = new Set<() => void>();

  constructor(request: ExecRequest, pid: number) {
    this.request = request;
    this.pid = pid;
  }

  write(stream: 'stdout' | 'stderr', text: string): void {
    const data = new TextEncoder().encode(text);
    this.chunks.push({ stream, offset: this.ends[stream], data });
    this.ends[stream] += data.byteLength;
    this.#changed();
  }

  end(exit: Partial<ProcessExit> = {}): void {
    this.exit ??= { ...GOOD_EXIT, ...exit };
    this.#changed();
  }

  /** Resolves at the next output or end. */
  change(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#listeners.delete(done);
        resolve();
      };
      this.#listeners.add(done);
    });
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

/** What lives in one booted VM. */
export class FakeGuest {
  readonly bootId: string;
  rootMounted: boolean;
  personalized = false;
  personality: Personality | undefined;
  /** How often a main process was begun in this boot: never more than once. */
  mainStarts = 0;
  clockSets = 0;
  /** Its root stands still. */
  frozen = false;
  /** As they were mounted last. */
  volumes: readonly GuestVolume[] = [];
  mounts: readonly GuestVolumeMount[] = [];
  /** Content of volumes of files: by volume, then by path. */
  readonly files = new Map<string, Map<string, string>>();
  /** Its root file system, by path. */
  readonly root = new Map<string, FakeFile>();
  /** What `stats` tells of its disks. */
  fileSystems: GuestStats['fileSystems'] = [];
  readonly sessions = new Map<string, FakeSession>();
  /** Called with each session but the main one. */
  onExec: (session: FakeSession) => void = () => {};
  /** What listens inside, by port. */
  readonly servers = new Map<number, (connection: Duplex) => void>();
  /** Called on a stop that was asked for. */
  onShutdown: (options: { graceMs: number; signal?: string }) => void = () => {};
  /** Resolves when the VM is gone. */
  readonly gone = Promise.withResolvers<void>();
  #pids = 1;
  #agents = new Set<FakeAgent>();

  constructor(bootId: string, rootMounted: boolean) {
    this.bootId = bootId;
    this.rootMounted = rootMounted;
  }

  get main(): FakeSession | undefined {
    return this.sessions.get('main');
  }

  begin(request: ExecRequest): FakeSession {
    if (this.sessions.has(request.sessionId)) {
      throw new BulkheadError('AGENT_PROTOCOL', `session ${request.sessionId} exists`);
    }
    this.#pids += 1;
    if (request.sessionId === 'main') this.mainStarts += 1;
    const session = new FakeSession(request, this.#pids);
    this.sessions.set(request.sessionId, session);
    if (request.sessionId !== 'main') this.onExec(session);
    return session;
  }

  connect(agent: FakeAgent): void {
    this.#agents.add(agent);
  }

  /** The channel breaks, or is there again. */
  setConnected(connected: boolean): void {
    for (const agent of this.#agents) agent.setConnected(connected);
  }

  /** The VM is gone. */
  die(): void {
    this.gone.resolve();
    this.setConnected(false);
  }
}

/** A daemon's connection to a guest. */
export class FakeAgent implements GuestAgent {
  readonly hello: AgentHello;
  readonly #guest: FakeGuest;
  readonly #process: FakeProcess;
  readonly #faults: Faults;
  readonly #listeners = new Set<(connected: boolean) => void>();
  readonly #closed = Promise.withResolvers<void>();
  #connected = true;

  constructor(guest: FakeGuest, process: FakeProcess, faults: Faults) {
    this.#guest = guest;
    this.#process = process;
    this.#faults = faults;
    const sessions: SessionInfo[] = [...guest.sessions].map(([sessionId, session]) => ({
      sessionId,
      pid: session.pid,
      running: session.exit === undefined,
      ...(session.exit === undefined ? {} : { exit: session.exit }),
    }));
    this.hello = {
      protocolVersion: 1,
      agentVersion: 'fake',
      features: [],
      kernelRelease: 'fake',
      bootId: guest.bootId,
      rootMounted: guest.rootMounted,
      personalized: guest.personalized,
      sessions,
    };
    guest.connect(this);
  }

  get connected(): boolean {
    return this.#connected;
  }

  setConnected(connected: boolean): void {
    if (this.#process.dead || this.#connected === connected) return;
    this.#connected = connected;
    for (const listener of this.#listeners) listener(connected);
  }

  onConnectionChange(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  mountRoot(_root: RootMount, signal?: AbortSignal): Promise<void> {
    return this.#call('mountRoot', signal, () => {
      if (this.#guest.rootMounted) throw new BulkheadError('AGENT_PROTOCOL', 'root is mounted already');
      this.#guest.rootMounted = true;
    });
  }

  personalize(personality: Personality, signal?: AbortSignal): Promise<void> {
    return this.#call('personalize', signal, () => {
      if (!this.#guest.rootMounted) throw new BulkheadError('AGENT_PROTOCOL', 'root is not mounted');
      this.#guest.personalized = true;
      this.#guest.personality = personality;
    });
  }

  mountVolumes(
    volumes: readonly GuestVolume[],
    mounts: readonly GuestVolumeMount[],
    signal?: AbortSignal,
  ): Promise<void> {
    return this.#call('mountVolumes', signal, () => {
      if (!this.#guest.rootMounted) throw new BulkheadError('AGENT_PROTOCOL', 'root is not mounted');
      this.#guest.volumes = volumes;
      this.#guest.mounts = mounts;
    });
  }

  writeVolumeFiles(volume: string, files: readonly GuestVolumeFile[], signal?: AbortSignal): Promise<void> {
    return this.#call('writeVolumeFiles', signal, () => {
      if (!this.#guest.volumes.some(({ name, source }) => name === volume && source.kind === 'files'))
        throw new BulkheadError('NOT_FOUND', `no volume of files ${volume}`);
      const contents = files.map(({ path, content }) => [path, Buffer.from(content).toString()] as const);
      this.#guest.files.set(volume, new Map(contents));
    });
  }

  setClock(): Promise<void> {
    return this.#call('setClock', undefined, () => {
      this.#guest.clockSets += 1;
    });
  }

  freezeRoot(_deadlineMs: number, signal?: AbortSignal): Promise<void> {
    return this.#call('freezeRoot', signal, () => {
      this.#guest.frozen = true;
    });
  }

  thawRoot(signal?: AbortSignal): Promise<void> {
    return this.#call('thawRoot', signal, () => {
      if (!this.#guest.frozen) throw new BulkheadError('INVALID', 'it is not frozen');
      this.#guest.frozen = false;
    });
  }

  exec(request: ExecRequest, signal?: AbortSignal): Promise<GuestProcess> {
    return this.#call('exec', signal, () => {
      if (!this.#guest.personalized) throw new BulkheadError('AGENT_PROTOCOL', 'the guest is nobody yet');
      return this.#attachment(this.#guest.begin(request), { stdout: 0, stderr: 0 });
    });
  }

  attach(sessionId: string, from: { stdout: number; stderr: number }): Promise<GuestProcess> {
    return this.#call('attach', undefined, () => {
      const session = this.#guest.sessions.get(sessionId);
      if (session === undefined) throw new BulkheadError('AGENT_PROTOCOL', `no session ${sessionId}`);
      return this.#attachment(session, from);
    });
  }

  dial({ port }: { port: number }, signal?: AbortSignal): Promise<Duplex> {
    return this.#call('dial', signal, () => {
      const serve = this.#guest.servers.get(port);
      if (serve === undefined) throw new BulkheadError('DIAL_FAILED', `port ${port}: Connection refused`);
      const [ours, theirs] = duplexPair();
      serve(theirs);
      return ours;
    });
  }

  endSession(sessionId: string): Promise<void> {
    return this.#call('endSession', undefined, () => {
      this.#guest.sessions.delete(sessionId);
    });
  }

  stats(signal?: AbortSignal): Promise<GuestStats> {
    return this.#call('stats', signal, () => ({
      uptimeSeconds: 1,
      cpu: { userSeconds: 1, systemSeconds: 1, idleSeconds: 1, iowaitSeconds: 0, stealSeconds: 0 },
      memory: { totalBytes: 2 ** 29, availableBytes: 2 ** 28, cachedBytes: 0 },
      load: [0, 0, 0],
      pressure: { cpuSomeAvg10: 0, memorySomeAvg10: 0, ioSomeAvg10: 0 },
      fileSystems: this.#guest.fileSystems,
      interfaces: [],
      processes: 1 + this.#guest.sessions.size,
    }));
  }

  get files(): GuestFiles {
    const { root } = this.#guest;
    return new FakeGuestFiles(root, (name, signal, work) => this.#call(name, signal, work));
  }

  shutdown(options: { graceMs: number; signal?: string }): Promise<void> {
    return this.#call('shutdown', undefined, () => this.#guest.onShutdown(options));
  }

  async close(): Promise<void> {
    this.#closed.resolve();
  }

  async #call<T>(name: string, signal: AbortSignal | undefined, work: () => T): Promise<T> {
    return this.#process.call(name, async () => {
      await this.#faults.pass(name, signal);
      if (!this.#connected) throw new BulkheadError('AGENT_UNREACHABLE', 'the guest does not answer');
      return work();
    });
  }

  #attachment(session: FakeSession, from: { stdout: number; stderr: number }): GuestProcess {
    const process = this.#process;
    const over = Promise.race([
      this.#closed.promise.then(() => true),
      this.#guest.gone.promise.then(() => true),
      process.death.then(() => true),
    ]);
    const exited = (async () => {
      while (session.exit === undefined) {
        if (await Promise.race([over, session.change().then(() => false)])) {
          await process.hear(Promise.resolve());
          throw new BulkheadError('AGENT_UNREACHABLE', 'the VM is gone');
        }
      }
      return process.hear(Promise.resolve(session.exit));
    })();
    exited.catch(() => {});
    return {
      sessionId: session.request.sessionId,
      pid: session.pid,
      stdout: Readable.from([]),
      stderr: Readable.from([]),
      exited,
      output: () => outputOf(session, from, over, process),
      signal: async (name) => session.end({ exitCode: 143, signal: name }),
      resize: async () => {},
      release: async () => {
        session.end({ exitCode: 137, signal: 'SIGKILL' });
        this.#guest.sessions.delete(session.request.sessionId);
      },
      acknowledge: () => {},
      stdinOffset: 0,
      stdinOpen: false,
    };
  }
}

async function* outputOf(
  session: FakeSession,
  from: { stdout: number; stderr: number },
  over: Promise<boolean>,
  process: FakeProcess,
): AsyncGenerator<OutputChunk> {
  let next = 0;
  for (;;) {
    const change = session.change();
    for (; next < session.chunks.length; next += 1) {
      const chunk = session.chunks[next];
      if (chunk === undefined) break;
      const skip = Math.max(0, from[chunk.stream] - chunk.offset);
      if (skip >= chunk.data.byteLength) continue;
      yield {
        stream: chunk.stream,
        offset: chunk.offset + skip,
        data: chunk.data.subarray(skip),
        lostBefore: 0,
      };
      await process.hear(Promise.resolve());
    }
    if (session.exit !== undefined) return;
    if (await Promise.race([over, change.then(() => false)])) {
      await process.hear(Promise.resolve());
      return;
    }
  }
}
