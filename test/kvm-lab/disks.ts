// The disks that carry things into a lab host. A snapshot remembers each disk's size, so every file is grown to a fixed one.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { cached } from '../fixtures/build-cache.ts';

const run = promisify(execFile);
const PROJECT = join(import.meta.dirname, '..', '..');
const GIB = 1024 ** 3;

/** Sizes of the disks, sparse. Today's contents: project 45 MiB, modules 450, carried 250 (peer and fixtures). */
const SIZE = { project: GIB, modules: 2 * GIB, carried: 4 * GIB, scratch: 16 * GIB };
/** File names of a listing; thousands of files of some 50 bytes. */
const LISTING_BYTES = 16 * 1024 * 1024;

async function erofs(tree: string, output: string, size: number): Promise<void> {
  await run('mkfs.erofs', ['--quiet', '-T0', output, tree]);
  if ((await stat(output)).size > size) throw new Error(`${tree} does not fit its disk of ${size} bytes`);
  await truncate(output, size);
}

/** What git would take of the checkout as it is now, and build/. */
export async function makeProjectDisk(output: string): Promise<void> {
  const listing = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: PROJECT,
    maxBuffer: LISTING_BYTES,
  });
  const tree = await mkdtemp(join(tmpdir(), 'bulkhead-lab-project-'));
  try {
    for (const name of new Set(listing.stdout.split('\0'))) {
      const source = join(PROJECT, name);
      if (name === '' || !existsSync(source)) continue; // deleted, but not yet committed as such
      await mkdir(dirname(join(tree, name)), { recursive: true });
      await cp(source, join(tree, name), { verbatimSymlinks: true });
    }
    const build = join(PROJECT, 'build');
    // What runs in clusters is large, and of no use here.
    const filter = (source: string) => source !== join(build, 'cluster');
    await cp(build, join(tree, 'build'), { recursive: true, verbatimSymlinks: true, filter });
    await mkdir(join(tree, 'node_modules'));
    await erofs(tree, output, SIZE.project);
  } finally {
    await rm(tree, { recursive: true, force: true });
  }
}

/** node_modules as they are installed, which the lock file may be ahead of; made once for each state of them. */
export function modulesDisk(): Promise<string> {
  const lock = readFile(join(PROJECT, 'node_modules/.package-lock.json'), 'utf8');
  const inputs = [lock, Promise.resolve(`${SIZE.modules}`)];
  return cached('kvm-lab', 'modules', inputs, (output) =>
    erofs(join(PROJECT, 'node_modules'), output, SIZE.modules),
  );
}

/** A folder as the disk /carried. */
export function makeCarriedDisk(tree: string, output: string): Promise<void> {
  return erofs(tree, output, SIZE.carried);
}

/** Entries of the build cache's fixtures as the disk /carried; made once per set of entries. */
export function fixturesDisk(paths: readonly string[]): Promise<string> {
  const names = paths.map((path) => basename(path)).toSorted();
  const inputs = [Promise.resolve(JSON.stringify(names)), Promise.resolve(`${SIZE.carried}`)];
  return cached('kvm-lab', 'fixtures', inputs, async (output) => {
    const tree = await mkdtemp(join(tmpdir(), 'bulkhead-lab-fixtures-'));
    try {
      for (const path of paths)
        await cp(path, join(tree, 'cache', 'fixtures', basename(path)), { recursive: true });
      await makeCarriedDisk(tree, output);
    } finally {
      await rm(tree, { recursive: true, force: true });
    }
  });
}

/** An empty ext4 disk for all that a run writes. */
export async function makeScratchDisk(output: string): Promise<void> {
  await writeFile(output, '');
  await truncate(output, SIZE.scratch);
  const options = ['-O', '^has_journal', '-E', 'lazy_itable_init=1,nodiscard', '-m', '0', '-N', '262144'];
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', ...options, output]);
}

/** Copies the folder /scratch/results out of a scratch disk that nobody uses any more into `target`, without root. */
export async function takeResults(scratch: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  const work = await mkdtemp(join(tmpdir(), 'bulkhead-lab-results-'));
  try {
    await run('debugfs', ['-R', `rdump /results ${work}`, scratch]);
    if (existsSync(join(work, 'results')))
      await cp(join(work, 'results'), target, { recursive: true, verbatimSymlinks: true });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
