// The trial VM: our kernel and agent with little memory, no disks and no network. It has to say hello, nothing more.
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { connectGuest } from '../../guest/client.ts';
import { fileDigest } from '../file-digest.ts';
import type { OwnVms } from '../leftovers.ts';
import { VMM_LOG } from '../records.ts';
import { stopwatch } from '../stopwatch.ts';
import { releaseVm } from '../vm-launch.ts';
import { logTail, readLastExit, type VmProcess } from '../vm-process.ts';
import { findLibrary, type LibkrunHost } from './host.ts';
import { agentListening } from './listening.ts';
import { startKrunMachine } from './machine.ts';
import type { TrialOutcome } from './verdict.ts';

/** A boot takes well below a second on hardware and some seconds nested in an emulated host; a crowded one takes longer. */
const HELLO_DEADLINE_MS = 60_000;
const MEMORY_MIB = 96;
const PREFIX = 'trial-';
const EVIDENCE_BYTES = 8 * 1024;

/** Where trial VMs live, so that what a killed daemon left of one is found. */
export function trialVms(host: LibkrunHost): OwnVms {
  return { parent: join(host.stateDir, 'trials'), isOwn: (name) => name.startsWith(PREFIX) };
}

/**
 * Tells the identity of all that the outcome of a trial rests on. Files are read again only when they changed: it is asked
 * before every start.
 */
export function trialFingerprint(host: LibkrunHost): () => Promise<string> {
  const known = new Map<string, { seen: string; digest: string }>();
  const digestOf = async (path: string): Promise<string> => {
    const { size, mtimeMs, ctimeMs, ino } = await stat(path);
    const seen = [size, mtimeMs, ctimeMs, ino].join(' ');
    const former = known.get(path);
    if (former?.seen === seen) return former.digest;
    const digest = await fileDigest(path);
    known.set(path, { seen, digest });
    return digest;
  };
  return async () => {
    const library = await findLibrary(host);
    const files = [host.guest.kernel, host.guest.initramfs, host.vmm];
    if (library !== undefined) files.push(library);
    const digests = await Promise.all(files.map(digestOf));
    return createHash('sha256')
      .update([host.bootId, ...digests].join('\n'))
      .digest('hex');
  };
}

/** Never rejects but on abort. */
export async function runTrial(host: LibkrunHost, signal: AbortSignal): Promise<TrialOutcome> {
  const id = `${PREFIX}${randomBytes(8).toString('hex')}`;
  const dir = join(trialVms(host).parent, id);
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    return await tryVm(host, id, dir, signal);
  } catch (error) {
    signal.throwIfAborted();
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function tryVm(host: LibkrunHost, id: string, dir: string, signal: AbortSignal): Promise<TrialOutcome> {
  const elapsed = stopwatch();
  const vmmLog = () => logTail(dir, VMM_LOG, EVIDENCE_BYTES);
  let vm: VmProcess;
  try {
    vm = await startKrunMachine(host, { id, dir, cpus: 1, memoryMib: MEMORY_MIB, network: false }, signal);
  } catch (error) {
    signal.throwIfAborted();
    const exit = await readLastExit(dir);
    if (exit === undefined) throw error;
    return { kind: 'ended', exit, vmmLog: await vmmLog() };
  }
  const given = new AbortController();
  void vm.exited.then(() => given.abort());
  const deadline = AbortSignal.any([signal, given.signal, AbortSignal.timeout(HELLO_DEADLINE_MS)]);
  try {
    await agentListening(vm, HELLO_DEADLINE_MS, deadline);
    const agent = await connectGuest((dialling) => vm.dialAgent(dialling), { signal: deadline });
    const { kernelRelease } = agent.hello;
    await agent.close();
    return { kind: 'hello', kernelRelease, milliseconds: elapsed() };
  } catch {
    signal.throwIfAborted();
    const consoleTail = await vm.consoleTail(EVIDENCE_BYTES);
    const ended = given.signal.aborted;
    if (ended) return { kind: 'ended', exit: await vm.exited, vmmLog: await vmmLog() };
    return { kind: 'silent', milliseconds: elapsed(), vmmLog: await vmmLog(), consoleTail };
  } finally {
    await vm.kill();
    await releaseVm(host, id);
  }
}
