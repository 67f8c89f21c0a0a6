// Control groups of VMs. Version 2 is the target; where a controller is bound to a version 1 hierarchy, that one is used.
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export type Controller = 'cpu' | 'memory' | 'pids';
const CONTROLLERS: readonly Controller[] = ['cpu', 'memory', 'pids'];

/** Our folder in each hierarchy. It stays when it is empty: another daemon may be about to use it. */
const PARENT = 'bulkhead';
/** All supervisors share one group, so that no VM's limits and no stop of the daemon's own unit ends them. */
const SUPERVISORS = '_supervisors';

/** cgroup CPU accounting period, microseconds; the kernel's default. */
const CPU_PERIOD_US = 100_000;
/** For the VMM's own threads beside the vCPUs (disk, network, timers), in cores. */
const VMM_CPU_ALLOWANCE = 0.25;
/** Threads of a VMM: vCPUs (at most 32), about 6 of its own and a pool of at most 64. */
const MAX_TASKS = 128;
/** A process that was just reaped keeps its group busy for a moment; 1 s covers a loaded host. */
const REMOVE_ATTEMPTS = 100;
const REMOVE_PAUSE_MS = 10;

interface Hierarchy {
  version: 1 | 2;
  mountPoint: string;
  /** Controllers of it that we use; empty for one that is only left, see `detect`. */
  controllers: Controller[];
}

/** In a group of this version 1 controller nothing can run before it has these, taken over from the group above. */
const CPUSET_FILES = ['cpuset.cpus', 'cpuset.mems'];

export interface CgroupLimits {
  cpus: number;
  memoryBytes: number;
}

export interface VmCgroups {
  vmmDirs: string[];
  supervisorDirs: string[];
  /** Holds the line `oom_kill N`. */
  oomFile?: string;
  limitations: string[];
}

/** Field 9 and on of mountinfo(5), behind the separator. */
function parseMounts(mountinfo: string): { mountPoint: string; type: string; options: string[] }[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [left, right] = line.split(' - ');
    const mountPoint = left?.split(' ')[4];
    const [type, , options] = right?.split(' ') ?? [];
    if (!mountPoint || !type) return [];
    return [{ mountPoint, type, options: options?.split(',') ?? [] }];
  });
}

export class Cgroups {
  readonly #hierarchies: Hierarchy[];
  private constructor(hierarchies: Hierarchy[]) {
    this.#hierarchies = hierarchies;
  }

  static async detect(): Promise<Cgroups> {
    const mounts = parseMounts(await readFile('/proc/self/mountinfo', 'utf8'));
    const hierarchies: Hierarchy[] = [];
    const unified = mounts.find((mount) => mount.type === 'cgroup2');
    if (unified) {
      const text = await readFile(join(unified.mountPoint, 'cgroup.controllers'), 'utf8').catch(() => '');
      const present = text.trim().split(' ');
      const controllers = CONTROLLERS.filter((name) => present.includes(name));
      hierarchies.push({ version: 2, mountPoint: unified.mountPoint, controllers });
    }
    const ownGroups = parseOwnGroups(await readFile('/proc/self/cgroup', 'utf8'));
    for (const mount of mounts.filter((candidate) => candidate.type === 'cgroup')) {
      const controllers = CONTROLLERS.filter((name) => mount.options.includes(name));
      // By name=systemd a service manager knows whose process one is. A container runtime knows it by any hierarchy: where the
      // daemon runs in a container, all of its groups are left, or its VMs would end with it.
      const isLeft =
        mount.options.includes('name=systemd') ||
        ownGroups.some(
          ({ names, path }) => path !== '/' && names.every((name) => mount.options.includes(name)),
        );
      if (controllers.length > 0 || isLeft)
        hierarchies.push({ version: 1, mountPoint: mount.mountPoint, controllers });
    }
    return new Cgroups(hierarchies);
  }

  /** One sentence for `doctor`. */
  describe(): string {
    const by = (version: 1 | 2) =>
      this.#hierarchies.filter((item) => item.version === version).flatMap((item) => item.controllers);
    const missing = CONTROLLERS.filter((name) => !by(1).includes(name) && !by(2).includes(name));
    const parts: string[] = [];
    if (by(2).length > 0) parts.push(`version 2: ${by(2).join(', ')}`);
    if (by(1).length > 0) parts.push(`version 1: ${by(1).join(', ')}`);
    if (missing.length > 0) parts.push(`missing: ${missing.join(', ')}`);
    return `cgroups ${parts.join('; ')}`;
  }

  /** Makes the groups of a VM and sets its limits. What cannot be had is in `limitations`. */
  async create(id: string, limits: CgroupLimits): Promise<VmCgroups> {
    const made: VmCgroups = { vmmDirs: [], supervisorDirs: [], limitations: [] };
    const limited = new Set<Controller>();
    for (const hierarchy of this.#hierarchies) {
      const parent = join(hierarchy.mountPoint, PARENT);
      const vmm = join(parent, id);
      const supervisors = join(parent, SUPERVISORS);
      try {
        await mkdir(supervisors, { recursive: true });
        await mkdir(vmm, { recursive: true });
        if (hierarchy.version === 1) await fillCpuset(hierarchy.mountPoint, [parent, supervisors, vmm]);
      } catch (error) {
        made.limitations.push(
          `The cgroup hierarchy at ${hierarchy.mountPoint} cannot be written: ${error instanceof Error ? error.message : error}`,
        );
        continue;
      }
      made.vmmDirs.push(vmm);
      made.supervisorDirs.push(supervisors);
      for (const controller of hierarchy.controllers) {
        try {
          if (hierarchy.version === 2) await delegate(hierarchy.mountPoint, parent, controller);
          await setLimit(hierarchy.version, vmm, controller, limits);
          limited.add(controller);
        } catch (error) {
          made.limitations.push(
            `The cgroup limit for ${controller} was refused: ${error instanceof Error ? error.message : error}`,
          );
        }
      }
      if (hierarchy.controllers.includes('memory'))
        made.oomFile = join(vmm, hierarchy.version === 2 ? 'memory.events' : 'memory.oom_control');
    }
    for (const controller of CONTROLLERS)
      if (!limited.has(controller) && !made.limitations.some((text) => text.includes(` ${controller} `)))
        made.limitations.push(`This host has no cgroup controller ${controller}, so that limit is not set.`);
    return made;
  }

  /** Removes the groups of a VM that is gone. Safe to repeat. */
  async remove(id: string): Promise<void> {
    for (const hierarchy of this.#hierarchies) await removeDir(join(hierarchy.mountPoint, PARENT, id));
  }

  /** Processes in the groups of a VM. */
  async processes(id: string): Promise<number[]> {
    const pids = new Set<number>();
    for (const { mountPoint } of this.#hierarchies) {
      const text = await readFile(join(mountPoint, PARENT, id, 'cgroup.procs'), 'utf8').catch(() => '');
      for (const line of text.split('\n')) if (line !== '') pids.add(Number(line));
    }
    return [...pids];
  }
}

/** Lines of /proc/self/cgroup for version 1, such as `4:cpu,cpuacct:/kubepods/x`. */
function parseOwnGroups(text: string): { names: string[]; path: string }[] {
  return text.split('\n').flatMap((line) => {
    const [, names, ...path] = line.split(':');
    return names === undefined || names === '' ? [] : [{ names: names.split(','), path: path.join(':') }];
  });
}

/** Where the hierarchy is that of cpuset, `groups` get what the group above the first has. */
async function fillCpuset(above: string, groups: readonly string[]): Promise<void> {
  for (const file of CPUSET_FILES) {
    const value = await readFile(join(above, file), 'utf8').catch(() => undefined);
    if (value === undefined) return;
    for (const group of groups) await writeFile(join(group, file), value.trim());
  }
}

async function delegate(root: string, parent: string, controller: Controller): Promise<void> {
  await writeFile(join(root, 'cgroup.subtree_control'), `+${controller}`);
  await writeFile(join(parent, 'cgroup.subtree_control'), `+${controller}`);
}

async function setLimit(
  version: 1 | 2,
  dir: string,
  controller: Controller,
  limits: CgroupLimits,
): Promise<void> {
  const quota = Math.round((limits.cpus + VMM_CPU_ALLOWANCE) * CPU_PERIOD_US);
  const write = (file: string, value: string | number) => writeFile(join(dir, file), String(value));
  switch (controller) {
    case 'cpu':
      if (version === 2) return write('cpu.max', `${quota} ${CPU_PERIOD_US}`);
      await write('cpu.cfs_period_us', CPU_PERIOD_US);
      return write('cpu.cfs_quota_us', quota);
    case 'memory':
      if (version === 1) return write('memory.limit_in_bytes', limits.memoryBytes);
      await write('memory.max', limits.memoryBytes);
      return write('memory.oom.group', 1);
    case 'pids':
      return write('pids.max', MAX_TASKS);
  }
}

async function removeDir(dir: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await rmdir(dir);
      return;
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined;
      if (code === 'ENOENT') return;
      if (code !== 'EBUSY' || attempt === REMOVE_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, REMOVE_PAUSE_MS));
    }
  }
}
