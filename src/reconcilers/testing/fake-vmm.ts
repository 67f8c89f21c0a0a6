// VMs that exist only in memory, with the rules of real ones: one per directory, alive after their daemon's death.
import { stat } from 'node:fs/promises';
import { Duplex } from 'node:stream';

import { BulkheadError } from '../../api/errors.ts';
import type { Clock } from '../../controller/clock.ts';
import type { GuestAgent } from '../../guest/agent.ts';
import type {
  DriverName,
  ProbeResult,
  VmConfig,
  VmExit,
  VmHandle,
  VmmDriver,
  VmStall,
} from '../../vmm/driver.ts';
import { FakeAgent, FakeGuest } from './fake-guest.ts';
import type { FakeFile } from './fake-guest-files.ts';
import type { Faults } from './faults.ts';
import type { FakeProcess } from './process.ts';

/** One running VM. */
interface FakeVm {
  config: VmConfig;
  pid: number;
  startedAt: Date;
  guest: FakeGuest;
  exit: PromiseWithResolvers<VmExit>;
  ended: boolean;
  stall: VmStall | undefined;
  stallListeners: Set<() => void>;
}

/** The machine on which daemons come and go. */
export class FakeHost {
  readonly clock: Clock;
  readonly faults: Faults;
  /** How a guest behaves when it is asked to stop: it reboots at once unless a test says otherwise. */
  stubborn = false;
  /** Templates are restored: the root is mounted already. */
  warm = false;
  /** Told of each guest before anybody reaches it. */
  onBoot: (guest: FakeGuest) => void = () => {};
  /** Told of each VM that begins to run, and of each that ends. */
  onChange: (change: 'started' | 'ended', config: VmConfig) => void = () => {};
  /** What is in the root of every guest when it boots. */
  image: ReadonlyMap<string, FakeFile> = new Map();
  /** VMs have networks. */
  networked = false;
  /** VMs ever started, by directory. */
  readonly starts = new Map<string, number>();
  /** Directories that hold something beside their files: what `release` gives back. */
  readonly residue = new Set<string>();
  readonly #vms = new Map<string, FakeVm>();
  /** The same by id: among ten thousand, looking for one in turn is what would be measured. */
  readonly #guests = new Map<string, FakeGuest>();
  readonly #exits = new Map<string, VmExit>();
  #pids = 1000;

  constructor(clock: Clock, faults: Faults) {
    this.clock = clock;
    this.faults = faults;
  }

  /** Directories with a running VM. */
  get running(): string[] {
    return [...this.#vms.keys()];
  }

  vm(dir: string): FakeVm | undefined {
    return this.#vms.get(dir);
  }

  guest(dir: string): FakeGuest | undefined {
    return this.#vms.get(dir)?.guest;
  }

  guestOf(id: string): FakeGuest | undefined {
    return this.#guests.get(id);
  }

  lastExit(dir: string): VmExit | undefined {
    return this.#exits.get(dir);
  }

  forgetExit(dir: string): void {
    this.#exits.delete(dir);
  }

  boot(config: VmConfig): FakeVm {
    const { dir } = config;
    if (this.#vms.has(dir)) {
      throw new BulkheadError('VM_ALREADY_RUNNING', `the directory ${dir} is locked by a running VM`);
    }
    this.#pids += 1;
    this.starts.set(dir, (this.starts.get(dir) ?? 0) + 1);
    this.residue.add(dir);
    const vm: FakeVm = {
      config,
      pid: this.#pids,
      startedAt: new Date(this.clock.now()),
      guest: new FakeGuest(`boot-${this.#pids}`, this.warm),
      exit: Promise.withResolvers<VmExit>(),
      ended: false,
      stall: undefined,
      stallListeners: new Set(),
    };
    for (const [path, file] of this.image) vm.guest.root.set(path, { ...file });
    vm.guest.onShutdown = () => {
      if (!this.stubborn) this.end(dir, { kind: 'clean', message: 'The guest rebooted.' });
    };
    this.onBoot(vm.guest);
    this.#vms.set(dir, vm);
    this.#guests.set(config.id, vm.guest);
    this.onChange('started', config);
    return vm;
  }

  /** The VM of a directory ends, as its supervisor records it. */
  end(dir: string, exit: Partial<VmExit> & { kind: VmExit['kind'] }): void {
    const vm = this.#vms.get(dir);
    if (vm === undefined) return;
    this.#vms.delete(dir);
    this.#guests.delete(vm.config.id);
    vm.ended = true;
    this.onChange('ended', vm.config);
    const finished: VmExit = { message: '', finishedAt: new Date(this.clock.now()), ...exit };
    this.#exits.set(dir, finished);
    vm.exit.resolve(finished);
    vm.guest.die();
  }

  crash(dir: string): void {
    this.end(dir, { kind: 'crashed', exitCode: 1, message: 'Kernel panic - not syncing: test' });
  }

  /** The host stops the VM where it stands, or lets it go on. */
  stall(dir: string, stall: VmStall | undefined): void {
    const vm = this.#vms.get(dir);
    if (vm === undefined) return;
    vm.stall = stall;
    for (const listener of vm.stallListeners) listener();
  }

  /** The host restarts: every VM is gone without a record. */
  powerCut(): void {
    for (const dir of this.running) {
      this.end(dir, { kind: 'lost', message: 'It is gone and left no record.' });
    }
  }
}

/** A driver in one daemon process, over a host that outlives it. */
export class FakeVmmDriver implements VmmDriver {
  readonly name: DriverName = 'software';
  readonly #host: FakeHost;
  readonly #process: FakeProcess;

  constructor(host: FakeHost, process: FakeProcess) {
    this.#host = host;
    this.#process = process;
  }

  async probe(): Promise<ProbeResult> {
    return { usable: true, message: 'It is a fake.' };
  }

  start(config: VmConfig, signal: AbortSignal): Promise<VmHandle> {
    return this.#process.call('driver.start', async () => {
      await this.#host.faults.pass('start', signal);
      if (!(await isDirectory(config.dir))) {
        throw new BulkheadError('VM_START_FAILED', `there is no directory ${config.dir}`);
      }
      const handle = this.#handle(this.#host.boot(config));
      await this.#host.faults.pass('started', signal).catch(async (error: unknown) => {
        // A start that fails leaves nothing behind.
        await handle.kill();
        throw error;
      });
      return handle;
    });
  }

  adopt(dir: string): Promise<VmHandle | undefined> {
    return this.#process.call('driver.adopt', async () => {
      await this.#host.faults.pass('adopt');
      const vm = this.#host.vm(dir);
      return vm === undefined ? undefined : this.#handle(vm);
    });
  }

  lastExit(dir: string): Promise<VmExit | undefined> {
    return this.#process.call('driver.lastExit', async () => this.#host.lastExit(dir));
  }

  release(dir: string): Promise<void> {
    return this.#process.call('driver.release', async () => {
      await this.#host.faults.pass('release');
      if (this.#host.vm(dir) !== undefined) {
        throw new BulkheadError('VM_ALREADY_RUNNING', 'released while it runs');
      }
      this.#host.residue.delete(dir);
      this.#host.forgetExit(dir);
    });
  }

  async close(): Promise<void> {}

  #handle(vm: FakeVm): VmHandle {
    const host = this.#host;
    return {
      id: vm.config.id,
      driver: this.name,
      pid: vm.pid,
      startedAt: vm.startedAt,
      launch: host.warm ? 'warm' : 'cold',
      stages: { spawn: 1 },
      limitations: [],
      ...(host.networked ? { networkHolder: { pid: vm.pid, startTime: '1' } } : {}),
      exited: this.#process.hear(vm.exit.promise),
      get stall() {
        return vm.stall;
      },
      onStallChange: (listener) => {
        vm.stallListeners.add(listener);
        return () => void vm.stallListeners.delete(listener);
      },
      dialAgent: async () => {
        if (vm.ended) throw new BulkheadError('SANDBOX_NOT_RUNNING', 'the VM has ended');
        return new Duplex();
      },
      stats: async () => ({
        cpuSeconds: 1,
        memoryBytes: 2 ** 20,
        memoryLimitBytes: vm.config.memoryBytes,
        diskReadBytes: 0,
        diskWriteBytes: 0,
        networkReceiveBytes: 0,
        networkTransmitBytes: 0,
        networkReceivePackets: 0,
        networkTransmitPackets: 0,
      }),
      kill: () =>
        this.#process.call('handle.kill', async () => {
          // Only the VM that this handle is of: a later one in the same directory lives on.
          if (!vm.ended) {
            host.end(vm.config.dir, { kind: 'killed', signal: 'SIGKILL', message: 'It was killed.' });
          }
        }),
      consoleTail: async () => '',
    };
  }
}

/** Connects a daemon process to the guests of a host. */
export function fakeConnect(host: FakeHost, process: FakeProcess) {
  return (handle: VmHandle, signal: AbortSignal): Promise<GuestAgent> =>
    process.call('connectGuest', async () => {
      await host.faults.pass('connect', signal);
      const guest = host.guestOf(handle.id);
      if (guest === undefined) throw new BulkheadError('AGENT_UNREACHABLE', 'no VM answers');
      return new FakeAgent(guest, process, host.faults);
    });
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
