// Figures of a VM as the host's kernel counts them.
import { readFile } from 'node:fs/promises';
import type { VmFigures } from '../api/wire.ts';

/** USER_HZ: what /proc counts in; fixed at 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
const KIB = 1024;

/** user + system time of /proc/PID/stat, seconds. */
export function parseCpuSeconds(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
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

/**
 * Reads the VMM's process. What the kernel does not tell (a process that just ended, no smaps_rollup) is 0 or the
 * next best figure. The guest receives what its TAP transmits, so directions are turned to the guest's view here.
 */
export async function readVmStats(vmmPid: number, memoryLimitBytes: number): Promise<VmFigures> {
  const read = (file: string) => readFile(`/proc/${vmmPid}/${file}`, 'utf8').catch(() => '');
  const [stat, status, rollup, io, net] = await Promise.all([
    read('stat'),
    read('status'),
    read('smaps_rollup'),
    read('io'),
    read('net/dev'),
  ]);
  const tap = parseNetDev(net, 'tap0');
  return {
    cpuSeconds: parseCpuSeconds(stat),
    memoryBytes: parseKibLine(rollup, 'Pss') ?? parseKibLine(status, 'VmRSS') ?? 0,
    memoryLimitBytes,
    diskReadBytes: parseIo(io, 'read_bytes'),
    diskWriteBytes: parseIo(io, 'write_bytes'),
    networkReceiveBytes: tap.transmitBytes,
    networkTransmitBytes: tap.receiveBytes,
    networkReceivePackets: tap.transmitPackets,
    networkTransmitPackets: tap.receivePackets,
  };
}
