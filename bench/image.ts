// Image to bootable disk: the Debian fixture from a registry on loopback into an empty cache, against `skopeo copy` and
// `umoci raw unpack` of the same image. Alternating, same run. Usage: node bench/image.ts [ROUNDS]. Needs root, as umoci does.
//
// What each side does: ours downloads, checks both digests of every layer, writes and syncs the disk. The other downloads,
// checks the digests, and unpacks into a folder that is neither synced nor bootable yet.

import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { argv, stdout } from 'node:process';
import { promisify } from 'node:util';
import { openImages } from '../src/images/cache/open-images.ts';
import { openRegistries } from '../src/images/registry/client.ts';
import { debianImage, startRegistry } from '../test/fixtures/images.ts';

const run = promisify(execFile);
const ROUNDS = Number(argv[2] ?? 5);
/** What the project wants to reach. */
const AIM = 3;

async function timed(work: (folder: string) => Promise<void>): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'bulkhead-bench-'));
  try {
    const start = performance.now();
    await work(folder);
    return performance.now() - start;
  } finally {
    await rm(folder, { recursive: true });
    // What one side leaves to write back must not slow the other down.
    await run('sync');
  }
}

async function bulkhead(reference: string, folder: string): Promise<void> {
  const images = await openImages({ folder, registries: openRegistries({}), lowSpaceBytes: 0 });
  await images.ensure(reference, { policy: 'Always', credentials: [], signal: new AbortController().signal });
  await images.close();
}

async function skopeoAndUmoci(reference: string, folder: string): Promise<void> {
  const layout = join(folder, 'layout');
  await run('skopeo', [
    'copy',
    '-q',
    '--src-tls-verify=false',
    `docker://${reference}`,
    `oci:${layout}:bench`,
  ]);
  await run('umoci', ['raw', 'unpack', '--image', `${layout}:bench`, join(folder, 'root')]);
}

function row(name: string, times: readonly number[]): string {
  const sorted = times.toSorted((a, b) => a - b);
  const shown = [sorted[0], median(sorted), sorted.at(-1)].map((ms) => `${Math.round(ms ?? 0)}`.padStart(8));
  return `${name.padEnd(28)}${shown.join('')}${String(times.length).padStart(5)}\n`;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

const layout = await debianImage();
await using registry = await startRegistry();
const reference = await registry.push(layout, 'bench/debian:test');
const ours: number[] = [];
const theirs: number[] = [];
for (let round = 0; round <= ROUNDS; round++) {
  const own = await timed((folder) => bulkhead(reference, folder));
  const other = await timed((folder) => skopeoAndUmoci(reference, folder));
  // The first round fills the page cache for both.
  if (round === 0) continue;
  ours.push(own);
  theirs.push(other);
}
stdout.write(
  `${'image to bootable disk, ms'.padEnd(28)}${'min'.padStart(8)}${'median'.padStart(8)}${'max'.padStart(8)}    n\n`,
);
stdout.write(row('bulkhead', ours));
stdout.write(row('skopeo copy + umoci unpack', theirs));
stdout.write(`ratio of medians: ${(median(theirs) / median(ours)).toFixed(2)} (aim: at least ${AIM})\n`);
