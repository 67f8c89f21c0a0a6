// Figures of a VM as the host's kernel counts them.
import { closeSync, openSync, read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import type { VmFigures } from '../api/wire.ts';
import type { ProcessIdentity } from './records.ts';

/** USER_HZ: what /proc counts in; fixed at 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
const KIB = 1024;

/** The fields of /proc/PID/stat from the state on. */
function statFields(stat: string): string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** When the process began, in clock ticks since boot, and whether only its record is left. */
export function parseIdentity(stat: string): { startTime: number; ended: boolean } {
  const fields = statFields(stat);
  return { startTime: Number(fields[19]), ended: fields[0] === 'Z' || fields[0] === 'X' };
}

/** user + system time of /proc/PID/stat, seconds. */
export function parseCpuSeconds(stat: string): number {
  const fields = statFields(stat);
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND || 0;
}

/** A "Name:   123 kB" line of /proc, in bytes. */
export function parseKibLine(text: string, name: string): number | undefined {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text);
  return match ? Number(match[1]) * KIB : undefined;
}

export interface InterfaceCounters {
  receiveBytes: number;
  receivePackets: number;
  transmitBytes: number;
  transmitPackets: number;
}

/** One interface of /proc/PID/net/dev; zeros when it is missing. */
export function parseNetDev(text: string, name: string): InterfaceCounters {
  const line = text.split('\n').find((candidate) => candidate.trim().startsWith(`${name}:`));
  const values = line?.split(':')[1]?.trim().split(/\s+/).map(Number) ?? [];
  return {
    receiveBytes: values[0] ?? 0,
    receivePackets: values[1] ?? 0,
    transmitBytes: values[8] ?? 0,
    transmitPackets: values[9] ?? 0,
  };
}

/** A "name: 123" line of /proc/PID/io. */
function parseIo(text: string, name: string): number {
  return Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
}

/** Files that a kernel may lack, or not show: then their figures are 0. Another failure may pass, and is one of the reading. */
const NOT_THERE = new Set(['ENOENT', 'EACCES', 'ESRCH', 'EINVAL']);

/** More than any of the files has: two interfaces, 52 fields, 25 lines. */
const FILE_BYTES = 4096;
const shared = Buffer.allocUnsafe(FILE_BYTES);
const readAsync = promisify(read);

/**
 * A file that the kernel writes from counters, in microseconds: reading it here costs a third of what handing it to another thread
 * does, which is what a scrape of many VMs is made of.
 */
function readCounters(path: string): string {
  const fd = openSync(path, 'r');
  try {
    return shared.toString('latin1', 0, readSync(fd, shared, 0, FILE_BYTES, 0));
  } finally {
    closeSync(fd);
  }
}

/** A file for which the kernel walks all memory of the process, and waits where another does: not on the event loop. */
async function readWalked(path: string): Promise<string> {
  const fd = openSync(path, 'r');
  try {
    const { bytesRead, buffer } = await readAsync(fd, Buffer.allocUnsafe(FILE_BYTES), 0, FILE_BYTES, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    closeSync(fd);
  }
}

function unlessMissing(error: unknown): string {
  if (NOT_THERE.has((error as NodeJS.ErrnoException).code ?? '')) return '';
  throw error;
}

/**
 * Reads the VMM's process; rejects when it is gone, or when it cannot be read now. The guest receives what its TAP transmits,
 * so directions are turned to the guest's view here.
 */
export async function readVmStats(vmm: ProcessIdentity, memoryLimitBytes: number): Promise<VmFigures> {
  const path = (file: string) => `/proc/${vmm.pid}/${file}`;
  const countersIfThere = (file: string): string => {
    try {
      return readCounters(path(file));
    } catch (error) {
      return unlessMissing(error);
    }
  };
  const rollup = await readWalked(path('smaps_rollup')).catch(unlessMissing);
  const memoryBytes =
    parseKibLine(rollup, 'Pss') ??
    parseKibLine(await readWalked(path('status')).catch(unlessMissing), 'VmRSS') ??
    0;
  const io = countersIfThere('io');
  const tap = parseNetDev(countersIfThere('net/dev'), 'tap0');
  // Last: that it is still the same process, and alive, tells that the others were of it and whole.
  const stat = readCounters(path('stat'));
  const { startTime, ended } = parseIdentity(stat);
  if (ended || startTime !== vmm.startTime) throw new Error(`process ${vmm.pid} has ended`);
  return {
    cpuSeconds: parseCpuSeconds(stat),
    memoryBytes,
    memoryLimitBytes,
    diskReadBytes: parseIo(io, 'read_bytes'),
    diskWriteBytes: parseIo(io, 'write_bytes'),
    networkReceiveBytes: tap.transmitBytes,
    networkTransmitBytes: tap.receiveBytes,
    networkReceivePackets: tap.transmitPackets,
    networkTransmitPackets: tap.receivePackets,
  };
}
