// The lab as its users see it: prepared once, then any number of runs, each in a lab host of its own.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCarriedDisk, makeProjectDisk, modulesDisk } from './disks.ts';
import { fixturesForLab } from './fixtures.ts';
import { type LabOutcome, runInLab } from './lab-host.ts';
import { type Prepared, prepareLab } from './prepared.ts';

/** How often a command is tried when its lab host died; one in ten did when it ran guests for minutes. */
const MAX_ATTEMPTS = 4;

/** What /carried holds: a folder of the caller, the fixtures as the tests' build cache, or nothing. */
export type Carried = { folder: string } | 'fixtures' | 'nothing';

export interface LabCommand {
  command: string;
  limitMs: number;
  onOutput(text: Buffer): void;
  /** Where /scratch/results goes. */
  results?: string;
  /** Told of each lab host that died, before the command is run again from its beginning. */
  onCrash(reason: string): void;
}

export interface LabResult {
  outcome: LabOutcome;
  /** Lab hosts that died. */
  crashes: number;
}

export class Lab implements AsyncDisposable {
  readonly #prepared: Prepared;
  readonly #dir: string;
  readonly #disks: { project: string; modules: string; carried: string };
  #runs = 0;

  private constructor(prepared: Prepared, dir: string, disks: typeof Lab.prototype.disks) {
    this.#prepared = prepared;
    this.#dir = dir;
    this.#disks = disks;
  }

  /** Carries the checkout as it is now; later edits are not seen. */
  static async open(carried: Carried): Promise<Lab> {
    const prepared = await prepareLab();
    await removeAbandoned();
    const dir = await mkdtemp(join(tmpdir(), `bulkhead-lab-${process.pid}-`));
    try {
      const project = join(dir, 'project');
      await makeProjectDisk(project);
      const disk = carried === 'fixtures' ? await fixturesForLab() : await carriedDisk(carried, dir);
      return new Lab(prepared, dir, { project, modules: await modulesDisk(), carried: disk });
    } catch (error) {
      await rm(dir, { recursive: true, force: true });
      throw error;
    }
  }

  get disks(): { project: string; modules: string; carried: string } {
    return this.#disks;
  }

  /** Runs a command; again in a fresh lab host when the lab host died, never because the command failed. */
  async run(command: LabCommand): Promise<LabResult> {
    for (let attempt = 1; ; attempt++) {
      const dir = join(this.#dir, `${++this.#runs}`);
      await mkdir(dir);
      const outcome = await runInLab(this.#prepared, { ...command, disks: this.#disks, dir });
      await rm(dir, { recursive: true, force: true });
      if (outcome.kind !== 'crashed') return { outcome, crashes: attempt - 1 };
      command.onCrash(outcome.reason);
      if (attempt === MAX_ATTEMPTS) return { outcome, crashes: attempt };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true });
  }
}

/** Disks of labs whose process was killed, by the pid in their names. */
async function removeAbandoned(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = /^bulkhead-lab-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      await rm(join(tmpdir(), name), { recursive: true, force: true });
  }
}

async function carriedDisk(carried: Exclude<Carried, 'fixtures'>, dir: string): Promise<string> {
  const output = join(dir, 'carried');
  const nothing = join(dir, 'nothing');
  await mkdir(nothing);
  await makeCarriedDisk(carried === 'nothing' ? nothing : carried.folder, output);
  return output;
}
