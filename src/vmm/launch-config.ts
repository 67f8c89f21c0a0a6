// Encodes the launcher's configuration. The form and the reason for it: libvmm/launcher/config.h.
import { FIRST_INHERITED_FD } from './ffi.ts';

const MAGIC = 'BHVM';
const VERSION = 1;

/** `enum config_tag` of the launcher. */
const TAG = {
  id: 1,
  directory: 2,
  kind: 3,
  uid: 4,
  gid: 5,
  argument: 6,
  bind: 7,
  vmmCgroup: 8,
  supervisorCgroup: 9,
  oomFile: 10,
  vmmFds: 11,
  tapFd: 12,
  tapAddress: 13,
  consoleFd: 14,
  logBytes: 15,
  addressSpace: 16,
  annotations: 17,
  limitation: 18,
  share: 19,
  serverArgument: 20,
  serverBind: 21,
  serverFd: 22,
} as const;

/** A read-only view of a host file or folder in the jail. At most one of the flags; `struct bind_mount` says more. */
export interface BindMount {
  source: string;
  target: string;
  executable?: boolean;
  /** One regular file that the VMM may write. Give it to the VM's user before the launch. */
  writable?: boolean;
  /** A character device; the target lies below /dev. The launcher makes a node of its own for the VM's user. */
  device?: boolean;
}

/** Name of the TAP in a VM's network namespace. */
export const TAP_NAME = 'tap0';
/** In the jail of kind libkrun: the VMM's own tiny file system, where it makes the agent's socket. */
export const AGENT_DIRECTORY = '/agent';

/** In the jail of whoever serves shares: a directory with one entry for each, by number. */
export const SHARES_DIRECTORY = '/shares';

/** The process beside a VMM of kind software that serves the shares. */
export interface FileServer {
  /** Its argv; it listens on descriptor FIRST_INHERITED_FD. */
  argv: string[];
  binds: BindMount[];
  /** Number of the VMM's connection to it. */
  fd: number;
}

export interface LaunchConfig {
  id: string;
  directory: string;
  kind: 'software' | 'libkrun';
  uid: number;
  gid: number;
  /** The VMM's argv; the first is its path inside the jail. */
  argv: string[];
  binds: BindMount[];
  vmmCgroups: string[];
  supervisorCgroups: string[];
  oomFile?: string;
  /** How many inherited descriptors there are, from FIRST_INHERITED_FD on. */
  vmmFds: number;
  /** Absent for kind libkrun: its VMM attaches to the TAP by name, TAP_NAME. */
  tapFd?: number;
  /** Host side of the TAP, in CIDR notation; absent for a VM without network. */
  tapAddress?: string;
  consoleFd: number;
  /** Bound of the console log and of the VMM's own log, in bytes each. */
  logBytes: number;
  /** RLIMIT_AS for hosts without a memory cgroup. */
  addressSpaceBytes?: number;
  /** Kept in the record for the daemon that adopts the VM; at most 4095 bytes. */
  annotations: string;
  /** Whether each of the inherited descriptors behind the VMM's, which are shares, may be written to. */
  shares?: { readOnly: boolean }[];
  /** With shares, for kind software. */
  server?: FileServer;
  /** What is known already to be lacking. */
  limitations: string[];
}

/** Descriptors for the VMM and the numbers under which it finds them. */
export class InheritedFds {
  readonly fds: number[] = [];
  /** Adds a descriptor; gives its number in the VMM. */
  add(fd: number): number {
    this.fds.push(fd);
    return FIRST_INHERITED_FD + this.fds.length - 1;
  }
  /** Numbers for what the launcher makes itself; call when all others are added. */
  launcherMade(): { tapFd: number; consoleFd: number; serverFd: number } {
    const next = FIRST_INHERITED_FD + this.fds.length;
    return { tapFd: next, consoleFd: next + 1, serverFd: next + 2 };
  }
}

function bindFlags(bind: BindMount): string {
  return (bind.executable ? 'x' : '') + (bind.writable ? 'w' : '') + (bind.device ? 'd' : '');
}

export function encodeLaunchConfig(config: LaunchConfig): Uint8Array {
  const head = Buffer.alloc(8);
  head.write(MAGIC, 'latin1');
  head.writeUInt32LE(VERSION, 4);
  const parts: Buffer[] = [head];
  const record = (tag: number, value: Buffer) => {
    const header = Buffer.alloc(8);
    header.writeUInt16LE(tag, 0);
    header.writeUInt32LE(value.length, 4);
    parts.push(header, value);
  };
  const text = (tag: number, value: string) => record(tag, Buffer.from(`${value}\0`));
  const number = (tag: number, value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    record(tag, bytes);
  };

  text(TAG.id, config.id);
  text(TAG.directory, config.directory);
  text(TAG.kind, config.kind);
  number(TAG.uid, config.uid);
  number(TAG.gid, config.gid);
  for (const argument of config.argv) text(TAG.argument, argument);
  const bindMount = (tag: number, bind: BindMount) =>
    text(tag, [bind.source, bind.target, bindFlags(bind)].join('\x1f'));
  for (const bind of config.binds) bindMount(TAG.bind, bind);
  for (const path of config.vmmCgroups) text(TAG.vmmCgroup, path);
  for (const path of config.supervisorCgroups) text(TAG.supervisorCgroup, path);
  if (config.oomFile !== undefined) text(TAG.oomFile, config.oomFile);
  number(TAG.vmmFds, config.vmmFds);
  if (config.tapFd !== undefined) number(TAG.tapFd, config.tapFd);
  if (config.tapAddress !== undefined) text(TAG.tapAddress, config.tapAddress);
  number(TAG.consoleFd, config.consoleFd);
  number(TAG.logBytes, config.logBytes);
  if (config.addressSpaceBytes !== undefined) number(TAG.addressSpace, config.addressSpaceBytes);
  text(TAG.annotations, config.annotations);
  for (const { readOnly } of config.shares ?? []) text(TAG.share, readOnly ? 'ro' : 'rw');
  for (const argument of config.server?.argv ?? []) text(TAG.serverArgument, argument);
  for (const bind of config.server?.binds ?? []) bindMount(TAG.serverBind, bind);
  if (config.server !== undefined) number(TAG.serverFd, config.server.fd);
  for (const sentence of config.limitations) text(TAG.limitation, sentence);
  return Buffer.concat(parts);
}
