// What the software driver needs of this host, found once.
import { execFile } from 'node:child_process';
import { readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BulkheadError } from '../../api/errors.ts';
import { writeFileAtomic } from '../atomic-file.ts';
import type { HostLibrary } from '../ffi.ts';
import { checkVmHost, openVmHost, type VmHost, type VmHostOptions } from '../vm-host.ts';

const QEMU = '/usr/bin/qemu-system-x86_64';
const FIRMWARE = '/usr/share/qemu/bios-microvm.bin';
/** Starts a kernel by its PVH entry; the firmware runs it. */
const BOOT_ROM = '/usr/share/qemu/pvh.bin';
const VERSION_TIMEOUT_MS = 10_000;
/** Warm start relies on how 7.2 restores shared memory; older ones lack devices. */
const MIN_QEMU_MAJOR = 7;

export interface SoftwareOptions extends VmHostOptions {
  /** Starts in flight at once; the number of cores when absent. */
  maxConcurrentStarts?: number;
  /** All templates together on disk, bytes; least recently used ones go first. */
  maxTemplateBytes?: number;
  /** Told when a warm start falls back to a cold boot, or a template is made again. */
  onWarning?: (message: string) => void;
}

export interface HostFiles {
  qemu: string;
  firmware: string;
  bootRom: string;
  kernel: string;
  initramfs: string;
}

export interface SoftwareHost extends VmHost {
  files: HostFiles;
  tscKhz: number;
}

export async function openSoftwareHost(options: SoftwareOptions): Promise<SoftwareHost> {
  const host = await openVmHost(options);
  return {
    ...host,
    files: {
      qemu: QEMU,
      firmware: await realpath(FIRMWARE).catch(() => FIRMWARE),
      bootRom: BOOT_ROM,
      ...host.guest,
    },
    tscKhz: await clockRate(host.library, join(options.stateDir, 'host.json'), host.bootId),
  };
}

/** Rate of the time stamp counter, measured once per host boot: it is baked into every template. */
async function clockRate(library: HostLibrary, path: string, bootId: string): Promise<number> {
  const text = await readFile(path, 'utf8').catch(() => '{}');
  try {
    const value: unknown = JSON.parse(text);
    const fields: Record<string, unknown> = typeof value === 'object' && value !== null ? { ...value } : {};
    if (fields.bootId === bootId && Number.isSafeInteger(fields.tscKhz)) return Number(fields.tscKhz);
  } catch {
    // a torn file of an older release: measured again below
  }
  const tscKhz = await library.tscKhz();
  await writeFileAtomic(path, JSON.stringify({ bootId, tscKhz }));
  return tscKhz;
}

/** QEMU's version text. Rejects with DRIVER_UNAVAILABLE and what to do about it. */
export async function checkHost(host: SoftwareHost): Promise<string> {
  const unavailable = (message: string) => new BulkheadError('DRIVER_UNAVAILABLE', message);
  const remedy = 'install the package qemu-system-x86';
  const { qemu, firmware, bootRom } = host.files;
  await checkVmHost(host, 'software', [
    [qemu, remedy],
    [firmware, remedy],
    [bootRom, remedy],
  ]);
  const { stdout } = await promisify(execFile)(qemu, ['--version'], {
    timeout: VERSION_TIMEOUT_MS,
  });
  const version = /version (\d+)\.[\d.]+/.exec(stdout);
  if (!version) throw unavailable(`${qemu} does not tell its version.`);
  if (Number(version[1]) < MIN_QEMU_MAJOR)
    throw unavailable(`QEMU 7.2 or later is needed, this is ${version[0]}.`);
  return version[0].replace('version ', '');
}
