// The gateway's process: found, started where there is none, and ended where it does not answer.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, sleep } from '../../controller/clock.ts';
import { HostError, type HostLibrary } from '../../vmm/ffi.ts';
import { GatewayClient } from './client.ts';

const MAIN = join(import.meta.dirname, 'main.ts');
/**
 * All that the process that works on guests' bytes may do as root: enter the namespace of a VM (sys_admin, and sys_ptrace as its
 * processes are of another user), rules and transparent sockets there (net_admin), raw ones for its echoes (net_raw), low ports that are published
 * (net_bind_service), and look for who has a port that is taken (dac_read_search).
 */
const CAPABILITIES = [
  'sys_admin',
  'sys_ptrace',
  'net_admin',
  'net_raw',
  'net_bind_service',
  'dac_read_search',
];
/** How often a killed process is looked at until it is gone. */
const DEATH_CHECK_MS = 10;

export interface GatewayProcessOptions {
  library: HostLibrary;
  clock: Clock;
  /** Where `make build` puts the native parts. */
  buildDir: string;
  /** Private to this user; holds the socket, the record and the log of the gateway. */
  dir: string;
}

/** Of the state directory: so one gateway for each daemon and the ones that follow it. */
export class GatewayProcess {
  readonly #options: GatewayProcessOptions;
  readonly #socket: string;
  readonly #record: string;

  constructor(options: GatewayProcessOptions) {
    this.#options = options;
    this.#socket = join(options.dir, 'gateway.sock');
    this.#record = join(options.dir, 'gateway.json');
  }

  /** To the gateway that runs, or to one that is started. Fails with NETWORK_UNAVAILABLE, or as the system says. */
  async connect(signal: AbortSignal): Promise<GatewayClient> {
    try {
      return await GatewayClient.connect(this.#socket);
    } catch {
      // None listens, or one that hangs or is of another version: its successor needs what it holds.
      await this.#endFormer(signal);
    }
    await this.#start();
    return GatewayClient.connect(this.#socket);
  }

  async #start(): Promise<void> {
    const { library, buildDir, dir } = this.#options;
    const listener = library.unixListen(this.#socket);
    const log = openSync(join(dir, 'gateway.log'), 'w', 0o600);
    try {
      const node = [process.execPath, '--disable-warning=ExperimentalWarning', MAIN, buildDir];
      const child = spawn(
        'prlimit',
        // A core dump would hold values of secrets.
        [
          '--core=0:0',
          'setpriv',
          `--bounding-set=-all,+${CAPABILITIES.join(',+')}`,
          '--no-new-privs',
          ...node,
        ],
        {
          // The fourth is LISTENER_FD.
          stdio: ['ignore', log, log, listener],
          detached: true,
          cwd: '/',
          env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
        },
      );
      // Whether it lives is seen by its connection alone.
      child.on('error', () => {});
      child.unref();
      if (child.pid !== undefined) await this.#remember(child.pid);
    } finally {
      closeSync(listener);
      closeSync(log);
    }
  }

  async #remember(pid: number): Promise<void> {
    let startTime: bigint;
    try {
      startTime = this.#options.library.processStartTime(pid);
    } catch (error) {
      if (error instanceof HostError) return; // it ended at once
      throw error;
    }
    const temporary = `${this.#record}.new`;
    await using file = await open(temporary, 'w', 0o600);
    await file.writeFile(JSON.stringify({ pid, startTime: String(startTime) }));
    await rename(temporary, this.#record);
  }

  async #endFormer(signal: AbortSignal): Promise<void> {
    const former = await readIdentity(this.#record);
    if (former === undefined) return;
    const { library, clock } = this.#options;
    const lives = (): boolean => {
      try {
        return library.processStartTime(former.pid) === former.startTime;
      } catch {
        return false;
      }
    };
    if (!lives()) return;
    try {
      const pidfd = library.pidfdOpen(former.pid, former.startTime);
      try {
        library.pidfdKill(pidfd, 'SIGKILL');
      } finally {
        closeSync(pidfd);
      }
    } catch (error) {
      if (!(error instanceof HostError)) throw error; // it ended meanwhile
    }
    while (lives() && !signal.aborted) await sleep(clock, DEATH_CHECK_MS, signal);
  }
}

async function readIdentity(path: string): Promise<{ pid: number; startTime: bigint } | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (typeof value !== 'object' || value === null || !('pid' in value) || !('startTime' in value))
      return undefined;
    const { pid, startTime } = value;
    if (typeof pid !== 'number' || typeof startTime !== 'string') return undefined;
    return { pid, startTime: BigInt(startTime) };
  } catch {
    return undefined; // there is none, or a crash cut it short
  }
}
