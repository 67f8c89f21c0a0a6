// The QEMU process that is the lab host: emulated SVM gives it a /dev/kvm on machines without one. Nothing here uses the
// /dev/kvm of the machine below. A snapshot fits only the machine it was saved from, so there is one list of devices.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { dialUnix } from '../../src/vmm/dial.ts';
import { HostError, type HostLibrary } from '../../src/vmm/ffi.ts';
import { QmpClient } from '../../src/vmm/software/qmp.ts';

/** Room for six VMs of 512 MiB that are used, or thirty idle ones. Pages that nobody touched cost nothing. */
const MEMORY_MIB = 4096;
/** The emulated SVM kills hosts with two processors far more often, and is no faster with them. */
const PROCESSORS = 1;
/** What QEMU may keep translated. The kernel, Node and guests together fill the default over and over. */
const TRANSLATION_CACHE_MIB = 512;
/** Five-level paging and protection keys make each nested fault longer and are used by nothing here. */
const CPU = 'max,+svm,-la57,-pku';
const STATE_FD = 3;
const DIAL_PAUSE_MS = 2;

/** The files of the lab host itself, from host-image.sh. */
export interface HostFiles {
  kernel: string;
  initramfs: string;
  root: string;
}

/** The disks of one run, in the order in which the lab host sees them behind its root. */
export interface RunDisks {
  project: string;
  modules: string;
  carried: string;
  scratch: string;
}

/** Where the memory comes from: nothing (boots), a file to be saved to (boots), a saved state (is restored, copy on write). */
export type MachineStart =
  | { kind: 'boot' }
  | { kind: 'boot-to-save'; memory: string }
  | { kind: 'restore'; memory: string; state: string };

function drive(name: string, file: string, access: 'readonly' | 'writable'): string[] {
  // What a run writes is thrown away with the run: nothing waits for the machine's disk.
  const options = access === 'readonly' ? 'readonly=on,file.locking=off' : 'cache=unsafe,discard=unmap';
  return [
    ...['-drive', `if=none,id=${name},file=${file},format=raw,${options}`],
    ...['-device', `virtio-blk-pci,drive=${name}`],
  ];
}

function port(name: string, socket: string): string[] {
  return [
    ...['-chardev', `socket,id=${name},path=${socket},server=on,wait=off`],
    ...['-device', `virtserialport,chardev=${name},name=lab.${name}`],
  ];
}

function memoryOptions(start: MachineStart): string {
  const size = `id=ram,size=${MEMORY_MIB}M`;
  switch (start.kind) {
    case 'boot':
      return `memory-backend-ram,${size}`;
    case 'boot-to-save':
      return `memory-backend-file,${size},mem-path=${start.memory},share=on`;
    case 'restore':
      return `memory-backend-file,${size},mem-path=${start.memory},share=off`;
  }
}

function commandLine(dir: string, host: HostFiles, disks: RunDisks, start: MachineStart, tscKhz: number) {
  const kernel = [
    ...['console=ttyS0', 'quiet', 'loglevel=4', 'mitigations=off', 'audit=0', 'nokaslr'],
    // The counter passes through from the machine below; measuring it in emulation fails at random.
    ...[`tsc_early_khz=${tscKhz}`, 'tsc=reliable', 'clocksource=tsc'],
    // The kernel's own crash must end QEMU, or it looks like a test that hangs.
    ...['panic=-1', 'oops=panic'],
  ];
  return [
    ...['-M', 'q35,memory-backend=ram,vmport=off', '-object', memoryOptions(start)],
    ...['-accel', `tcg,thread=multi,tb-size=${TRANSLATION_CACHE_MIB}`, '-cpu', CPU],
    ...['-m', `${MEMORY_MIB}`, '-smp', `${PROCESSORS}`, '-rtc', 'base=utc'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-kernel', host.kernel, '-initrd', host.initramfs, '-append', kernel.join(' ')],
    ...drive('root', host.root, 'readonly'),
    ...drive('project', disks.project, 'readonly'),
    ...drive('modules', disks.modules, 'readonly'),
    ...drive('carried', disks.carried, 'readonly'),
    ...drive('scratch', disks.scratch, 'writable'),
    ...['-device', 'virtio-serial-pci', '-device', 'virtio-rng-pci'],
    ...port('agent', join(dir, 'agent')),
    ...port('heartbeat', join(dir, 'heartbeat')),
    ...['-serial', `file:${join(dir, 'console')}`, '-qmp', `unix:${join(dir, 'qmp')},server=on,wait=off`],
    ...(start.kind === 'restore' ? ['-incoming', 'defer'] : []),
  ];
}

/** A QEMU process with its sockets (`agent`, `heartbeat`, `qmp`) and its `console` file in `dir`. */
export class Machine {
  readonly dir: string;
  /** Descriptor number of the saved state in QEMU. */
  readonly stateFd = STATE_FD;
  /** Resolves when QEMU is gone, with how it ended. */
  readonly ended: Promise<string>;
  readonly #library: HostLibrary;
  readonly #process: ChildProcess;

  private constructor(library: HostLibrary, dir: string, process: ChildProcess) {
    this.#library = library;
    this.dir = dir;
    this.#process = process;
    this.ended = once(process, 'exit').then(([code, signal]) =>
      signal === null ? `QEMU ended with status ${code}` : `QEMU was ended by ${signal}`,
    );
  }

  static async start(
    library: HostLibrary,
    dir: string,
    host: HostFiles,
    disks: RunDisks,
    start: MachineStart,
  ): Promise<Machine> {
    const stateFd = start.kind === 'restore' ? openSync(start.state, 'r') : undefined;
    try {
      const qemu = ['qemu-system-x86_64', ...commandLine(dir, host, disks, start, await library.tscKhz())];
      // However this process ends, its lab hosts end with it.
      const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...qemu], {
        stdio: ['ignore', 'ignore', 'inherit', ...(stateFd === undefined ? [] : [stateFd])],
      });
      await once(child, 'spawn');
      return new Machine(library, dir, child);
    } finally {
      if (stateFd !== undefined) closeSync(stateFd);
    }
  }

  /** Connects to one of its sockets, which QEMU has yet to make. */
  async dial(name: 'agent' | 'heartbeat', signal: AbortSignal): Promise<Socket> {
    return (await this.#dial(name, signal)).socket;
  }

  async qmp(signal: AbortSignal): Promise<QmpClient> {
    return QmpClient.connect(this.#library, await this.#dial('qmp', signal), signal);
  }

  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.ended;
  }

  async #dial(name: string, signal: AbortSignal) {
    for (;;) {
      try {
        return await dialUnix(this.#library, join(this.dir, name), signal);
      } catch (error) {
        if (!(error instanceof HostError)) throw error;
        if (this.#process.exitCode !== null || this.#process.signalCode !== null)
          throw new Error(await this.ended);
        await sleep(DIAL_PAUSE_MS, undefined, { signal });
      }
    }
  }
}
