// The contract of a VMM driver. Two implementations: software/ (QEMU, TCG) and libkrun/ (KVM).
import type { Duplex } from 'node:stream';
import type { ErrorCode } from '../api/errors.ts';
import type { VmFigures } from '../api/wire.ts';

export type DriverName = 'libkrun' | 'software';

/** As many disks beside image and upper as every driver can attach: QEMU's microvm has eight virtio slots, five of them taken. */
export const VOLUME_DISKS_MAX = 3;

/** A disk that belongs to a Volume. */
export interface VmVolume {
  path: string;
  /** Of its file. */
  sizeBytes: number;
  /** The VMM cannot write to it, whatever the guest does. */
  readOnly: boolean;
}

/** Directories and files of the host in one VM: as many as a spec may name. */
export const SHARES_MAX = 32;

/** A directory or file of the host that the guest finds in its virtiofs, under the number of its place in the list. */
export interface VmShare {
  /** Opened with O_PATH; stays the caller's. What it names is never looked up again. */
  fd: number;
  /** The guest cannot write to it, whatever it does. */
  readOnly: boolean;
}

/** What specs name of the host's directories and files. */
export interface HostPaths {
  /**
   * Opens (O_PATH) what an absolute path names now, below a root that the operator allows; the caller closes it. Fails with
   * HOST_PATH_NOT_ALLOWED or HOST_PATH_NOT_FOUND.
   */
  open(path: string, type: 'Directory' | 'File'): number;
}

/** One sandbox's machine. Paths are absolute; the driver opens them and hands descriptors, never paths, to the VMM. */
export interface VmConfig {
  /** The Sandbox's uid; also names its directory, cgroup and host user. */
  id: string;
  /** `<state>/sandboxes/<uid>`: exists, root-owned, mode 0700, holds everything of this VM. */
  dir: string;
  /** vCPUs, 1 to 32. */
  cpus: number;
  /** Guest memory in bytes, a multiple of 1 MiB. */
  memoryBytes: number;
  /** Read-only EROFS image disk (vda). */
  image: { path: string; digest: string };
  /** Writable ext4 upper disk (vdb). The driver makes it when the file does not exist. */
  upper: { path: string; sizeBytes: number };
  /**
   * More disks with ext4, in the order in which the guest sees them: vdc, vdd and so on, at most VOLUME_DISKS_MAX. They exist,
   * and their claims last for as long as the VM does.
   */
  volumes?: readonly VmVolume[];
  /** They take the place of one disk, however many they are. */
  shares?: readonly VmShare[];
  /** Forces a cold boot where a driver could restore a template. */
  coldBoot?: boolean;
}

/** Why and how a VMM process ended, as its supervisor recorded it. */
export interface VmExit {
  /**
   * - `clean`: the guest rebooted itself after a stop that was asked for (the agent's result tells how the work ended).
   * - `killed`: we, or someone, ended it with a signal.
   * - `crashed`: it ended by itself without a result: guest panic, VMM abort, out of memory.
   * - `lost`: it is gone and left no record (supervisor killed, host restarted).
   */
  kind: 'clean' | 'killed' | 'crashed' | 'lost';
  exitCode?: number;
  signal?: string;
  oomKilled?: boolean;
  /** One sentence for people, with the last console line where that helps. */
  message: string;
  finishedAt: Date;
}

/**
 * How the driver's part of a start went, in milliseconds by stage, which follow one another; only the stages that happened.
 * - `queue`: until its turn came. `template`: until a template was there.
 * - `disk`: the upper disk was made, or grown. `spawn`: jail, network and VMM process.
 * - `kernel`: from the VMM's start until the guest's agent listened. `restore`: until the template's state was in force.
 */
export type StartStages = Partial<
  Record<'queue' | 'template' | 'disk' | 'spawn' | 'kernel' | 'restore', number>
>;

/** Why a VM that lives stands still. Nothing of it is lost; the driver lets it go on by itself when it can. */
export interface VmStall {
  /** `DISK_FULL`: what the guest wrote found no room on the host's file system. */
  code: Extract<ErrorCode, 'DISK_FULL'>;
  /** One or two sentences for people: what stands still, and what to do. */
  message: string;
}

/** A VM that runs, or ran, on this host. Holding one keeps nothing alive: VMs outlive the daemon. */
export interface VmHandle {
  readonly id: string;
  readonly driver: DriverName;
  readonly pid: number;
  readonly startedAt: Date;
  /** `warm`: restored from a template. The agent's hello says whether the root is mounted already. */
  readonly launch: 'cold' | 'warm';
  /** Why it booted cold although a template could have been restored. */
  readonly coldReason?: string;
  readonly stages: StartStages;
  /** What this host could not give of the jail and limits, one sentence each; empty where all is in place. */
  readonly limitations: readonly string[];
  /** Resolves once, when every process of this VM is gone. Never rejects. */
  readonly exited: Promise<VmExit>;
  /** A process in the VM's network namespace: pid, and start time in clock ticks since boot. Absent for a VM without a network. */
  readonly networkHolder?: { readonly pid: number; readonly startTime: string };
  /**
   * Set while the VM stands still because of the host; also of a VM that stood still before it was adopted.
   * A driver whose guests get such failures as I/O errors never sets it.
   */
  readonly stall: VmStall | undefined;
  /** Calls `listener` after each change of `stall`, until the function that it returns is called. */
  onStallChange(listener: () => void): () => void;
  /**
   * A fresh connection to the agent port. Only one at a time is served; a new one ends the former. Rejects with
   * SANDBOX_NOT_RUNNING when the VM has ended, AGENT_UNREACHABLE when it does not accept now.
   */
  dialAgent(signal: AbortSignal): Promise<Duplex>;
  /**
   * Makes a writable disk of `volumes` larger while the VM runs, file and device; the guest's file system is not touched.
   * Absent where the driver cannot: then it takes a restart.
   */
  readonly growVolume?: (index: number, sizeBytes: number, signal: AbortSignal) => Promise<void>;
  stats(): Promise<VmFigures>;
  /** Ends it now (SIGKILL to all its processes); resolves when it is gone. Safe to repeat. */
  kill(): Promise<void>;
  /** The end of the guest's console, for messages; at most `maxBytes`. */
  consoleTail(maxBytes: number): Promise<string>;
}

export interface ProbeResult {
  usable: boolean;
  /** One sentence: why, and what to do where it is not usable. */
  message: string;
  version?: string;
}

export interface VmmDriver {
  readonly name: DriverName;
  /** Can this host run it? Cheap to repeat: the answer is cached per host boot. */
  probe(signal: AbortSignal): Promise<ProbeResult>;
  /**
   * Starts the VM, or fails leaving nothing behind. Resolves when the agent port can be dialled.
   * The directory is locked for as long as the VMM lives: a second start for one id fails with VM_ALREADY_RUNNING.
   */
  start(config: VmConfig, signal: AbortSignal): Promise<VmHandle>;
  /**
   * Finds the VM of a directory by process identity (pid, start time, boot id), whoever started it.
   * `undefined` when none runs; then `lastExit` tells how the last one ended.
   */
  adopt(dir: string): Promise<VmHandle | undefined>;
  lastExit(dir: string): Promise<VmExit | undefined>;
  /** Removes what a VM that is gone left on the host beside its directory (cgroup, template references). Safe to repeat. */
  release(dir: string): Promise<void>;
  close(): Promise<void>;
}
