// Starts, round trips, memory and copies on KVM, in the lab: the bare floor, the peer msb 0.7.2, and this project.
// Usage: node bench/kvm.ts [COUNT] [--json]. Needs root, and a package registry for the peer the first time.
//
// Everything is measured inside an emulated machine: the figures of one table compare with each other and with nothing else.
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cached } from '../test/fixtures/build-cache.ts';
import { busyboxImage } from '../test/fixtures/images.ts';
import { Lab } from '../test/kvm-lab/lab.ts';
import { addFigures, type Figures, readFigures } from './kvm/figures.ts';
import { type Aim, countArgument, Report } from './report.ts';

const run = promisify(execFile);
const HERE = import.meta.dirname;
const PEER_PACKAGE = '@superradcompany/microsandbox-linux-x64-gnu@0.7.2';
const PEER_LIBRARY = 'libkrunfw.so.5.6.1';
/** Rounds of one lab run: the emulated host does not live for ever. */
const ROUNDS_PER_RUN = 4;
const RUN_LIMIT_MS = 20 * 60_000;
const COMPILER = ['-std=gnu11', '-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra', '-Werror'];
const count = countArgument(10);
/** Of single figures; those of ratios stand beside them below. */
const AIMS: Readonly<Record<string, Aim>> = {
  'idle: ours, PSS': { max: 65 },
  "idle: ours, PSS beyond the guest's memory": { max: 20 },
};

/** The peer as its package has it, with the links that its loader wants. */
function peer(): Promise<string> {
  return cached('kvm-lab', 'peer', [Promise.resolve(PEER_PACKAGE)], async (output) => {
    await mkdir(output);
    const { stdout } = await run('npm', ['pack', '--silent', PEER_PACKAGE], { cwd: output });
    await run('tar', ['xzf', stdout.trim(), '--strip-components=1'], { cwd: output });
    await symlink(PEER_LIBRARY, join(output, 'lib/libkrunfw.so.5'));
    await symlink('libkrunfw.so.5', join(output, 'lib/libkrunfw.so'));
  });
}

/** What goes into the lab beside the project. */
async function carry(folder: string): Promise<void> {
  const at = (name: string) => join(folder, name);
  await run('gcc', [...COMPILER, '-o', at('floor-launcher'), join(HERE, 'kvm/floor-launcher.c')]);
  await run('gcc', [...COMPILER, '-static', '-o', at('floor-init'), join(HERE, 'kvm/floor-init.c')]);
  await run('python3', [join(HERE, '../guest/initramfs/pack.py'), at('floor-init'), at('floor.cpio')]);
  const [package_, image] = [await peer(), await busyboxImage()];
  for (const part of ['bin', 'lib'])
    await cp(join(package_, part), join(folder, 'peer', part), { recursive: true, verbatimSymlinks: true });
  const archive = (await readdir(image).catch(() => undefined)) === undefined ? 'oci-archive' : 'oci';
  const target = `docker-archive:${at('image.tar')}:lab/bb:1`;
  await run('skopeo', ['--insecure-policy', 'copy', '--quiet', `${archive}:${image}`, target]);
}

let crashes = 0;
async function collect(lab: Lab, script: string, wanted: number): Promise<Figures> {
  const all: Figures = new Map();
  for (let left = wanted; left > 0; left -= ROUNDS_PER_RUN) {
    let output = '';
    const rounds = Math.min(left, ROUNDS_PER_RUN);
    const { outcome, crashes: died } = await lab.run({
      command: `BULKHEAD_TEST_DRIVER=libkrun NODE_COMPILE_CACHE=/tmp/compile-cache \
        node_modules/.bin/node --disable-warning=ExperimentalWarning bench/kvm/${script}.ts ${rounds}`,
      limitMs: RUN_LIMIT_MS,
      onOutput(text) {
        output += text;
      },
      onCrash(reason) {
        process.stderr.write(`kvm lab: the lab host died and its figures with it: ${reason}\n`);
        output = '';
      },
    });
    crashes += died;
    if (outcome.kind !== 'exited' || outcome.status !== 0)
      throw new Error(`bench/kvm/${script}.ts: ${JSON.stringify(outcome)}\n${output}`);
    addFigures(all, readFigures(output));
    process.stderr.write(`${script}: ${wanted - left + rounds} of ${wanted} rounds\n`);
  }
  return all;
}

const folder = await mkdtemp(join(tmpdir(), 'bulkhead-bench-kvm-'));
try {
  await carry(folder);
  await using lab = await Lab.open({ folder });
  const [start, running] = [
    await collect(lab, 'inside-start', count),
    await collect(lab, 'inside-running', count),
  ];
  const report = new Report('libkrun in the lab');
  for (const [name, values] of [...start, ...running]) {
    const unit = name.includes('PSS') ? 'MiB' : name.startsWith('idle') ? '%' : 'ms';
    report.series(name, unit, values, AIMS[name]);
  }
  const of = (name: string) => start.get(name) ?? running.get(name) ?? [];
  report.ratio('start: ours to floor', of('start: ours'), of('start: floor'), { max: 1.3 });
  report.ratio('start: ours to peer', of('start: ours'), of('start: peer'), { max: 0.4 });
  const exec = of('exec: ours, open client');
  report.ratio('exec: ours to the bare channel', exec, of('exec: bare channel, a program run'), { max: 3 });
  report.ratio("exec: ours to the peer's command", exec, of("exec: the peer's command"));
  report.ratio('copy in: ours to peer', of('copy in: ours'), of('copy in: peer'), { max: 0.25 });
  report.ratio('copy out: ours to peer', of('copy out: ours'), of('copy out: peer'), { max: 0.25 });
  report.note(
    `${crashes} lab hosts died and were replaced; load of the machine ${loadavg()[0]?.toFixed(1)} at the end.`,
  );
  report.note('Milliseconds of an emulated machine: they compare within this table only.');
  report.print();
} finally {
  await rm(folder, { recursive: true, force: true });
}
