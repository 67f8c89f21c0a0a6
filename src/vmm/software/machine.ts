// One QEMU process in its jail: descriptors, cgroups, host user, launch. Cold boots, templates and clones all go through here.
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { VmCgroups } from '../cgroups.ts';
import { dialUnix } from '../dial.ts';
import { InheritedFds, type LaunchConfig } from '../launch-config.ts';
import { type Launched, launch } from '../launcher.ts';
import { AGENT_SOCKET } from '../records.ts';
import { type Annotations, encodeAnnotations, VmProcess } from '../vm-process.ts';
import {
  JAIL,
  kernelArguments,
  type MachineMemory,
  qemuArguments,
  TRANSLATION_CACHE_MIB,
} from './command-line.ts';
import type { SoftwareHost } from './host.ts';
import { QmpClient } from './qmp.ts';

const MIB = 1024 * 1024;
export const QMP_SOCKET = 'qmp.sock';
/** QEMU itself beside guest memory and translation cache: about 50 MB measured, doubled, and page cache that it may keep. */
const VMM_OVERHEAD_BYTES = 128 * MIB;
/** A verbose kernel boot is about 30 KiB. */
const LOG_BYTES = 512 * 1024;
/** Host side of every VM's TAP. Each lies in a network namespace of its own, so all may have the same. */
const TAP_ADDRESS = '10.77.0.1/24';
/** Address space of QEMU beyond guest memory: libraries, thread stacks and the translation cache, which reserves ahead. */
const ADDRESS_SPACE_OVERHEAD_BYTES = 4096 * MIB;

export interface MachineSpec {
  id: string;
  dir: string;
  cpus: number;
  memoryBytes: number;
  imagePath: string;
  upperPath: string;
  memory: MachineMemory;
  /** A device state to restore, as an open descriptor; boots when absent. */
  stateFd?: number;
  /** Said in the handle when a warm start was wanted but the machine boots. */
  coldReason?: string;
}

export interface Machine {
  vm: VmProcess;
  qmp: QmpClient;
  /** Number of the device state's descriptor in QEMU, where there is one. */
  stateNumber?: number;
}

/**
 * What the VMM's control group may be charged. A clone needs its guest memory twice: the first use of a page that the
 * template never used makes the page in the template's memory file, charged to whoever came first, before the clone's
 * own copy of it. All clones of a template share that page, so the host does not hold it once more for each.
 */
function memoryLimitBytes(memoryBytes: number, kind: MachineMemory['kind']): number {
  const guest = kind === 'clone' ? 2 * memoryBytes : memoryBytes;
  return guest + TRANSLATION_CACHE_MIB * MIB + VMM_OVERHEAD_BYTES;
}

/** Launches QEMU and talks to its monitor. When it rejects, no process, cgroup or user of this start is left. */
export async function startMachine(
  host: SoftwareHost,
  spec: MachineSpec,
  signal: AbortSignal,
): Promise<Machine> {
  const opened: number[] = [];
  const own = (fd: number) => {
    opened.push(fd);
    return fd;
  };
  let vm: VmProcess | undefined;
  try {
    const inherited = new InheritedFds();
    const agentFd = inherited.add(own(host.library.unixListen(join(spec.dir, AGENT_SOCKET))));
    const qmpFd = inherited.add(own(host.library.unixListen(join(spec.dir, QMP_SOCKET))));
    const imageFd = inherited.add(own(openSync(spec.imagePath, 'r')));
    const upperWriteFd = inherited.add(own(openSync(spec.upperPath, 'r+')));
    const upperReadFd = inherited.add(own(openSync(spec.upperPath, 'r')));
    const memory: MachineMemory =
      spec.memory.kind === 'private' ? spec.memory : { ...spec.memory, fd: inherited.add(spec.memory.fd) };
    const stateNumber = spec.stateFd === undefined ? undefined : inherited.add(spec.stateFd);
    const { tapFd, consoleFd } = inherited.launcherMade();
    const argv = qemuArguments({
      ...{ cpus: spec.cpus, memoryMib: spec.memoryBytes / MIB, memory, agentFd, qmpFd, consoleFd, tapFd },
      ...{ imageFd, upperWriteFd, upperReadFd },
      source:
        stateNumber === undefined
          ? { kind: 'boot', kernelArguments: kernelArguments(host.tscKhz) }
          : { kind: 'restore' },
    });

    const limit = memoryLimitBytes(spec.memoryBytes, spec.memory.kind);
    const uid = await host.users.claim(spec.id, spec.dir);
    const cgroups = await host.cgroups.create(spec.id, { cpus: spec.cpus, memoryBytes: limit });
    const annotations: Annotations = {
      launch: stateNumber === undefined ? 'cold' : 'warm',
      memoryLimitBytes: limit,
      ...(spec.coldReason === undefined ? {} : { coldReason: spec.coldReason.slice(0, 500) }),
    };
    const config = launchConfig(host, spec, cgroups, {
      ...{ argv, uid, tapFd, consoleFd, vmmFds: inherited.fds.length },
      annotations: encodeAnnotations(annotations),
    });
    const launched = await launch(host, config, inherited.fds, signal);
    vm = new VmProcess(host, spec.dir, launched.record, processesGone(launched));
    const qmp = await connectMonitor(host, spec.dir, signal);
    return { vm, qmp, ...(stateNumber === undefined ? {} : { stateNumber }) };
  } catch (error) {
    // A machine that runs there already keeps what is its own.
    if (!host.library.lockIsHeld(join(spec.dir, 'lock')) || vm) {
      await vm?.kill();
      await releaseMachine(host, spec.id);
    }
    throw error;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** What a machine leaves on the host beside its directory. Safe to repeat; only when its processes are gone. */
export async function releaseMachine(host: SoftwareHost, id: string): Promise<void> {
  await host.cgroups.remove(id);
  await host.users.release(id);
}

/** The VMM dies with its supervisor, but a moment later. */
async function processesGone(launched: Launched): Promise<void> {
  await Promise.all([launched.supervisorExited, launched.vmmExited]);
}

export async function connectMonitor(
  host: SoftwareHost,
  dir: string,
  signal: AbortSignal,
): Promise<QmpClient> {
  return QmpClient.connect(host.library, await dialUnix(host.library, join(dir, QMP_SOCKET), signal), signal);
}

interface LaunchParts {
  argv: string[];
  uid: number;
  tapFd: number;
  consoleFd: number;
  vmmFds: number;
  annotations: string;
}

function launchConfig(
  host: SoftwareHost,
  spec: MachineSpec,
  cgroups: VmCgroups,
  parts: LaunchParts,
): LaunchConfig {
  const limitsMemory = cgroups.oomFile !== undefined;
  return {
    id: spec.id,
    directory: spec.dir,
    kind: 'software',
    gid: parts.uid,
    ...parts,
    binds: [
      { source: host.files.qemu, target: JAIL.qemu, executable: true },
      { source: host.files.firmware, target: JAIL.firmware },
      { source: host.files.bootRom, target: JAIL.bootRom },
      { source: host.files.kernel, target: JAIL.kernel },
      { source: host.files.initramfs, target: JAIL.initramfs },
      ...host.files.libraries.map((path) => ({ source: path, target: path, executable: true })),
    ],
    vmmCgroups: cgroups.vmmDirs,
    supervisorCgroups: cgroups.supervisorDirs,
    ...(cgroups.oomFile === undefined ? {} : { oomFile: cgroups.oomFile }),
    ...(limitsMemory ? {} : { addressSpaceBytes: spec.memoryBytes + ADDRESS_SPACE_OVERHEAD_BYTES }),
    tapAddress: TAP_ADDRESS,
    logBytes: LOG_BYTES,
    limitations: cgroups.limitations,
  };
}
