// What is compared inside the lab: the bare floor, the peer, and this project with an open client.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, cpSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { connect, Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { SANDBOX_KIND } from '../../src/api/kinds.ts';
import type { StoredObject } from '../../src/api/meta.ts';
import { conditionsOf } from '../../src/cli/waiting.ts';
import { BulkheadClient } from '../../src/client/client.ts';
import { sandboxYaml, TestDaemon } from '../../test/e2e/daemon-harness.ts';

const CARRIED = '/carried';
const KERNEL = join(import.meta.dirname, '../../build/guest/vmlinux');
const LIBKRUN = join(import.meta.dirname, '../../build/libvmm/libkrun.so');
/** Every guest has one processor and this much memory. */
const MEMORY_MIB = 512;
const KERNEL_ARGUMENTS = 'console=hvc0 quiet panic=-1 reboot=k no-kvmapf';
const PEER_IMAGE = 'lab/bb:1';
const PEER_HOME = '/scratch/home/.microsandbox';
/** A floor guest that is not up yet does not accept; a dial that is never answered ends. */
const DIAL_PAUSE_MS = 5;
const ANSWER_LIMIT_MS = 500;
/** A start takes 5 s here on a quiet machine. */
const READY_LIMIT_MS = 180_000;
/** What is run in a sandbox for its first output. */
const HELLO = ['/bin/echo', 'hello'];

/** Resolves at the first bytes; rejects when the process ends before. */
async function firstOutput(child: ChildProcess, output: Readable | null): Promise<void> {
  assert.ok(output);
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`it ended with status ${code} before any output`);
  });
  await Promise.race([once(output, 'data'), ended]);
  ended.catch(() => undefined);
}

/** A pipe with a name: libkrun opens its console anew by path, which the sockets that Node gives its children refuse. */
function namedPipe(): number {
  const path = `/tmp/console-${crypto.randomUUID()}`;
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  rmSync(path);
  return fd;
}

interface Floor {
  process: ChildProcess;
  /** From its spawning, milliseconds of this process's clock. */
  began: number;
  firstOutput: Promise<void>;
}

function startFloor(word: 'once' | 'serve', socket: string[]): Floor {
  const machine = [LIBKRUN, KERNEL, join(CARRIED, 'floor.cpio'), `${MEMORY_MIB}`];
  const fd = namedPipe();
  const output = new Socket({ fd, readable: true, writable: false });
  const began = performance.now();
  const child = spawn(
    join(CARRIED, 'floor-launcher'),
    [...machine, `${KERNEL_ARGUMENTS} ${word}`, ...socket],
    { stdio: ['ignore', fd, 'inherit'] },
  );
  return { process: child, began, firstOutput: firstOutput(child, output).finally(() => output.destroy()) };
}

/** Milliseconds from the start of a floor VM to its first output. */
export async function floorToFirstOutput(): Promise<number> {
  const floor = startFloor('once', []);
  const ended = once(floor.process, 'exit');
  await floor.firstOutput;
  const elapsed = performance.now() - floor.began;
  await ended;
  return elapsed;
}

/** A floor VM that stays and answers bytes. */
export class FloorVm {
  readonly process: ChildProcess;
  readonly #socket: Socket;

  private constructor(process: ChildProcess, socket: Socket) {
    this.process = process;
    this.#socket = socket;
  }

  static async start(): Promise<FloorVm> {
    const path = `/tmp/floor-${crypto.randomUUID()}`;
    const floor = startFloor('serve', [path]);
    await floor.firstOutput;
    for (;;) {
      const socket = await dialFloor(path);
      if (socket !== undefined) return new FloorVm(floor.process, socket);
      await sleep(DIAL_PAUSE_MS);
    }
  }

  /** Milliseconds of a byte's way there and back; `x`: after a program was run. */
  async roundTrip(byte: 'p' | 'x'): Promise<number> {
    const began = performance.now();
    const answer = once(this.#socket, 'data');
    this.#socket.write(byte);
    await answer;
    return performance.now() - began;
  }

  async kill(): Promise<void> {
    this.#socket.destroy();
    const ended = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await ended;
  }
}

/** A connection that was made before the guest listened is never answered, so each must prove itself. */
async function dialFloor(path: string): Promise<Socket | undefined> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    socket.write('p');
    await once(socket, 'data', { signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
    return socket;
  } catch {
    socket.destroy();
    return undefined;
  }
}

/** The peer `msb`, from its npm package. Its only open interface is its command. */
export class Peer {
  readonly #environment: NodeJS.ProcessEnv;

  private constructor(environment: NodeJS.ProcessEnv) {
    this.#environment = environment;
  }

  static install(): Peer {
    mkdirSync(PEER_HOME, { recursive: true });
    cpSync(join(CARRIED, 'peer'), PEER_HOME, { recursive: true, verbatimSymlinks: true });
    const peer = new Peer({ ...process.env, PATH: `${PEER_HOME}/bin:${process.env.PATH}` });
    peer.command('load', '-q', '-i', join(CARRIED, 'image.tar'));
    return peer;
  }

  /** Runs a command of it to its end; its standard output. */
  command(...args: string[]): string {
    return execFileSync('msb', args, { env: this.#environment, encoding: 'utf8' });
  }

  /** Milliseconds of one command. */
  timed(...args: string[]): number {
    const began = performance.now();
    this.command(...args);
    return performance.now() - began;
  }

  async toFirstOutput(): Promise<number> {
    const began = performance.now();
    const args = ['run', '-q', '--no-tty', '--pull', 'never', PEER_IMAGE, '--', ...HELLO];
    const child = spawn('msb', args, { env: this.#environment, stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(child, 'exit');
    await firstOutput(child, child.stdout);
    const elapsed = performance.now() - began;
    await ended;
    return elapsed;
  }

  create(name: string): void {
    this.command('create', '-q', '--pull', 'never', '-n', name, PEER_IMAGE);
  }

  remove(name: string): void {
    this.command('rm', '-f', '-q', name);
  }
}

/** This project: a daemon on libkrun and an open client. */
export class Ours implements AsyncDisposable {
  readonly client: BulkheadClient;
  readonly daemon: TestDaemon;

  private constructor(daemon: TestDaemon) {
    this.daemon = daemon;
    this.client = new BulkheadClient({ socketPath: daemon.socket });
  }

  static async open(): Promise<Ours> {
    return new Ours(await TestDaemon.start());
  }

  /** Creates a sandbox; resolves when it is Ready. */
  async create(name: string): Promise<void> {
    const resources = { cpus: 1, memory: `${MEMORY_MIB}Mi`, disk: '256Mi' };
    await this.client.create(SANDBOX_KIND, 'default', JSON.parse(sandboxYaml(name, { resources })));
    await this.#until(name, (object) => conditionsOf(object).some(isReady));
  }

  async exec(name: string, command: string[]): Promise<string> {
    const stream = await this.client.exec('default', name, {
      ...{ command, stdin: false, stdout: true, stderr: true, tty: false },
    });
    const output = await text(stream.stdout);
    const { exitCode } = await stream.exited;
    assert.equal(exitCode, 0);
    return output;
  }

  /** Milliseconds from the request for a sandbox to the output of its first command. */
  async toFirstOutput(name: string): Promise<number> {
    const began = performance.now();
    await this.create(name);
    assert.equal(await this.exec(name, HELLO), 'hello\n');
    return performance.now() - began;
  }

  async remove(name: string): Promise<void> {
    await this.client.delete(SANDBOX_KIND, 'default', name);
    await this.#until(name, undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close();
    await this.daemon[Symbol.asyncDispose]();
  }

  /** Resolves at the first state of the object that is as asked, or with its deletion. */
  async #until(name: string, reached: ((object: StoredObject) => boolean) | undefined): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(READY_LIMIT_MS)]);
    const query = { namespace: 'default', fieldSelector: `metadata.name=${name}`, signal };
    try {
      for await (const { type, object } of this.client.watch(SANDBOX_KIND, query)) {
        if (type === 'DELETED' && reached === undefined) return;
        if (type !== 'BOOKMARK' && reached?.(object) === true) return;
      }
      throw new Error(`the watch of ${name} ended`);
    } finally {
      stop.abort();
    }
  }
}

const isReady = (condition: { type: string; status: string }): boolean =>
  condition.type === 'Ready' && condition.status === 'True';
