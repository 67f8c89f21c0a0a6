// What can be told of this machine without a daemon; nothing is changed. Nothing here opens /dev/kvm.
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, readFile, stat, statfs } from 'node:fs/promises';
import { availableParallelism, release, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import type { DoctorCheck } from '../api/wire.ts';
import { formatBytes } from './output/bytes.ts';

type Finding = Omit<DoctorCheck, 'name'>;

/** Oldest kernel with all that the jail uses: pidfd, openat2, cgroup.kill. */
const KERNEL_MIN: readonly [number, number] = [5, 14];
const CONTROLLERS = ['cpu', 'memory', 'pids', 'io'];
/** One VM takes about 20 descriptors in the daemon; fifty VMs and the API fit well. */
const OPEN_FILES_MIN = 4096;
/** Room for an image, its disk and an upper layer. */
const FREE_BYTES_MIN = 2 * 1024 ** 3;
const BUILD = join(import.meta.dirname, '..', '..', 'build');
const LAUNCHER = 'libvmm/bulkhead-vmm';
const ARTEFACTS = ['guest/vmlinux', 'guest/initramfs.cpio', 'libvmm/libvmm.so', LAUNCHER];
/** It takes milliseconds; more under load, or while the kernel loads a module. */
const NETWORK_CHECK_TIMEOUT_MS = 30_000;
const TOOLS: Record<string, string> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  resize2fs: 'e2fsprogs',
  setpriv: 'util-linux',
  prlimit: 'util-linux',
};
/** Where system tools are, also where the PATH of a user leaves them out. */
const SYSTEM_PATHS = ['/usr/sbin', '/sbin'];

async function readText(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch {
    return undefined;
  }
}

async function isPresent(path: string, mode = constants.F_OK): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}

function checkKernel(): Finding {
  const text = release();
  const [major = 0, minor = 0] = text.split('.').map((part) => Number.parseInt(part, 10));
  const [wantedMajor, wantedMinor] = KERNEL_MIN;
  const recent = major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
  if (recent) return { status: 'ok', message: `Linux ${text}` };
  const fix = `Use Linux ${wantedMajor}.${wantedMinor} or newer.`;
  return { status: 'warn', message: `Linux ${text} lacks parts of what the jail uses`, fix };
}

async function checkCgroups(): Promise<Finding> {
  const unified = await readText('/sys/fs/cgroup/cgroup.controllers');
  if (unified !== undefined) {
    const present = unified.split(' ');
    const missing = CONTROLLERS.filter((name) => !present.includes(name));
    if (missing.length === 0) return { status: 'ok', message: `cgroup v2 with ${CONTROLLERS.join(', ')}` };
    const message = `cgroup v2, but without the controllers ${missing.join(', ')}`;
    return {
      status: 'warn',
      message,
      fix: 'Boot without cgroup v1 controllers, or delegate the missing ones.',
    };
  }
  const rows = ((await readText('/proc/cgroups')) ?? '').split('\n').slice(1);
  const enabled = rows.map((row) => row.split('\t')).filter(([, hierarchy]) => hierarchy !== '0');
  const names = enabled
    .map(([name]) => name)
    .filter((name) => ['cpu', 'memory', 'pids', 'blkio'].includes(name ?? ''));
  const fix = 'Boot with systemd.unified_cgroup_hierarchy=1 for limits on input and output, too.';
  if (names.length > 0)
    return { status: 'warn', message: `cgroup v1 with ${names.join(', ')}; v2 is the target`, fix };
  return { status: 'warn', message: 'no cgroup controllers: VMs run without limits on the host', fix };
}

async function checkKvm(): Promise<Finding> {
  const found = await stat('/dev/kvm').catch(() => undefined);
  const message =
    found === undefined
      ? 'no /dev/kvm: VMs run in software, correctly and slower'
      : '/dev/kvm exists, which proves nothing until a VM has run on it; a running daemon tells whether one did';
  return { status: 'ok', message };
}

async function checkTool(tool: string, packageName: string): Promise<Finding> {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...SYSTEM_PATHS];
  for (const folder of folders) {
    const path = join(folder, tool);
    if (folder !== '' && (await isPresent(path, constants.X_OK))) return { status: 'ok', message: path };
  }
  return { status: 'fail', message: `${tool} is not installed`, fix: `apt-get install ${packageName}` };
}

/** The launcher tries it in a network namespace of its own, which is gone when it ends. */
async function checkNetwork(): Promise<Finding> {
  if (process.getuid?.() !== 0)
    return { status: 'ok', message: 'only root can try the closed network of VMs; a running daemon tells' };
  const launcher = join(BUILD, LAUNCHER);
  if (!(await isPresent(launcher, constants.X_OK)))
    return { status: 'warn', message: 'not tried: the launcher is not built', fix: 'Run `make build`.' };
  try {
    await promisify(execFile)(launcher, ['--check-network'], { timeout: NETWORK_CHECK_TIMEOUT_MS });
    return { status: 'ok', message: 'namespaces, TAP devices and nftables can close the network of a VM' };
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
    return {
      status: 'fail',
      message: `VMs cannot get their closed network: ${said || String(error)}`,
      fix: 'The kernel needs network namespaces, TAP devices (tun) and nftables (nf_tables, with CONFIG_NF_TABLES_NETDEV); load the modules.',
    };
  }
}

/** Echoes of ICMP go out by sockets that the kernel gives to groups of its choice alone. */
async function checkPing(): Promise<Finding> {
  const text = await readText('/proc/sys/net/ipv4/ping_group_range');
  const [first = 1, last = 0] = (text ?? '').split(/\s+/).map(Number);
  const group = process.getgid?.() ?? 0;
  if (group >= first && group <= last)
    return { status: 'ok', message: 'echoes of ICMP can be carried, by policy' };
  return {
    status: 'warn',
    message: `no echoes of ICMP: net.ipv4.ping_group_range leaves out group ${group}, so that ping in a sandbox gets no answer`,
    fix: `sysctl net.ipv4.ping_group_range="0 ${Math.max(group, 0)}"`,
  };
}

async function checkArtefacts(): Promise<Finding> {
  const missing: string[] = [];
  for (const artefact of ARTEFACTS) if (!(await isPresent(join(BUILD, artefact)))) missing.push(artefact);
  if (missing.length === 0)
    return { status: 'ok', message: `guest kernel, initramfs, libvmm and launcher in ${BUILD}` };
  return { status: 'fail', message: `not built: ${missing.join(', ')}`, fix: 'Run `make build`.' };
}

async function checkStateDir(dir: string): Promise<Finding> {
  const found = await stat(dir).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) {
    if (found.code === 'ENOENT')
      return { status: 'ok', message: `${dir} does not exist yet; the daemon makes it` };
    return { status: 'fail', message: `${dir}: ${found.message}`, fix: 'Choose another with --state-dir.' };
  }
  if (!found.isDirectory()) {
    return { status: 'fail', message: `${dir} is no directory`, fix: 'Choose another with --state-dir.' };
  }
  if ((found.mode & 0o077) !== 0) {
    return { status: 'warn', message: `others may enter ${dir}`, fix: `chmod 700 ${dir}` };
  }
  const { bavail, bsize } = await statfs(dir);
  const free = bavail * bsize;
  const message = `${dir}, ${formatBytes(free)} free`;
  if (free >= FREE_BYTES_MIN) return { status: 'ok', message };
  return {
    status: 'warn',
    message,
    fix: `Free space: images and disks want ${formatBytes(FREE_BYTES_MIN)} at least.`,
  };
}

async function checkLimits(): Promise<Finding> {
  const limits = (await readText('/proc/self/limits')) ?? '';
  const [, soft = '', hard = ''] = /^Max open files\s+(\S+)\s+(\S+)/m.exec(limits) ?? [];
  const value = hard === 'unlimited' ? Number.POSITIVE_INFINITY : Number(hard);
  const message = `open files: ${soft}, at most ${hard}`;
  if (value >= OPEN_FILES_MIN) return { status: 'ok', message };
  return { status: 'warn', message, fix: `Raise the limit to ${OPEN_FILES_MIN} (ulimit -n, LimitNOFILE).` };
}

function checkUser(): Finding {
  if (process.getuid?.() === 0) return { status: 'ok', message: 'root: the jail can be built in full' };
  const fix = 'Run the daemon as root; the VMs themselves never run as root.';
  return {
    status: 'warn',
    message: 'not root: own users, namespaces and cgroups per VM are not possible',
    fix,
  };
}

function checkMachine(): Finding {
  return {
    status: 'ok',
    message: `${process.arch}, ${availableParallelism()} CPUs, ${formatBytes(totalmem())}, Node ${process.version}`,
  };
}

/** Every check of the host, in the order in which they are read. */
export async function hostChecks(stateDir: string): Promise<DoctorCheck[]> {
  const findings: [string, Finding | Promise<Finding>][] = [
    ['machine', checkMachine()],
    ['kernel', checkKernel()],
    ['user', checkUser()],
    ['cgroups', checkCgroups()],
    ['kvm', checkKvm()],
    ...Object.entries(TOOLS).map(([tool, name]): [string, Promise<Finding>] => [tool, checkTool(tool, name)]),
    ['build', checkArtefacts()],
    ['network', checkNetwork()],
    ['ping', checkPing()],
    ['state directory', checkStateDir(stateDir)],
    ['limits', checkLimits()],
  ];
  return Promise.all(findings.map(async ([name, finding]) => ({ name, ...(await finding) })));
}
