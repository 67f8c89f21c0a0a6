// Runs the product as its users do: bin/bulkhead, a state directory, a folder of manifests. Nothing is faked.
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdir, mkdtemp, open, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TEST_DRIVER } from './test-driver.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const BULKHEAD = join(PROJECT, 'bin', 'bulkhead');
const NODE = join(PROJECT, 'node_modules', '.bin', 'node');

/** Reference of the image that tools/builtin-image.ts makes. */
export const BUILTIN_IMAGE = 'bulkhead.local/busybox:latest';

/** Long enough for a cold boot on a loaded machine without hardware virtualisation. */
export const READY_TIMEOUT = '180s';

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** What a host has of ours at one moment; compared before and after to find leaks. */
export interface HostResources {
  processes: string[];
  cgroups: string[];
  mounts: string[];
}

/** One daemon with a state directory and a manifests folder of its own. Disposing it stops and removes everything. */
export class TestDaemon {
  readonly root: string;
  readonly manifests: string;
  readonly stateDir: string;
  readonly socket: string;
  #process: ChildProcess | undefined;

  readonly #prefix: readonly string[];

  private constructor(root: string, prefix: readonly string[]) {
    this.#prefix = prefix;
    this.root = root;
    this.manifests = join(root, 'manifests');
    this.stateDir = join(root, 'state');
    this.socket = join(root, 'bulkhead.sock');
  }

  /**
   * Starts a daemon on an empty folder, with the built-in image loaded unless `image` is false; `prefix` is the command that runs
   * it, as nsenter.
   */
  static async start(
    options: { extraArgs?: string[]; prefix?: readonly string[]; image?: false } = {},
  ): Promise<TestDaemon> {
    assert.equal(process.getuid?.(), 0, 'end-to-end tests start VMs in their jails and need root');
    const daemon = new TestDaemon(await mkdtemp(join(tmpdir(), 'bulkhead-e2e-')), options.prefix ?? []);
    await mkdir(daemon.manifests);
    await daemon.launch(options.extraArgs);
    if (options.image === false) return daemon;
    const image = join(daemon.root, 'busybox');
    await run(NODE, ['tools/builtin-image.ts', image], { cwd: PROJECT });
    await daemon.ok('image', 'load', image);
    return daemon;
  }

  get pid(): number {
    const pid = this.#process?.pid;
    assert.ok(pid !== undefined, 'the daemon is not running');
    return pid;
  }

  /** Starts the daemon process; resolves when it answers. */
  async launch(extraArgs: string[] = []): Promise<void> {
    const log = await open(join(this.root, 'daemon.log'), 'a');
    const args = ['daemon', '--manifests', this.manifests, '--metrics-address', '127.0.0.1:0', ...extraArgs];
    const [command = BULKHEAD, ...rest] = [...this.#prefix, BULKHEAD, ...args];
    const child = spawn(command, rest, { env: this.#environment(), stdio: ['ignore', log.fd, log.fd] });
    this.#process = child;
    await log.close();
    const exited = once(child, 'exit').then(() => 'exited' as const);
    for (;;) {
      const answer = await Promise.race([exited, this.cli('version', '--output', 'json')]);
      if (answer === 'exited') throw new Error(`the daemon ended at start:\n${this.log().slice(-4000)}`);
      if (answer.code === 0 && /"server"/.test(answer.stdout)) return;
    }
  }

  /** SIGKILL, as a crash would; VMs are left as they are. */
  async crash(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGTERM, as systemd would; VMs are left as they are. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  /** Writes a manifest as an editor does: temporary name, then rename. */
  async write(file: string, content: string): Promise<void> {
    const temporary = join(this.manifests, `.${file}.tmp`);
    await writeFile(temporary, content);
    await rename(temporary, join(this.manifests, file));
  }

  async remove(file: string): Promise<void> {
    await rm(join(this.manifests, file));
  }

  /** Runs a command of the CLI; never rejects for an exit code. */
  cli(...args: string[]): Promise<CliResult> {
    return this.cliWithInput(undefined, ...args);
  }

  cliWithInput(input: string | undefined, ...args: string[]): Promise<CliResult> {
    return this.#run(BULKHEAD, args, input);
  }

  /** Runs a command of the CLI on a terminal of its own and types `input`; what it prints is in `stdout`. */
  onTerminal(args: string[], input: string): Promise<CliResult> {
    return this.#run('script', ['-qec', [BULKHEAD, ...args].join(' '), '/dev/null'], input);
  }

  async #run(command: string, args: string[], input: string | undefined): Promise<CliResult> {
    const child = spawn(command, args, { env: this.#environment() });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.stdin.on('error', () => undefined); // a command that reads no input may close it
    child.stdin.end(input);
    const [code] = (await once(child, 'close')) as [number | null];
    return {
      code: code ?? -1,
      stdout: Buffer.concat(stdout).toString(),
      stderr: Buffer.concat(stderr).toString(),
    };
  }

  /** A command that must succeed; its standard output. */
  async ok(...args: string[]): Promise<string> {
    const result = await this.cli(...args);
    assert.equal(
      result.code,
      0,
      `bulkhead ${args.join(' ')} failed\n${result.stdout}${result.stderr}\n--- daemon log\n${this.log().slice(-3000)}`,
    );
    return result.stdout;
  }

  /** Starts a command and leaves it to the caller. */
  spawnCli(...args: string[]): ChildProcess {
    return spawn(BULKHEAD, args, { env: this.#environment() });
  }

  async waitReady(name: string): Promise<void> {
    await this.ok('wait', `sandbox/${name}`, '--for=condition=Ready', '--timeout', READY_TIMEOUT);
  }

  async waitGone(name: string): Promise<void> {
    await this.ok('wait', `sandbox/${name}`, '--for=delete', '--timeout', READY_TIMEOUT);
  }

  async get(name: string): Promise<{ metadata: { uid: string }; status: SandboxStatusView }> {
    return JSON.parse(await this.ok('get', 'sandbox', name, '-o', 'json'));
  }

  /** The gateway outlives daemons: whose child it is says nothing. */
  get gatewayPid(): number {
    const record = readFileSync(join(this.stateDir, 'network', 'gateway.json'), 'utf8');
    return (JSON.parse(record) as { pid: number }).pid;
  }

  log(): string {
    const file = join(this.root, 'daemon.log');
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of readdirSync(this.manifests)) await rm(join(this.manifests, file), { recursive: true });
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) await this.launch();
    await this.cli('delete', 'sandbox', '--all', '--timeout', READY_TIMEOUT);
    await this.stop();
    await rm(this.root, { recursive: true, force: true });
  }

  #environment(): NodeJS.ProcessEnv {
    const paths = { BULKHEAD_STATE_DIR: this.stateDir, BULKHEAD_SOCKET: this.socket };
    return { ...process.env, ...paths, BULKHEAD_DRIVER: TEST_DRIVER };
  }
}

/** The part of a Sandbox's status that the tests read. */
export interface SandboxStatusView {
  phase: string;
  restarts?: number;
  vm?: { pid: number; driver: string; startedAt: string; bootMilliseconds?: number };
  conditions: { type: string; status: string; reason: string; message: string }[];
  lastTermination?: { exitCode: number; signal: string; reason: string; message: string };
}

/** A Sandbox document; `spec` lines are indented by two blanks. */
export function sandboxYaml(name: string, spec: Record<string, unknown> = {}): string {
  return `${JSON.stringify({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name },
    spec: { image: BUILTIN_IMAGE, resources: { cpus: 1, memory: '128Mi', disk: '256Mi' }, ...spec },
  })}\n`;
}

/**
 * Everything on this host that belongs to VMs under `stateDir`: supervisors that hold a file of it open, their VMMs, and
 * cgroups of these or, without a process, of the sandboxes with the given uids. What other daemons on the host run or leave
 * does not count.
 */
export function hostResources(stateDir: string, uids: ReadonlySet<string> = new Set()): HostResources {
  const pids = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry));
  const supervisors = new Set(
    pids.filter(
      (pid) =>
        nameOf(pid) === 'bulkhead-vmm' && openFilesOf(pid).some((file) => file.startsWith(`${stateDir}/`)),
    ),
  );
  const ours = new Set(pids.filter((pid) => supervisors.has(pid) || supervisors.has(parentOf(pid))));
  const cgroups: string[] = [];
  const walk = (dir: string): void => {
    for (const entry of readDirIfThere(dir)) {
      const path = join(dir, entry);
      if (entry === 'bulkhead') {
        for (const uid of readDirIfThere(path).filter(isUid)) {
          const members = readIfThere(join(path, uid, 'cgroup.procs'))
            .split('\n')
            .filter(Boolean);
          const left = members.length === 0 && uids.has(uid);
          if (left || members.some((pid) => ours.has(pid))) cgroups.push(join(path, uid));
        }
      } else if (dir.split('/').length < 5 && !entry.includes('.')) walk(path);
    }
  };
  walk('/sys/fs/cgroup');
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(stateDir));
  return { processes: [...ours].map((pid) => `${pid} ${nameOf(pid)}`), cgroups, mounts };
}

/** Name of a process; empty when it is gone. */
export const nameOf = (pid: string): string => readIfThere(`/proc/${pid}/comm`).trim();

/** Words of a process's command line; none when it is gone. */
export const cmdlineOf = (pid: string): string[] => readIfThere(`/proc/${pid}/cmdline`).split('\0');

/** Parent of a process, from the fields after its name in parentheses. */
export const parentOf = (pid: string): string =>
  readIfThere(`/proc/${pid}/stat`).split(') ').at(-1)?.split(' ')[1] ?? '';

/** Paths of the files that a process has open; those it closes meanwhile may be missing. */
export function openFilesOf(pid: string): string[] {
  return readDirIfThere(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}

const isUid = (name: string): boolean => /^[0-9a-f]{8}-[0-9a-f]{4}-/.test(name);

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the process ended between the listing and the reading
  }
}

function readDirIfThere(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // not a directory, or gone
  }
}

async function run(command: string, args: string[], options: { cwd: string }): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    execFile(command, args, options, (error, _stdout, stderr) =>
      error === null
        ? resolve()
        : reject(new Error(`${command} ${args.join(' ')}: ${stderr}`, { cause: error })),
    );
  });
}
