// e2fsck and resize2fs on disks that guests have written to. They read hostile bytes, so they run as a user who owns
// nothing but the disk at hand, with the disk as an open descriptor, without privileges to gain, and with bounded
// memory, time and output. They die with the daemon: the next one begins again.
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { BulkheadError } from '../api/errors.ts';
import { readSuperblock, type Superblock } from './superblock.ts';

/** Who the tools run as: the number after those of VMs, without an entry in /etc/passwd. */
const TOOL_UID = 1_900_065_536;
/** e2fsck keeps some bits for each block and inode: disks of some TiB take a few hundred MiB. */
const MEMORY_BYTES_MAX = 4 * 1024 ** 3;
/** A full check reads every inode in use, from a slow disk at 100,000 a second: hundreds of millions fit in this time. */
const TIMEOUT_MS = 3_600_000;
/** What a tool says is for one sentence of a message; a broken disk may make it say gigabytes. */
const OUTPUT_CHARS_MAX = 4096;
/** Where the tools find the disk. */
const DISK_ARGUMENT = '/proc/self/fd/3';
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', E2FSCK_CONFIG: '/dev/null' };

/** Bits of e2fsck's exit code: 1 errors corrected, 2 a mounted file system would need a reboot; the others are failures. */
const FSCK_CORRECTED = 1 | 2;

const RECOVERED = 'The file system is in order; it was not unmounted in order, and its journal was replayed.';
const REPAIRED = 'The file system was damaged and was repaired; files may be missing';

/** What a check found. `Recovered`: as after any power cut, and nothing is lost. `Repaired`: something was wrong. */
export interface CheckResult {
  result: 'Clean' | 'Recovered' | 'Repaired';
  /** A sentence for people. */
  message: string;
}

/**
 * Checks a disk whole and mends what can be mended. Fails with VOLUME_DAMAGED when it cannot, and with VOLUME_UNAVAILABLE
 * or DISK_FULL when it could not be tried. Only while nobody else has the disk.
 */
export async function checkDisk(path: string, signal: AbortSignal): Promise<CheckResult> {
  const former = await readSuperblock(path);
  const preened = await run('e2fsck', ['-f', '-p'], path, signal);
  if ((preened.code & ~FSCK_CORRECTED) === 0 && (await readSuperblock(path))?.clean === true) {
    if (former?.clean !== true) return { result: 'Recovered', message: RECOVERED };
    return preened.code === 0
      ? { result: 'Clean', message: 'The file system is in order.' }
      : { result: 'Repaired', message: `${REPAIRED}: ${lastLines(preened.output)}` };
  }
  const repaired = await run('e2fsck', ['-f', '-y'], path, signal);
  const superblock = await readSuperblock(path);
  if ((repaired.code & ~FSCK_CORRECTED) !== 0 || superblock?.clean !== true)
    throw new BulkheadError(
      'VOLUME_DAMAGED',
      `The file system cannot be repaired: ${lastLines(repaired.output || preened.output)}`,
    );
  return { result: 'Repaired', message: `${REPAIRED}: ${lastLines(preened.output)}` };
}

/** Lets the file system of a clean disk fill its file. What was there stays in place, so that a kill harms nothing. */
export async function growFileSystem(path: string, signal: AbortSignal): Promise<void> {
  // resize2fs refuses what was mounted since its last check.
  await checkDisk(path, signal);
  const { code, output } = await run('resize2fs', [], path, signal);
  if (code !== 0) throw toolFailure('resize2fs', output);
}

/** Does the file system leave whole blocks of its file unused? */
export function isShort({ blocks, blockBytes }: Superblock, fileBytes: number): boolean {
  return blocks < Math.floor(fileBytes / blockBytes);
}

interface ToolRun {
  code: number;
  /** The end of what it said on both outputs. */
  output: string;
}

async function run(
  tool: 'e2fsck' | 'resize2fs',
  options: readonly string[],
  path: string,
  signal: AbortSignal,
): Promise<ToolRun> {
  signal.throwIfAborted();
  const asRoot = process.getuid?.() === 0;
  await using disk = await open(path, 'r+');
  if (asRoot) await disk.chown(TOOL_UID, TOOL_UID);
  try {
    const user = asRoot ? [`--reuid=${TOOL_UID}`, `--regid=${TOOL_UID}`, '--clear-groups'] : [];
    const jail = ['--core=0', `--as=${MEMORY_BYTES_MAX}`, 'setpriv', ...user];
    jail.push('--no-new-privs', '--inh-caps=-all', '--pdeathsig', 'KILL', '--');
    return await waitFor('prlimit', [...jail, tool, ...options, DISK_ARGUMENT], disk.fd, signal);
  } finally {
    if (asRoot) await disk.chown(0, 0);
    await disk.sync();
  }
}

async function waitFor(
  command: string,
  args: readonly string[],
  diskFd: number,
  signal: AbortSignal,
): Promise<ToolRun> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe', diskFd],
    env: ENVIRONMENT,
    cwd: '/',
    signal: limit,
    killSignal: 'SIGKILL',
  });
  let output = '';
  const take = (chunk: Buffer): void => {
    output = (output + chunk.toString('latin1')).slice(-OUTPUT_CHARS_MAX);
  };
  child.stdout?.on('data', take);
  child.stderr?.on('data', take);
  const { promise, resolve, reject } = Promise.withResolvers<ToolRun>();
  let failure: Error | undefined;
  // After an abort comes the end of the process too: nobody writes to the disk once this has returned.
  child.on('error', (error) => {
    failure = error;
    if (child.pid === undefined) reject(toolFailure(command, error.message));
  });
  child.on('close', (code, killedBy) => {
    if (failure !== undefined) reject(signal.aborted ? failure : toolFailure(command, failure.message));
    else if (code === null) reject(toolFailure(command, `ended by ${killedBy ?? 'a signal'}`));
    else if (/No space left on device/.test(output)) reject(fullDisk(output));
    else resolve({ code, output });
  });
  return promise;
}

function toolFailure(tool: string, output: string): BulkheadError {
  return new BulkheadError('VOLUME_UNAVAILABLE', `${tool}: ${lastLines(output)}`);
}

function fullDisk(output: string): BulkheadError {
  return new BulkheadError('DISK_FULL', lastLines(output));
}

/** The end of a tool's words as one line of printable characters. */
function lastLines(output: string): string {
  const text = output
    .replaceAll(`${DISK_ARGUMENT}: `, '')
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim();
  return text.slice(-400) || 'it said nothing';
}
