// What the host can ask of the agent in a running guest. The guest is hostile: whatever it answers was checked
// against the bounds in limits.ts before it gets here.
import type { Duplex, Readable, Writable } from 'node:stream';
import type { BulkheadError } from '../api/errors.ts';

/** A file system to mount over the image at start. */
export interface RootMount {
  /** Kernel names of the disks as the driver orders them. */
  imageDevice: string;
  upperDevice: string;
}

/** Something that appears at paths of the guest beside its root. */
export interface GuestVolume {
  /** Names it in mounts and figures: a DNS label. */
  name: string;
  source: /** ext4 on a disk, by its kernel name. */
    | { kind: 'disk'; device: string; readOnly: boolean }
    /** Memory, empty at each boot. */
    | { kind: 'memory'; sizeBytes: number }
    /** Files that the host writes with `writeVolumeFiles` and the guest only reads. */
    | { kind: 'files' }
    /** A directory or file of the host: which of those that the VM was given. */
    | { kind: 'share'; entry: number; readOnly: boolean };
}

export interface GuestVolumeMount {
  /** Name of the volume. */
  volume: string;
  /** Absolute; what is missing of it is made. */
  mountPath: string;
  /** A directory, or a file, in the volume in place of its root. */
  subPath?: string;
  readOnly: boolean;
}

/** One file of a volume of files. */
export interface GuestVolumeFile {
  /** Relative to the volume, without `.` and `..`. */
  path: string;
  mode: number;
  content: Uint8Array;
}

/** Everything that makes a restored or booted guest this sandbox and no other. */
export interface Personality {
  hostname: string;
  /** Wall clock to set, milliseconds since the epoch; filled in at the moment of sending when absent. */
  timeMs?: number;
  /** Host entropy mixed into the guest's pool; 32 bytes. */
  entropy: Uint8Array;
  network?: {
    mac: string;
    /** CIDR notation. */
    addresses: string[];
    gateways: string[];
    mtu: number;
  };
  /** /etc/resolv.conf name servers; empty for none. */
  nameservers: string[];
  searchDomains: string[];
  /** Lines for /etc/hosts beside localhost and the host name. */
  extraHosts: { address: string; names: string[] }[];
}

export interface ExecRequest {
  /** Host-chosen, unique within the VM: at most 63 of [a-z0-9-]. The main process is `main`. */
  sessionId: string;
  argv: string[];
  /** KEY=VALUE on top of the agent's basic environment (PATH, HOME, TERM for a terminal). */
  env: string[];
  /** Absolute path in the guest; `/` when absent. Created when `createCwd` says so. */
  cwd?: string;
  createCwd?: boolean;
  /** `name`, `uid`, `name:group` or `uid:gid`, resolved in the guest's own /etc/passwd and /etc/group. */
  user?: string;
  tty?: { columns: number; rows: number };
  stdin: boolean;
  rlimits?: { name: string; soft: number; hard: number }[];
  /** Killed with SIGKILL after so long. */
  timeoutMs?: number;
  /** What the guest does when its output ring is full and the host reads slowly. */
  overflow: 'block' | 'drop-oldest';
  /** Output counts as delivered when it is read (the default), or when `acknowledge` says so. */
  delivered?: Delivered;
}

/** When the guest may forget output: once this host has read it, or once the caller has acknowledged it. */
export type Delivered = 'when-read' | 'when-acknowledged';

export interface ProcessExit {
  /** 0 to 255; for a signal 128 + its number. */
  exitCode: number;
  /** `SIGKILL` and so on; empty for a normal end. */
  signal: string;
  timedOut: boolean;
  oomKilled: boolean;
}

/** Output with its place in the stream, so that a reader can record how far it got. */
export interface OutputChunk {
  stream: 'stdout' | 'stderr';
  /** Offset of the first byte since the process began. A gap means that `lost` bytes were dropped before it. */
  offset: number;
  data: Uint8Array;
  lostBefore: number;
}

export interface GuestProcess {
  readonly sessionId: string;
  readonly pid: number;
  /** Absent when the process was started without stdin. */
  readonly stdin?: Writable;
  /** Both streams in arrival order, with back-pressure up to the guest; ends after the last byte of both. */
  output(): AsyncIterable<OutputChunk>;
  /**
   * Only for one that is delivered when acknowledged: everything of a stream before `offset` is, `bytes` of it since the last
   * time. The guest sends at most one window ahead of this.
   */
  acknowledge(stream: OutputChunk['stream'], offset: number, bytes: number): void;
  /** What the guest had of its stdin when this host began or took up the session: the place of the next byte written. */
  readonly stdinOffset: number;
  /** Whether it took more stdin then. */
  readonly stdinOpen: boolean;
  /** The same as plain streams; use either this or `output`. A terminal has no stderr of its own. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Rejects only when the VM is gone before the process ended. */
  readonly exited: Promise<ProcessExit>;
  signal(name: string): Promise<void>;
  resize(size: { columns: number; rows: number }): Promise<void>;
  /** Forgets an ended session in the guest. Ends a running one with SIGKILL first. */
  release(): Promise<void>;
}

/** A name in the guest and what it stands for; a claim of the guest, checked in form only. */
export interface GuestFile {
  /** The last part of the path; may be any text without `/`. Bytes that are no UTF-8 show as U+FFFD. */
  name: string;
  kind: 'file' | 'directory' | 'symlink' | 'other';
  sizeBytes: number;
  /** Permission bits with set-uid, set-gid and sticky. */
  mode: number;
  uid: number;
  gid: number;
  /** Milliseconds since the epoch. */
  modifiedMs: number;
  /** Absent where the file system does not record it. */
  createdMs?: number;
  /** What a symbolic link says. */
  target?: string;
}

/** Something to be made in the guest. */
export type NewFile =
  | { kind: 'file'; path: string; mode: number; content: Uint8Array }
  /** With those above it; nothing is wrong when it is there. */
  | { kind: 'directory'; path: string; mode: number }
  /** In place of a file or link that has the name already. */
  | { kind: 'symlink'; path: string; target: string };

/** A regular file, with its content where that is not larger than was asked for. */
export interface FileContent {
  file: GuestFile;
  content?: Buffer;
}

/** `tree`: whatever it is, with all below it. */
export type FileRemoval = 'file' | 'empty-directory' | 'tree';

/**
 * Files of the guest, as root. Paths are absolute and resolved beneath the guest's root, links in them included. Fails
 * with NOT_FOUND, ALREADY_EXISTS, INVALID, or FILE_FAILED with the guest's words.
 */
export interface GuestFiles {
  /** The content of a regular file from `offset`, at most `length` bytes (1 or more); destroying the stream ends the transfer. */
  read(path: string, options?: { offset?: number; length?: number }, signal?: AbortSignal): Promise<Readable>;
  /** Resolves when the whole content is in place under its name; before that the old file, if any, stays. */
  write(
    path: string,
    content: AsyncIterable<Uint8Array>,
    options: { mode: number; user?: string },
    signal?: AbortSignal,
  ): Promise<void>;
  /**
   * Makes all of them in order, each whole or not at all, in one go where the agent can do that. The first that fails ends it;
   * what came before it stays.
   */
  writeMany(files: Iterable<NewFile>, options?: { user?: string }, signal?: AbortSignal): Promise<void>;
  /** Regular files in the order of their paths, at most MANY_FILES_MAX. */
  readMany(
    paths: readonly string[],
    options: { contentMax: number },
    signal?: AbortSignal,
  ): AsyncIterable<FileContent>;
  stat(path: string, options?: { follow?: boolean }, signal?: AbortSignal): Promise<GuestFile>;
  /** Every name in a directory, in no order. */
  list(path: string, signal?: AbortSignal): AsyncIterable<GuestFile>;
  /** With `parents` nothing is wrong when it is there. */
  makeDirectory(
    path: string,
    options: { mode: number; parents: boolean },
    signal?: AbortSignal,
  ): Promise<void>;
  remove(path: string, what: FileRemoval, signal?: AbortSignal): Promise<void>;
  /** Replaces what has the name already, as rename(2) does. */
  rename(from: string, to: string, signal?: AbortSignal): Promise<void>;
  /** Content, mode and owner of a regular file; in place at once or not at all. */
  copy(from: string, to: string, signal?: AbortSignal): Promise<void>;
  /** A link in place of a file or link that has the name already. */
  symlink(path: string, target: string, signal?: AbortSignal): Promise<void>;
  /** Resolves when everything of the root file system is on its disk. */
  sync(signal?: AbortSignal): Promise<void>;
}

/** What the guest says of itself; a claim, not a measurement. */
export interface GuestStats {
  uptimeSeconds: number;
  cpu: {
    userSeconds: number;
    systemSeconds: number;
    idleSeconds: number;
    iowaitSeconds: number;
    stealSeconds: number;
  };
  memory: { totalBytes: number; availableBytes: number; cachedBytes: number };
  load: [number, number, number];
  pressure: { cpuSomeAvg10: number; memorySomeAvg10: number; ioSomeAvg10: number };
  fileSystems: {
    /** Of a disk volume, by its name; absent for the root. */
    volume?: string;
    availableBytes: number;
    mountPath: string;
    totalBytes: number;
    usedBytes: number;
    totalInodes: number;
    usedInodes: number;
  }[];
  interfaces: {
    name: string;
    receiveBytes: number;
    transmitBytes: number;
    receivePackets: number;
    transmitPackets: number;
  }[];
  processes: number;
}

export interface SessionInfo {
  sessionId: string;
  pid: number;
  running: boolean;
  exit?: ProcessExit;
}

export interface AgentHello {
  protocolVersion: number;
  agentVersion: string;
  features: string[];
  kernelRelease: string;
  /** Random per boot or restore-personalise; a change means another guest answers. */
  bootId: string;
  rootMounted: boolean;
  personalized: boolean;
  sessions: SessionInfo[];
  /** The guest's clock in milliseconds since 1970; absent where the agent cannot set it later on. */
  timeMs?: number;
}

/**
 * A supervised connection: it dials again by itself whenever the byte channel breaks while the VM lives, resumes every
 * session from the offset last received, and counts what the guest's ring had to drop. Every call takes its own time
 * limit from limits.ts unless the signal ends it earlier.
 */
export interface GuestAgent {
  readonly hello: AgentHello;
  /** True while the guest answers heartbeats. */
  readonly connected: boolean;
  onConnectionChange(listener: (connected: boolean) => void): () => void;
  mountRoot(root: RootMount, signal?: AbortSignal): Promise<void>;
  personalize(personality: Personality, signal?: AbortSignal): Promise<void>;
  /**
   * Mounts volumes into the root that is mounted, in the order of `mounts`. Safe to repeat with the same ones: then the file
   * systems of disks that the host made larger grow.
   */
  mountVolumes(
    volumes: readonly GuestVolume[],
    mounts: readonly GuestVolumeMount[],
    signal?: AbortSignal,
  ): Promise<void>;
  /** Replaces what is in a volume of files, all at once for those who read it. */
  writeVolumeFiles(volume: string, files: readonly GuestVolumeFile[], signal?: AbortSignal): Promise<void>;
  /**
   * Sets the guest's clock to the host's, as after the machine stood still. Does nothing where the agent does not know how, or
   * is not connected: the next hello shows a clock that is wrong, which is set then.
   */
  setClock(): Promise<void>;
  /**
   * Resolves when all that was written to the root is on its disk and nothing more is written, for so long at most: then the guest
   * goes on by itself.
   */
  freezeRoot(deadlineMs: number, signal?: AbortSignal): Promise<void>;
  /** Lets the guest go on. Fails when it did so before. */
  thawRoot(signal?: AbortSignal): Promise<void>;
  exec(request: ExecRequest, signal?: AbortSignal): Promise<GuestProcess>;
  /** Takes up a session that exists in the guest (after a restart of the host side), from the given output offsets. */
  attach(
    sessionId: string,
    from: { stdout: number; stderr: number },
    delivered?: Delivered,
  ): Promise<GuestProcess>;
  /** Ends a session of an earlier host with SIGKILL and forgets it. One that this host has is left alone. */
  endSession(sessionId: string): Promise<void>;
  stats(signal?: AbortSignal): Promise<GuestStats>;
  readonly files: GuestFiles;
  /**
   * A TCP connection that the guest makes, to itself as a rule: no network of the host has a part in it. Fails with DIAL_FAILED
   * where it is not taken, and with NOT_SUPPORTED where the agent is of a release that knows no connections.
   */
  dial(target: { address: string; port: number }, signal?: AbortSignal): Promise<Duplex>;
  /** SIGTERM to all, SIGKILL after the grace, sync, unmount, reboot. Resolves when the guest has acknowledged. */
  shutdown(options: { graceMs: number; signal?: string }): Promise<void>;
  /** Ends the host side only; the guest and its sessions go on. What is under way here fails with the reason. */
  close(reason?: BulkheadError): Promise<void>;
}
