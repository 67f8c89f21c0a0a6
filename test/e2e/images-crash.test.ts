// The image cache under full disks and SIGKILL: the next start finds either a whole image or none.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type OpenImages, openImages } from '../../src/images/cache/open-images.ts';
import { openRegistries } from '../../src/images/registry/client.ts';
import { busyboxImage, debianImage, startRegistry } from '../fixtures/images.ts';

const run = promisify(execFile);
const PULLER = join(import.meta.dirname, '..', 'fixtures', 'images-puller.ts');
const signal = new AbortController().signal;
const KILLS = process.env.BULKHEAD_SOAK ? 100 : 8;

let work: string;
let debian: string;
before(async () => {
  work = await mkdtemp(join(tmpdir(), 'bulkhead-images-crash-'));
  debian = await debianImage();
});
after(() => rm(work, { recursive: true }));

const open = (folder: string): Promise<OpenImages> =>
  openImages({
    folder,
    registries: openRegistries({ retry: { attempts: 2, firstDelayMs: 10 } }),
    lowSpaceBytes: 0,
  });

describe('a full disk', () => {
  for (const source of ['a layout', 'a registry'] as const) {
    it(`while reading from ${source} is DISK_FULL, leaves nothing, and the next image that fits is written`, async () => {
      const folder = await mkdtemp(join(work, 'small-'));
      await run('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', folder]);
      const images = await open(folder);
      try {
        await using registry = await startRegistry();
        const reference = await registry.push(debian, 't/debian:big');
        const big =
          source === 'a layout'
            ? images.load(debian, { reference: 'debian:big', signal })
            : images.ensure(reference, { policy: 'Always', credentials: [], signal });
        await assert.rejects(big, { code: 'DISK_FULL' });
        assert.deepEqual(await readdir(join(folder, 'tmp')), []);
        assert.deepEqual(await readdir(join(folder, 'disks')), []);
        const [image] = await images.load(await busyboxImage(), { signal });
        await run('fsck.erofs', [image?.diskPath ?? '']);
      } finally {
        await images.close();
        await run('umount', [folder]);
      }
    });
  }
});

describe('SIGKILL', () => {
  it(`at ${KILLS} moments of a pull leaves a whole image or none, and the pull works afterwards`, async () => {
    await using registry = await startRegistry();
    const reference = await registry.push(debian, 't/debian:killed');
    const folder = join(work, 'killed');
    let killed = 0;
    for (let i = 0; i < KILLS; i++) {
      // Spread over the whole pull: every so many reports, the last ones fall into the writing.
      if (await pullAndKillAfter(Math.round((i * 205) / KILLS), folder, reference)) killed++;
      const images = await open(folder);
      assert.deepEqual(await readdir(join(folder, 'tmp')), [], 'what the dead process left is gone');
      // By digest: one that was killed just before it got its name is whole all the same.
      for (const { digest } of await images.list()) {
        const image = await images.lookupDigest(digest);
        await run('fsck.erofs', [image?.diskPath ?? '']);
        await images.remove(digest);
      }
      await images.close();
    }
    assert.ok(killed > KILLS / 2, `${killed} of ${KILLS} were killed before their end`);
    const images = await open(folder);
    const image = await images.ensure(reference, { policy: 'Always', credentials: [], signal });
    await run('fsck.erofs', [image.diskPath]);
    await images.close();
  });
});

/** True if the process was killed, false if it was done before. */
async function pullAndKillAfter(reports: number, folder: string, reference: string): Promise<boolean> {
  const child = spawn(process.execPath, [PULLER, folder, reference], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  let seen = 0;
  for await (const _ of createInterface({ input: child.stdout })) {
    seen++;
    if (seen === reports + 1) child.kill('SIGKILL');
  }
  const [code, killedBy] = (await exited) as [number | null, NodeJS.Signals | null];
  assert.ok(code === 0 || killedBy === 'SIGKILL', `the pull failed with ${code}`);
  return killedBy === 'SIGKILL';
}
