// What the Sandbox reconciler is given from outside.
import type { DefaultedSandbox, DefaultedSandboxSpec } from '../../api/sandbox.ts';
import type { Clock } from '../../controller/clock.ts';
import type { Log } from '../../controller/log.ts';
import type { Enqueuer } from '../../controller/reconciler.ts';
import type { Copies } from '../../copies/copies.ts';
import type { GuestAgent } from '../../guest/agent.ts';
import type { Images } from '../../images/images.ts';
import type { SandboxNetworks } from '../../network/network-plane.ts';
import type { ObjectKey, Store } from '../../store/store.ts';
import type { HostPaths, VmHandle, VmmDriver } from '../../vmm/driver.ts';
import type { VolumeClaims } from '../../volumes/volumes.ts';
import type { Step } from './machine.ts';
import type { SandboxEventRecorder } from './recorder.ts';
import type { Room } from './room.ts';

/** Picks the driver that a spec asks for. */
export interface DriverSelector {
  /** All that this host knows, usable or not: for finding and releasing VMs of earlier starts. */
  readonly all: readonly VmmDriver[];
  /** `reason` is one sentence for people. Throws DRIVER_UNAVAILABLE. */
  select(
    wanted: DefaultedSandboxSpec['driver'],
    signal: AbortSignal,
  ): Promise<{ driver: VmmDriver; reason: string }>;
}

/** Connects to the agent of a VM; the result dials again by itself. */
export type ConnectGuest = (handle: VmHandle, signal: AbortSignal) => Promise<GuestAgent>;

/** What is told of a start that is over. */
export interface SandboxStart {
  sandbox: DefaultedSandbox;
  /** Milliseconds by stage, which follow one another. */
  stages: Readonly<Record<string, number>>;
  /** Absent where it came to none. */
  driver?: string;
  run?: number;
}

/** What metrics and traces are told as it happens. */
export interface SandboxMetrics {
  started(start: SandboxStart, vm: VmHandle): void;
  /** `reason`: the error's, from the table of errors. */
  startFailed(start: SandboxStart, reason: string): void;
  terminated(reason: string): void;
  /** Directories without an object that a sweep could not clean up. */
  orphans(count: number): void;
}

export interface SandboxReconcilerDeps {
  store: Store;
  images: Images;
  volumes: VolumeClaims;
  hostPaths: HostPaths;
  /** What patches of the kind `copy` put into guests. */
  copies: Pick<Copies, 'read'>;
  /** Told when a guest has told the usage of a Volume's disk. */
  volumeMeasured(volume: ObjectKey): void;
  drivers: DriverSelector;
  connectGuest: ConnectGuest;
  networks: SandboxNetworks;
  enqueuer: Enqueuer;
  recorder: SandboxEventRecorder;
  metrics: SandboxMetrics;
  log: Log;
  clock: Clock;
  /** `<state>/sandboxes`: one directory per uid. Exists. */
  sandboxesDir: string;
  /** Who may start. */
  room: Room;
  /** All memory of this host: no VM can have more. */
  hostMemoryBytes: number;
  /** `status.nodeName`. */
  nodeName: string;
  /** 0 to 1; for jitter. */
  random: () => number;
  /** Told of every step, for tests that want to know which ways were taken. */
  onStep?: (from: string, step: Step) => void;
}
