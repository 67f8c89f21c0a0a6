// Bodies of Bulkhead's own endpoints, as server and client exchange them; objects and errors have their own files.

/** One finding about the host or the daemon. */
export interface DoctorCheck {
  /** Short and stable, e.g. `cgroups`. */
  name: string;
  status: 'ok' | 'warn' | 'fail';
  /** What was found, one sentence. */
  message: string;
  /** What to do about it, where something should be done. */
  fix?: string;
}

export interface DoctorReport {
  checks: DoctorCheck[];
}

/** Answer of `GET /version`, in Kubernetes' shape. */
export interface VersionInfo {
  major: string;
  minor: string;
  gitVersion: string;
  platform: string;
  nodeVersion: string;
}

/** Body of `POST .../images/pull`. */
export interface PullRequest {
  reference: string;
  policy?: 'Always' | 'IfNotPresent' | 'Never';
  credentials?: { registry: string; username: string; password: string }[];
}

/** Body of `POST .../images/load` when the archive lies on the daemon's host; else the body is the archive itself. */
export interface LoadRequest {
  /** Absolute path on the daemon's host: a docker archive, an OCI archive or an OCI layout folder. */
  path: string;
  /** Name for an archive that carries none. */
  reference?: string;
}

export type GarbageKind = 'SandboxDirectory' | 'Vm' | 'ImageLease' | 'VolumeClaim' | 'CopyContent';

/** Something on the daemon's host without an owner: an item of the answer to `POST .../gc`. */
export interface GarbageItem {
  kind: GarbageKind;
  name: string;
  /** Why nobody needs it, as a sentence. */
  reason: string;
  sizeBytes?: number;
  /** Why it could not be removed. */
  error?: string;
}

/** Body of `POST .../images/prune`. */
export interface PruneRequest {
  targetFreeBytes?: number;
  dryRun?: boolean;
}

/** How far a pull or load is. */
export interface ImageProgress {
  phase: 'resolving' | 'downloading' | 'writing' | 'done';
  layersDone: number;
  layersTotal: number;
  bytesDone: number;
  bytesTotal: number;
}

/** An image that is ready to boot, as pull and load report it. */
export interface ImageSummary {
  reference: string;
  /** `sha256:...` */
  digest: string;
  sizeBytes: number;
}

/** An image in the cache. Times are RFC 3339. */
export interface CachedImage {
  references: string[];
  digest: string;
  sizeBytes: number;
  createdAt: string;
  lastUsedAt: string;
  inUse: boolean;
}

/** One line of the answer to pull and load; the last one has `images` or `error` (a `Status`). */
export type ImageStreamLine = { progress: ImageProgress } | { images: ImageSummary[] } | { error: unknown };

/** A disk of a volume on the daemon's host. Usage is absent while a sandbox writes to it, and before a due check. */
export interface VolumeDiskInfo {
  uid: string;
  namespace: string;
  name: string;
  /** `Retained`: it has no object, and waits for a Volume of its name. */
  state: 'Available' | 'InUse' | 'Retained';
  /** It was not unmounted in order and waits for its check. */
  unclean: boolean;
  accessMode: 'ReadWriteOnce' | 'ReadOnlyMany';
  capacityBytes: number;
  usedBytes?: number;
  availableBytes?: number;
  inodes?: number;
  inodesUsed?: number;
  /** What it takes on the host. */
  diskBytes?: number;
  /** `namespace/name` of sandboxes. */
  users: string[];
  /** RFC 3339. */
  retainedAt?: string;
  /** What is done with it just now. */
  busy?: string;
}

/** Body of `POST .../volumes/NAME/import`. */
export interface ImportVolumeRequest {
  /** Absolute path on the daemon's host: a raw ext4 image. */
  path: string;
  /** Also where the volume holds files. */
  overwrite?: boolean;
}

/** Body of `POST .../volumes/NAME/clone`. */
export interface CloneVolumeRequest {
  /** Of the new Volume, in the same namespace. */
  name: string;
  accessMode?: 'ReadWriteOnce' | 'ReadOnlyMany';
}

/** Figures of a VM from its host; none of them depends on the guest's word. */
export interface VmFigures {
  cpuSeconds: number;
  /** Proportional set size where the kernel gives it, else resident set size; bytes. */
  memoryBytes: number;
  memoryLimitBytes: number;
  diskReadBytes: number;
  diskWriteBytes: number;
  networkReceiveBytes: number;
  networkTransmitBytes: number;
  networkReceivePackets: number;
  networkTransmitPackets: number;
}

/** Answer of `GET .../sandboxes/NAME/stats`. */
export interface SandboxStats {
  /** RFC 3339, when the figures were read. */
  timestamp: string;
  startedAt: string;
  vm: VmFigures;
  /** What the guest says of itself; absent when it does not answer in time. */
  guest?: unknown;
}

/** A name in a sandbox and what it stands for; what the guest says, checked in form only. Answer of `.../files/stat`. */
export interface FileInfo {
  /** The last part of the path; bytes that are no UTF-8 show as U+FFFD. */
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

/** One line of the answer to `GET .../files/list`; an `error` (a `Status`) is the last one. */
export type FileListLine = { entry: FileInfo } | { error: unknown };

/** Names in one request about many files. */
export const MANY_FILES_MAX = 256;
/** Content in one request that writes many files; with base64 it fits into a body. */
export const MANY_FILES_BYTES_MAX = 1024 * 1024;
/** Content of one file that comes with many others. */
export const MANY_FILES_CONTENT_MAX = 256 * 1024;

/** Something to be made in a sandbox. */
export type NewFileBody =
  /** `content`: base64. `mode`: permission bits, 0o644 when absent. */
  | { kind?: 'file'; path: string; mode?: number; content: string }
  /** With those above it; nothing is wrong when it is there. `mode`: 0o755 when absent. */
  | { kind: 'directory'; path: string; mode?: number }
  /** In place of a file or link that has the name already. `target` is taken as it is. */
  | { kind: 'symlink'; path: string; target: string };

/** Body of `POST .../files/write-many`: made in this order, each whole or not at all. The first that fails ends it. */
export interface WriteManyRequest {
  files: readonly NewFileBody[];
  /** Owner of the files. */
  user?: string;
}

/** Body of `POST .../files/read-many`. */
export interface ReadManyRequest {
  /** Of regular files. */
  paths: readonly string[];
}

/**
 * One line of its answer, for each path in turn; an `error` (a `Status`) is the last one. `content` is base64, and absent of a
 * file that is larger than MANY_FILES_CONTENT_MAX.
 */
export type ReadManyLine = { file: FileInfo; content?: string } | { error: unknown };

/** Bodies of `POST .../files/VERB`. Paths are absolute, beneath the sandbox's root. */
export interface FileRequests {
  /** `mode`: permission bits, 0o755 when absent. `parents`: also those above; nothing is wrong when it is there. */
  mkdir: { path: string; mode?: number; parents?: boolean };
  /** `tree`: whatever it is, with all below it. */
  remove: { path: string; what?: 'file' | 'empty-directory' | 'tree' };
  /** Replaces what has the name already. */
  rename: { path: string; to: string };
  /** Content, mode and owner of a regular file. */
  copy: { path: string; to: string };
  /** A symbolic link at `path`, in place of a file or link that has the name already. `target` is taken as it is. */
  symlink: { path: string; target: string };
}

/** Query parameters of `GET .../sandboxes/NAME/log`, with Kubernetes' meaning. */
export interface LogQuery {
  follow?: boolean;
  tailLines?: number;
  sinceSeconds?: number;
  /** RFC 3339. */
  sinceTime?: string;
  /** The run before the present one. */
  previous?: boolean;
  timestamps?: boolean;
}

/** Query parameters of `.../sandboxes/NAME/exec`; `attach` takes stdin, stdout, stderr, columns and rows of them. */
export interface ExecQuery {
  command: string[];
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
  /** First size of the terminal. */
  columns?: number;
  rows?: number;
  /** KEY=VALUE on top of the sandbox's own environment. */
  env?: string[];
  workingDir?: string;
  user?: string;
  timeoutSeconds?: number;
  /** Asks for a message on the channel `started` when the command runs. */
  started?: boolean;
  /** Puts the image's ENTRYPOINT before the command, and takes the image's CMD where no command is given. */
  entrypoint?: boolean;
  /** Makes the command resumable under this id, a UUID of the client's choice; `resumeSeconds` goes with it. */
  id?: string;
  /** How long it waits for its client to come back once the connection breaks, 1 to 3600; then it ends. */
  resumeSeconds?: number;
}

/** Query parameters of `.../sandboxes/NAME/exec` that take up a resumable command, also one of an earlier daemon. */
export interface ResumeQuery {
  /** Id of the command. */
  resume: string;
  /** Bytes of each stream that the client has; it goes on from there, or from the oldest byte that is kept. */
  stdoutOffset: number;
  stderrOffset: number;
}

/** One decision of a sandbox's gateway about what leaves it. */
export interface FlowEntry {
  /** RFC 3339. */
  readonly at: string;
  readonly layer: 'Flow' | 'DNS' | 'TLS' | 'Secret';
  readonly protocol: 'TCP' | 'UDP' | 'ICMP';
  /** `address:port`, or the name that was asked for. */
  readonly destination: string;
  /**
   * Of a flow `Allowed`, `Denied`, `Cut`, `Limited` or `Failed`; of TLS `Opened` at the gateway, or `Refused` by one end; of a
   * secret `Substituted`, or `Blocked` as its placeholder was sent elsewhere; or how a question ended.
   */
  readonly result: string;
  /** What decided, as a sentence; empty where nothing did. */
  readonly reason: string;
}

/** Answer of `.../sandboxes/NAME/flows`: the last ones, oldest first. */
export interface FlowList {
  readonly items: readonly FlowEntry[];
}
