// Log files of a sandbox: `<dir>/logs/<run>-<segment>.log`. A run's output is cut into segments of bounded size, of
// which the last few are kept.
import { readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';

/** The kubelet's figures for container logs: 10 MiB and 5 files. */
export const SEGMENT_MAX_BYTES = 10 * 1024 * 1024;
export const SEGMENTS_PER_RUN = 5;

export interface Segment {
  run: number;
  segment: number;
  path: string;
}

const NAME = /^(\d{6,12})-(\d{6,12})\.log$/;

export function segmentPath(dir: string, run: number, segment: number): string {
  return join(dir, `${String(run).padStart(6, '0')}-${String(segment).padStart(6, '0')}.log`);
}

/** All segments of all runs, oldest first; empty when there is no such directory. */
export async function listSegments(dir: string): Promise<Segment[]> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const segments: Segment[] = [];
  for (const name of names) {
    const match = NAME.exec(name);
    if (match === null) continue;
    segments.push({ run: Number(match[1]), segment: Number(match[2]), path: join(dir, name) });
  }
  return segments.sort((a, b) => a.run - b.run || a.segment - b.segment);
}

/** Removes what is beyond the bounds: segments of a run before its last few, and runs before the previous one. */
export async function pruneSegments(dir: string, run: number): Promise<void> {
  const segments = await listSegments(dir);
  const previous = Math.max(0, ...segments.filter((each) => each.run < run).map((each) => each.run));
  for (const kept of [previous, run]) {
    const own = segments.filter((each) => each.run === kept);
    for (const each of own.slice(0, Math.max(0, own.length - SEGMENTS_PER_RUN))) await remove(each.path);
  }
  for (const each of segments) if (each.run < previous) await remove(each.path);
}

async function remove(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
