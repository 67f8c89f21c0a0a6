// What every run of the lab starts from: the lab host's files and a snapshot of it, booted and idle. Made once.
import { execFile } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type HostLibrary, loadHostLibrary } from '../../src/vmm/ffi.ts';
import { awaitAgentPortIdle, saveState } from '../../src/vmm/software/migration.ts';
import { cached } from '../fixtures/build-cache.ts';
import { AgentPort } from './agent-port.ts';
import { makeCarriedDisk, makeScratchDisk } from './disks.ts';
import { type HostFiles, Machine } from './machine.ts';

const run = promisify(execFile);
const IMAGE_SCRIPT = join(import.meta.dirname, 'host-image.sh');
const IN_THE_HOST = join(import.meta.dirname, 'host');
const MACHINE = join(import.meta.dirname, 'machine.ts');
const DISKS = join(import.meta.dirname, 'disks.ts');
/** A boot takes 7 s on a quiet machine and was seen to take 20 under load. */
const BOOT_LIMIT_MS = 300_000;
/** Before the snapshot: nothing that runs may be waiting for a disk, and no file may be kept in memory without need. */
const SETTLE = 'sync; echo 3 >/proc/sys/vm/drop_caches; [ -c /dev/kvm ]';

export interface Prepared {
  library: HostLibrary;
  host: HostFiles;
  snapshot: { memory: string; state: string };
}

async function textsOf(paths: readonly string[]): Promise<string> {
  return JSON.stringify(await Promise.all(paths.map((path) => readFile(path, 'utf8'))));
}

/** Files that run inside the lab host. */
async function hostSources(): Promise<string> {
  return textsOf((await readdir(IN_THE_HOST)).toSorted().map((name) => join(IN_THE_HOST, name)));
}

async function hostFiles(): Promise<HostFiles> {
  const sources = Promise.all([readFile(IMAGE_SCRIPT, 'utf8'), hostSources()]);
  const packages = await cached(
    'kvm-lab',
    'packages',
    [readFile(join(IN_THE_HOST, 'packages'), 'utf8')],
    async (output) => {
      process.stderr.write('kvm lab: fetching the Debian packages of the lab host (about a minute, once)\n');
      await run(IMAGE_SCRIPT, ['packages', output]);
    },
  );
  const folder = await cached(
    'kvm-lab',
    'host',
    [sources.then((texts) => JSON.stringify(texts))],
    async (output) => {
      await run(IMAGE_SCRIPT, ['image', output, packages]);
    },
  );
  return {
    kernel: join(folder, 'vmlinuz'),
    initramfs: join(folder, 'initramfs'),
    root: join(folder, 'root.ext4'),
  };
}

async function saveSnapshot(library: HostLibrary, host: HostFiles, output: string): Promise<void> {
  process.stderr.write('kvm lab: booting the lab host for its snapshot (about 10 s, once)\n');
  const signal = AbortSignal.timeout(BOOT_LIMIT_MS);
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-lab-'));
  try {
    await mkdir(output);
    const [empty, scratch, nothing] = [join(dir, 'empty'), join(dir, 'scratch'), join(dir, 'nothing')];
    await mkdir(nothing);
    await makeScratchDisk(scratch);
    await makeCarriedDisk(nothing, empty);
    const placeholders = { project: empty, modules: empty, carried: empty, scratch };
    const machine = await Machine.start(library, dir, host, placeholders, {
      ...{ kind: 'boot-to-save', memory: join(output, 'memory') },
    });
    try {
      const agent = new AgentPort(await machine.dial('agent', signal));
      const died = machine.ended.then((how) => {
        throw new Error(`the lab host did not boot: ${how}\n${machine.dir}`);
      });
      const status = await Promise.race([agent.run(SETTLE, () => undefined), died]);
      if (status !== 0) throw new Error('the lab host has no /dev/kvm');
      agent.close();
      const qmp = await machine.qmp(signal);
      await awaitAgentPortIdle(qmp, signal);
      const stateFd = openSync(join(output, 'state'), 'w', 0o600);
      try {
        await saveState(qmp, stateFd, signal);
      } finally {
        closeSync(stateFd);
        qmp.close();
      }
    } finally {
      await machine.kill();
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Makes what is missing. The first time needs root and takes two minutes; then it takes milliseconds. */
export async function prepareLab(): Promise<Prepared> {
  const library = loadHostLibrary(resolve(import.meta.dirname, '../../build'));
  const host = await hostFiles();
  // The machine's counter rate is part of the snapshot, so another processor needs another snapshot.
  const machine = run('qemu-system-x86_64', ['--version']).then(({ stdout }) =>
    JSON.stringify([stdout, cpus()[0]?.model, host]),
  );
  const folder = await cached('kvm-lab', 'snapshot', [machine, textsOf([MACHINE, DISKS])], (output) =>
    saveSnapshot(library, host, output),
  );
  return { library, host, snapshot: { memory: join(folder, 'memory'), state: join(folder, 'state') } };
}
