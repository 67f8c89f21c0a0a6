// Memory and processor time of a sandbox's processes, from /proc. Units: MiB, seconds.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';

/** A mapping at least this large is the guest's memory: all guests here have 512 MiB, in one piece. */
const GUEST_MEMORY_KIB = 256 * 1024;
const NANOSECONDS = 1e9;

function descendants(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number),
  );
  return [pid, ...children.flatMap(descendants)];
}

/** The program of a process; undefined for one of the kernel's, and for one that has ended. */
function programOf(pid: string): string | undefined {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`));
  } catch {
    return undefined;
  }
}

/** The processes that run that program, and all below them. By its file: libkrun gives its processes names of its own. */
export function processesOf(program: string): number[] {
  const roots = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && programOf(entry) === program)
    .map(Number);
  if (roots.length === 0) throw new Error(`no process runs ${program}`);
  return [...new Set(roots.flatMap(descendants))];
}

/** Proportional share of memory: all of it, and what is not the guest's memory. */
export function memoryOf(pids: readonly number[]): { all: number; beyondGuest: number } {
  let [all, guest] = [0, 0];
  for (const pid of pids) {
    for (const mapping of readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
      const kib = (field: string) =>
        Number(new RegExp(`^${field}: +(\\d+) kB$`, 'm').exec(mapping)?.[1] ?? 0);
      all += kib('Pss');
      if (kib('Size') >= GUEST_MEMORY_KIB) guest += kib('Pss');
    }
  }
  return { all: all / 1024, beyondGuest: (all - guest) / 1024 };
}

/** Time on a processor so far; threads that have ended do not count. */
export function processorSeconds(pids: readonly number[]): number {
  let nanoseconds = 0;
  for (const pid of pids)
    for (const task of readdirSync(`/proc/${pid}/task`))
      nanoseconds += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  return nanoseconds / NANOSECONDS;
}
