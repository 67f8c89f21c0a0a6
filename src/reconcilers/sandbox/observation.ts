// What one reconcile sees of a sandbox. Everything that guards, commands and status read is in here, so that all three
// are pure functions of one value.

import type { ErrorCode } from '../../api/errors.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { ImageProgress } from '../../api/wire.ts';
import type { BootableImage } from '../../images/images.ts';
import type { NetworkState } from '../../network/network-plane.ts';
import type { DriverName, VmExit, VmStall } from '../../vmm/driver.ts';
import type { MainExit, RootOrigin, RunRecord } from './run-record.ts';

/** Long effects; a sandbox has at most one of them under way. */
export type TaskKind = 'pull' | 'start' | 'bring-up' | 'files' | 'stop' | 'release';

/** The last failure of a task, until it succeeds or what it depends on changes. */
export interface TaskFailure {
  task: TaskKind;
  code: ErrorCode;
  reason: string;
  message: string;
  /** No retry helps until the object, or what it refers to, changes; an image is looked at again now and then. */
  terminal: boolean;
  attempts: number;
  /** Milliseconds until the next attempt; 0 or less when it is due, Infinity for none. */
  retryInMs: number;
}

/** A Secret, ConfigMap, Volume or key that the spec names and the store does not hold. */
export interface MissingReference {
  kind: 'Secret' | 'ConfigMap' | 'Volume';
  /** Why what is there is of no use, to follow its name; absent where it is not there. */
  problem?: string;
  name: string;
  /** Absent when the whole object is missing. */
  key?: string;
  field: string;
}

export interface ObservedVm {
  driver: DriverName;
  pid: number;
  startedAt: string;
  limitations: readonly string[];
  /** Set while the host holds it where it stands. */
  stall?: VmStall;
}

/** Disks of Volume objects. */
export interface ObservedVolumes {
  /** Names of the Volumes that the spec asks for. */
  wanted: readonly string[];
  /** All of them are this sandbox's. */
  claimed: boolean;
  /** Why they are not. */
  problem?: { reason: string; message: string; terminal: boolean };
}

/** Memory and disk of the host. */
export interface ObservedRoom {
  /** It is this sandbox's for the next start, or for the VM that runs. */
  reserved: boolean;
  /** Why it is not, by the last look. */
  problem?: { code: ErrorCode; message: string };
}

export interface ObservedAgent {
  connected: boolean;
  /** Since the agent fell silent, or since this process began to look for it; 0 while it is connected. */
  silentMs: number;
}

export type ProbeKind = 'startup' | 'readiness' | 'liveness';

/** What a probe last said. */
export interface ObservedProbe {
  /** By its thresholds; absent until there is a result. */
  passed?: boolean;
  /** Why it failed, as a sentence. */
  message: string;
}

/** Those that the spec asks for. */
export type ObservedProbes = Readonly<Partial<Record<ProbeKind, ObservedProbe>>>;

export interface ObservedGuest {
  rootMounted: boolean;
  personalized: boolean;
  /** The main process runs or has run; true when none is asked for. */
  mainStarted: boolean;
  /** Why the hook after the start failed. */
  postStartFailure?: string;
  /** Host milliseconds from the start of the VM to a guest that was ready; set when it is up. */
  bootMilliseconds?: number;
  /** Milliseconds by stage of the start. */
  stages?: Readonly<Record<string, number>>;
}

/** Times that decisions need, in milliseconds; `undefined` where nothing was recorded. Measured by `ElapsedTimes`. */
export interface ObservedElapsed {
  sinceActive?: number;
  sinceRunStart?: number;
  /** Since this process last saw the VM stand still. */
  sinceStall?: number;
  /** Since nobody uses it; absent while somebody does. */
  sinceIdle?: number;
  sinceStop?: number;
  sinceEnd?: number;
  sinceFinished?: number;
}

export interface Observation {
  /** Wall clock, milliseconds since the epoch. */
  readonly now: number;
  /** `undefined`: there is no such object. */
  readonly object?: DefaultedSandbox;
  readonly unsupported: readonly string[];
  readonly missing: readonly MissingReference[];
  /** All memory of this host, in bytes. */
  readonly hostMemoryBytes: number;
  /** Digest of what applies at start only, of the spec as it is now. */
  readonly launchDigest: string;
  /** What the spec as it is now makes a root file system from. */
  readonly root: RootOrigin;
  readonly directory: boolean;
  readonly record?: RunRecord;
  /** In the cache, and the one that the spec as it is now asks for. */
  readonly image?: BootableImage;
  readonly volumes: ObservedVolumes;
  readonly room: ObservedRoom;
  /** A VM process that is alive. */
  readonly vm?: ObservedVm;
  /** How the VM of `record` ended; only when none is alive. */
  readonly exit?: VmExit;
  /** Of the VM that runs; absent where it has none. */
  readonly network?: NetworkState;
  readonly agent: ObservedAgent;
  readonly guest: ObservedGuest;
  readonly probes: ObservedProbes;
  readonly mainExit?: MainExit;
  readonly task?: { kind: TaskKind; pull?: ImageProgress };
  readonly failure?: TaskFailure;
  /** This process has confirmed that nothing of it is left on the host. */
  readonly released: boolean;
  readonly elapsed: ObservedElapsed;
}
