// Reads what the launcher leaves in a VM's directory (libvmm/launcher/record.c writes it).
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DriverName } from './driver.ts';
import { AGENT_DIRECTORY } from './launch-config.ts';

export const RUNNING_RECORD = 'vmm.json';
export const EXIT_RECORD = 'exit.json';
export const LOCK_FILE = 'lock';
/** The agent port of a software VM: QEMU takes it as a descriptor. */
export const AGENT_SOCKET = 'agent.sock';
/** That of a libkrun VM, which makes it by itself, inside its jail. */
export const AGENT_SOCKET_IN_JAIL = `${AGENT_DIRECTORY}/sock`;
export const CONSOLE_LOG = 'console.log';
export const VMM_LOG = 'vmm.log';

/** The launcher writes below 10 KiB; more is not its work. */
const MAX_RECORD_BYTES = 64 * 1024;

export interface ProcessIdentity {
  pid: number;
  /** Clock ticks since boot. */
  startTime: number;
}

/** `vmm.json`: the processes of a VM that was started. */
export interface RunningRecord {
  id: string;
  driver: DriverName;
  bootId: string;
  supervisor: ProcessIdentity;
  vmm: ProcessIdentity;
  uid: number;
  startedAtMs: number;
  annotations: string;
  limitations: string[];
}

/** `exit.json`: how the VMM's process ended. Exactly one of exitCode and signal is there. */
export interface ExitRecord {
  exitCode?: number;
  signal?: number;
  oomKilled: boolean;
  /** The supervisor ended it because it was told to with SIGTERM. */
  asked: boolean;
  /** It was ended because the process that serves its shares was gone. */
  fileServerLost?: boolean;
  cpuSeconds: number;
  finishedAtMs: number;
}

type Fields = Record<string, unknown>;

async function readRecord(path: string): Promise<Fields | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
  if (text.length > MAX_RECORD_BYTES) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined; // a torn file cannot come from the launcher, which renames; as good as none
  }
}

function identity(value: unknown): ProcessIdentity | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { pid, startTime }: Fields = { ...value };
  if (!Number.isSafeInteger(pid) || !Number.isSafeInteger(startTime)) return undefined;
  return { pid: Number(pid), startTime: Number(startTime) };
}

/** The record of the last VM started in the directory; `undefined` when there is none that can be understood. */
export async function readRunningRecord(dir: string): Promise<RunningRecord | undefined> {
  const fields = await readRecord(join(dir, RUNNING_RECORD));
  const supervisor = identity(fields?.supervisor);
  const vmm = identity(fields?.vmm);
  if (!fields || !supervisor || !vmm || fields.version !== 1) return undefined;
  const { id, driver, bootId, uid, startedAtMs, annotations, limitations } = fields;
  if (typeof id !== 'string' || typeof bootId !== 'string' || typeof annotations !== 'string')
    return undefined;
  if (driver !== 'software' && driver !== 'libkrun') return undefined;
  if (!Number.isSafeInteger(uid) || !Number.isSafeInteger(startedAtMs) || !Array.isArray(limitations))
    return undefined;
  return {
    id,
    driver,
    bootId,
    supervisor,
    vmm,
    uid: Number(uid),
    startedAtMs: Number(startedAtMs),
    annotations,
    limitations: limitations.filter((item) => typeof item === 'string'),
  };
}

/** The last word of the supervisor; `undefined` when it left none. */
export async function readExitRecord(dir: string): Promise<ExitRecord | undefined> {
  const fields = await readRecord(join(dir, EXIT_RECORD));
  if (fields?.version !== 1) return undefined;
  const { exitCode, signal, oomKilled, asked, fileServerLost, cpuSeconds, finishedAtMs } = fields;
  if (typeof finishedAtMs !== 'number' || typeof cpuSeconds !== 'number') return undefined;
  return {
    ...(typeof exitCode === 'number' ? { exitCode } : {}),
    ...(typeof signal === 'number' ? { signal } : {}),
    oomKilled: oomKilled === true,
    asked: asked === true,
    ...(fileServerLost === true ? { fileServerLost } : {}),
    cpuSeconds,
    finishedAtMs,
  };
}
