// One QEMU process in its jail: descriptors, cgroups, host user, launch. Cold boots, templates and clones all go through here.
import { closeSync, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import { dialUnix } from '../dial.ts';
import type { VmShare } from '../driver.ts';
import { type BindMount, InheritedFds } from '../launch-config.ts';
import { AGENT_SOCKET } from '../records.ts';
import { MIB } from '../vm-config.ts';
import { abandonVm, launchVm } from '../vm-launch.ts';
import type { VmProcess } from '../vm-process.ts';
import {
  JAIL,
  kernelArguments,
  type MachineMemory,
  qemuArguments,
  TRANSLATION_CACHE_MIB,
  type VolumeFds,
} from './command-line.ts';
import { FILE_SERVER, FILE_SERVER_OVERHEAD_BYTES, fileServer } from './file-server.ts';
import type { SoftwareHost } from './host.ts';
import { QmpClient } from './qmp.ts';

export const QMP_SOCKET = 'qmp.sock';
/** QEMU itself beside guest memory and translation cache: about 50 MB measured, doubled, and page cache that it may keep. */
const VMM_OVERHEAD_BYTES = 128 * MIB;
/** Address space of QEMU beyond guest memory: libraries, thread stacks and the translation cache, which reserves ahead. */
const ADDRESS_SPACE_OVERHEAD_BYTES = 4096 * MIB;

export interface MachineSpec {
  id: string;
  dir: string;
  cpus: number;
  memoryBytes: number;
  imagePath: string;
  upperPath: string;
  volumes: readonly { path: string; readOnly: boolean }[];
  /** Only with `shared` memory. */
  shares?: readonly VmShare[];
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
  const server = kind === 'shared' ? FILE_SERVER_OVERHEAD_BYTES : 0;
  return guest + TRANSLATION_CACHE_MIB * MIB + VMM_OVERHEAD_BYTES + server;
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
  const { shares = [] } = spec;
  if (shares.length > 0 && !existsSync(FILE_SERVER))
    throw new BulkheadError(
      'DRIVER_UNAVAILABLE',
      `${FILE_SERVER} is missing, which serves directories of the host: install the package qemu-system-common of Debian 12.`,
    );
  try {
    const inherited = new InheritedFds();
    const agentFd = inherited.add(own(host.library.unixListen(join(spec.dir, AGENT_SOCKET))));
    const qmpFd = inherited.add(own(host.library.unixListen(join(spec.dir, QMP_SOCKET))));
    const imageFd = inherited.add(own(openSync(spec.imagePath, 'r')));
    const upperWriteFd = inherited.add(own(openSync(spec.upperPath, 'r+')));
    const upperReadFd = inherited.add(own(openSync(spec.upperPath, 'r')));
    const volumes = spec.volumes.map(({ path, readOnly }): VolumeFds => {
      const readFd = inherited.add(own(openSync(path, 'r')));
      return readOnly ? { readFd } : { readFd, writeFd: inherited.add(own(openSync(path, 'r+'))) };
    });
    const memory: MachineMemory =
      spec.memory.kind === 'private' || spec.memory.kind === 'shared'
        ? spec.memory
        : { ...spec.memory, fd: inherited.add(spec.memory.fd) };
    const stateNumber = spec.stateFd === undefined ? undefined : inherited.add(spec.stateFd);
    const { tapFd, consoleFd, serverFd } = inherited.launcherMade();
    const argv = qemuArguments({
      ...{ cpus: spec.cpus, memoryMib: spec.memoryBytes / MIB, memory, agentFd, qmpFd, consoleFd, tapFd },
      ...{ imageFd, upperWriteFd, upperReadFd, volumes },
      ...(shares.length === 0 ? {} : { serverFd }),
      source:
        stateNumber === undefined
          ? { kind: 'boot', kernelArguments: kernelArguments(host.tscKhz) }
          : { kind: 'restore' },
    });

    const { id, dir, cpus } = spec;
    vm = await launchVm(
      host,
      {
        ...{ driver: 'software', tap: 'descriptor', id, dir, cpus, argv, inherited },
        uid: await host.users.claim(id, dir),
        binds: jailBinds(host),
        shares,
        ...(shares.length === 0 ? {} : { server: fileServer(host) }),
        memoryLimitBytes: memoryLimitBytes(spec.memoryBytes, spec.memory.kind),
        addressSpaceBytes: spec.memoryBytes + ADDRESS_SPACE_OVERHEAD_BYTES,
        ...(stateNumber === undefined ? { launch: 'cold' } : { launch: 'warm', stateNumber }),
        ...(spec.coldReason === undefined ? {} : { coldReason: spec.coldReason }),
      },
      signal,
    );
    const qmp = await connectMonitor(host, spec.dir, signal);
    return { vm, qmp, ...(stateNumber === undefined ? {} : { stateNumber }) };
  } catch (error) {
    await abandonVm(host, spec, vm);
    throw error;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

export async function connectMonitor(
  host: SoftwareHost,
  dir: string,
  signal: AbortSignal,
): Promise<QmpClient> {
  return QmpClient.connect(host.library, await dialUnix(host.library, join(dir, QMP_SOCKET), signal), signal);
}

function jailBinds(host: SoftwareHost): BindMount[] {
  return [
    { source: host.files.qemu, target: JAIL.qemu, executable: true },
    { source: host.files.firmware, target: JAIL.firmware },
    { source: host.files.bootRom, target: JAIL.bootRom },
    { source: host.files.kernel, target: JAIL.kernel },
    { source: host.files.initramfs, target: JAIL.initramfs },
    ...host.libraryPaths.map((path) => ({ source: path, target: path, executable: true })),
  ];
}
