// What this process holds of one sandbox: handles of the running VM and guest, the task under way, the host's record.
// All of it can be found again from the directory and the VM; nothing here is needed after a crash.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';

import { formatTime, isConditionTrue } from '../../../api/conditions.ts';
import { BulkheadError } from '../../../api/errors.ts';
import type { DefaultedSandbox } from '../../../api/sandbox.ts';
import type { Clock } from '../../../controller/clock.ts';
import type { GuestAgent, GuestProcess, GuestStats } from '../../../guest/agent.ts';
import type { BootableImage } from '../../../images/images.ts';
import type { SandboxNetworks } from '../../../network/network-plane.ts';
import type { ObjectKey } from '../../../store/store.ts';
import type { VmExit, VmHandle, VmmDriver } from '../../../vmm/driver.ts';
import { ElapsedTimes, within } from '../../elapsed.ts';
import type { GuestTrust } from '../effects/trust.ts';
import { isHostsPatch } from '../patches.ts';
import { SandboxProbes } from '../probes/sandbox-probes.ts';
import type { RoomProblem } from '../room.ts';
import { discardRoot, hasRoot, isMarkedPatched } from '../root-disk.ts';
import {
  type MainExit,
  type RootOrigin,
  type RunRecord,
  readRunRecord,
  writeRunRecord,
} from '../run-record.ts';
import { salvageRecord } from '../salvage.ts';
import type { ClaimedDisks, VolumeProblem } from '../volumes/claim.ts';
import type { MainProcess } from './main-process.ts';
import { TaskSlot } from './tasks.ts';
import { SandboxUse } from './use.ts';

/** What processes in the guest get unless they ask for something else. */
export interface ExecDefaults {
  /** KEY=VALUE: the image's, then the spec's. */
  env: readonly string[];
  /** Absent: root. */
  user?: string;
  cwd: string;
  /** The image's own. */
  entrypoint: readonly string[];
  cmd: readonly string[];
}

/** A sandbox whose VM runs, as the server and the metrics see it. */
export interface LiveSandbox {
  readonly uid: string;
  readonly key: ObjectKey;
  readonly handle: VmHandle;
  /** Absent until the guest answers. */
  readonly agent: GuestAgent | undefined;
  readonly startedAt: Date;
  /** Milliseconds by stage of this start: the driver's, then `connect`, `root`, `personalize`, `main`. Empty for an adopted VM. */
  readonly stages: Readonly<Record<string, number>>;
  readonly lastGuestStats: { at: Date; stats: GuestStats } | undefined;
  /** The main process; absent when there is none, or until the guest is up. Its output is in the log. */
  readonly main: GuestProcess | undefined;
  /** Known once the guest was reached. */
  readonly execDefaults: ExecDefaults | undefined;
  /** It counts as used until the returned function is called. */
  readonly use: () => () => void;
}

export interface GuestProgress {
  rootMounted: boolean;
  personalized: boolean;
  volumesMounted: boolean;
  /** Digest of what was written to each volume of files in this guest, by its name there. */
  fileDigests: Readonly<Record<string, string>>;
  /** What it was made to trust, where the gateway opens TLS. */
  trust: GuestTrust | undefined;
  /** Nothing of the start is left to do in this guest. */
  mainStarted: boolean;
  postStartFailure: string | undefined;
  bootMilliseconds: number | undefined;
  /** Of the whole start, once the guest was up. */
  stages: Readonly<Record<string, number>> | undefined;
}

/** What the VM sent before it ended may still be on its way through the channel for this long. */
const LAST_OUTPUT_MS = 2_000;

const NO_GUEST: GuestProgress = {
  rootMounted: false,
  personalized: false,
  volumesMounted: false,
  fileDigests: {},
  trust: undefined,
  mainStarted: false,
  postStartFailure: undefined,
  bootMilliseconds: undefined,
  stages: undefined,
};

export class SandboxRuntime {
  readonly uid: string;
  readonly key: ObjectKey;
  readonly dir: string;
  readonly tasks: TaskSlot;
  readonly elapsed: ElapsedTimes;
  readonly use: SandboxUse;
  readonly probes = new SandboxProbes();
  readonly #clock: Clock;
  readonly #wake: () => void;
  readonly #networks: Pick<SandboxNetworks, 'opened' | 'closed'>;

  directory = false;
  released = false;
  /** What was last asked of the image cache, until `image` is there. */
  imageReference: string | undefined;
  /** Leased for this sandbox. */
  image: BootableImage | undefined;
  /** Digest of the root's origin for which the image was looked up. */
  imageRoot: string | undefined;
  /** What it took to have the image there; part of the next start alone. */
  imageMilliseconds: number | undefined;
  /** Digests of the files that were last to be written, whether or not it succeeded. */
  filesTried: string | undefined;
  /** Claimed for the next start, or for the VM that runs. */
  volumes: ClaimedDisks | undefined;
  /** Why they could not be claimed. */
  volumeProblem: VolumeProblem | undefined;
  /** Why the host has no room for it. */
  roomProblem: RoomProblem | undefined;
  /** The host has its guest stand still for a moment, so that its disk can be copied. */
  frozen = false;
  /** How the VM of the current run ended. */
  exit: VmExit | undefined;
  main: MainProcess | undefined;
  mainExit: MainExit | undefined;
  guest: GuestProgress = { ...NO_GUEST };
  stages: Record<string, number> = {};
  execDefaults: ExecDefaults | undefined;
  lastGuestStats: { at: Date; stats: GuestStats } | undefined;
  /** Monotonic time of the last status write; what only tells of progress waits for its turn. */
  statusWrittenAt: number | undefined;
  /** Status writes in a row that met another writer's. */
  statusConflicts = 0;
  /** What is made of the spec, by its generation. */
  launch: { generation: number; digest: string; root: RootOrigin } | undefined;

  readonly #takenUp = Promise.withResolvers<void>();
  #loaded = false;
  #record: RunRecord | undefined;
  #writes: Promise<unknown> = Promise.resolve();
  #handle: VmHandle | undefined;
  #agent: GuestAgent | undefined;
  /** End with the connection. */
  #agentTasks: (() => void)[] = [];
  #silentSince: number;
  /** Monotonic time at which the VM was last seen standing still. */
  #stalledAt: number | undefined;

  constructor(
    uid: string,
    key: ObjectKey,
    sandboxesDir: string,
    clock: Clock,
    random: () => number,
    wake: () => void,
    networks: Pick<SandboxNetworks, 'opened' | 'closed'>,
  ) {
    this.#networks = networks;
    this.uid = uid;
    this.key = key;
    this.dir = join(sandboxesDir, uid);
    this.#clock = clock;
    this.#wake = wake;
    this.tasks = new TaskSlot(clock, random, wake);
    this.elapsed = new ElapsedTimes(clock);
    this.use = new SandboxUse(this.dir, () => clock.now(), wake);
    this.#silentSince = clock.monotonic();
  }

  get record(): RunRecord | undefined {
    return this.#record;
  }

  get handle(): VmHandle | undefined {
    return this.#handle;
  }

  get agent(): GuestAgent | undefined {
    return this.#agent;
  }

  /** Milliseconds since the agent fell silent; 0 while it answers. */
  get agentSilentMs(): number {
    return this.#agent?.connected === true ? 0 : this.#clock.monotonic() - this.#silentSince;
  }

  /** Milliseconds since the VM of this run stood still; 0 while it does, `undefined` when it never did. */
  get sinceStallMs(): number | undefined {
    if (this.#handle?.stall !== undefined) return 0;
    return this.#stalledAt === undefined ? undefined : this.#clock.monotonic() - this.#stalledAt;
  }

  /**
   * Resolves when this process knows what runs of the sandbox: a VM of an earlier daemon was taken up with its guest and log,
   * or there is none.
   */
  get takenUp(): Promise<void> {
    return this.#takenUp.promise;
  }

  /** The guest is up, and all of it at hand. */
  markTakenUp(): void {
    this.#takenUp.resolve();
  }

  /** Finds what earlier processes left: record, running VM, the end of one that ran. Does its work once. */
  async load(drivers: readonly VmmDriver[], object: DefaultedSandbox): Promise<void> {
    if (this.#loaded) return;
    this.directory = await isDirectory(this.dir);
    if (this.directory) {
      const record = await readRunRecord(this.dir);
      const isLost = record === undefined && (await hasRoot(this.dir));
      if (record === 'damaged' || isLost) {
        await this.#salvage(drivers, object, isLost ? 'missing' : 'damaged');
      } else {
        this.#record = record;
        // A judged run has no VM: the judgement is written after its end.
        if (record?.end === undefined) await this.#find(drivers);
        if (this.#handle !== undefined) this.probes.adopt(wasReady(object, this.#handle));
      }
    }
    this.#loaded = true;
    if (this.#handle === undefined) this.markTakenUp();
  }

  /** Changes the record, on disk first; concurrent changes come one after another. */
  async changeRecord(change: (record: RunRecord | undefined) => RunRecord): Promise<void> {
    const write = this.#writes.then(async () => {
      const next = change(this.#record);
      await writeRunRecord(this.dir, next);
      this.#record = next;
    });
    this.#writes = write.catch(() => {});
    await write;
  }

  /** A VM that was started or found. */
  takeHandle(handle: VmHandle): void {
    this.#handle = handle;
    this.exit = undefined;
    this.guest = { ...NO_GUEST };
    this.#silentSince = this.#clock.monotonic();
    this.#stalledAt = undefined;
    if (handle.networkHolder !== undefined) this.#networks.opened(this.uid, handle.networkHolder);
    const unwatch = handle.onStallChange(() => {
      if (this.#handle !== handle) return;
      this.#stalledAt = this.#clock.monotonic();
      // Its clock stood still with it. Should this fail, the agent's next hello shows it.
      if (handle.stall === undefined) this.#agent?.setClock().catch(() => {});
      this.#wake();
    });
    void handle.exited.then((exit) => {
      unwatch();
      if (this.#handle !== handle) return;
      this.#handle = undefined;
      this.#networks.closed(this.uid);
      this.exit = exit;
      this.probes.stop();
      this.markTakenUp();
      this.#dropGuest(exit);
      this.#wake();
    });
  }

  takeAgent(agent: GuestAgent): void {
    this.#agent = agent;
    agent.onConnectionChange((connected) => {
      if (this.#agent !== agent) return;
      if (!connected) this.#silentSince = this.#clock.monotonic();
      this.#wake();
    });
  }

  /** Calls back once the present connection is let go of. */
  whileAgent(end: () => void): void {
    this.#agentTasks.push(end);
  }

  #endAgentTasks(): void {
    for (const end of this.#agentTasks.splice(0)) end();
  }

  /** Lets go of a connection that is of no more use; the guest goes on, and is reached anew. */
  async dropAgent(): Promise<void> {
    const agent = this.#agent;
    this.#agent = undefined;
    this.#endAgentTasks();
    this.guest = { ...this.guest, mainStarted: false };
    await agent?.close().catch(() => {});
    await this.main?.settled;
  }

  /** A new run begins: nothing that was seen of the former one holds. */
  beginRun(): void {
    this.exit = undefined;
    this.main = undefined;
    this.mainExit = undefined;
    this.guest = { ...NO_GUEST };
    this.stages = {};
    this.execDefaults = undefined;
    this.probes.reset();
    this.use.reset();
    this.lastGuestStats = undefined;
  }

  /** Everything of it is gone from the host. */
  markReleased(): void {
    this.#record = undefined;
    this.directory = false;
    this.released = true;
  }

  /** Lets go of the guest; VM and guest go on. */
  async detach(): Promise<void> {
    this.probes.stop();
    this.#endAgentTasks();
    await this.#agent?.close().catch(() => {});
    await this.main?.settled;
  }

  #dropGuest(exit: VmExit): void {
    const agent = this.#agent;
    this.#agent = undefined;
    this.#endAgentTasks();
    this.#silentSince = this.#clock.monotonic();
    const output = this.main?.settled ?? Promise.resolve();
    void within(this.#clock, LAST_OUTPUT_MS, output).then(() =>
      agent?.close(new BulkheadError('SANDBOX_NOT_RUNNING', exit.message)).catch(() => {}),
    );
  }

  /** A run about which nothing certain is known is ended and counts as lost. */
  async #salvage(
    drivers: readonly VmmDriver[],
    object: DefaultedSandbox,
    state: 'damaged' | 'missing',
  ): Promise<void> {
    const wasAlive = await this.#killAny(drivers);
    const now = new Date(this.#clock.now());
    const patched = await this.#hasPatches(object);
    // How far the patches came is not known, and nothing has run on the disk yet.
    if (!patched) await discardRoot(this.dir);
    this.#record = await salvageRecord(object, join(this.dir, 'logs'), patched, now);
    if (this.#record.end !== undefined) return;
    const what = wasAlive ? 'so its VM was stopped' : 'so how it ended is not known';
    const message = `The host's record of the run in run.json is ${state}, ${what}.`;
    this.exit = { kind: 'lost', message, finishedAt: now };
  }

  /** Is the root file system one that processes of the sandbox may have worked in? */
  async #hasPatches({ spec, status }: DefaultedSandbox): Promise<boolean> {
    const wants = (spec.patches ?? []).some((patch) => !isHostsPatch(patch));
    return !wants || status?.vm?.bootMilliseconds !== undefined || (await isMarkedPatched(this.dir));
  }

  async #killAny(drivers: readonly VmmDriver[]): Promise<boolean> {
    let wasAlive = false;
    for (const driver of drivers) {
      const handle = await driver.adopt(this.dir);
      if (handle === undefined) continue;
      wasAlive = true;
      await handle.kill();
    }
    return wasAlive;
  }

  async #find(drivers: readonly VmmDriver[]): Promise<void> {
    const record = this.#record;
    if (record === undefined) {
      // A VM is only ever started after its intent was recorded: of one without a record nothing is known.
      await this.#killAny(drivers);
      return;
    }
    const driver = drivers.find((each) => each.name === record.driver);
    if (driver === undefined) {
      throw new BulkheadError(
        'DRIVER_UNAVAILABLE',
        `The sandbox last ran with the ${record.driver} driver, which this host no longer has.`,
      );
    }
    const handle = await driver.adopt(this.dir);
    if (handle !== undefined) return this.takeHandle(handle);
    const exit = await driver.lastExit(this.dir);
    if (record.vm !== undefined) {
      this.exit = exit ?? {
        kind: 'lost',
        message: 'The VM is gone and left no record.',
        finishedAt: new Date(this.#clock.now()),
      };
    } else if (
      exit !== undefined &&
      exit.kind !== 'lost' &&
      exit.finishedAt.toISOString() !== record.previousExit
    ) {
      // It was started and ended before its start could be recorded.
      this.exit = exit;
    }
  }
}

/** As the status says of this very VM. */
function wasReady({ status }: DefaultedSandbox, { pid, startedAt }: VmHandle): boolean {
  const same = status?.vm?.pid === pid && status.vm.startedAt === formatTime(startedAt);
  return same && isConditionTrue(status.conditions, 'Ready');
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
