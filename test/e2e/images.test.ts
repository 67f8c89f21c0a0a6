// Real images through real registries: what arrives on the disk is what umoci unpacks.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type OpenImages, openImages } from '../../src/images/cache/open-images.ts';
import type { BootableImage, PullOptions } from '../../src/images/images.ts';
import { openRegistries, type RegistryClientOptions } from '../../src/images/registry/client.ts';
import {
  busyboxImage,
  debianImage,
  nodeImage,
  pythonImage,
  startRegistry,
  type TestRegistry,
  treeListing,
} from '../fixtures/images.ts';

const run = promisify(execFile);
const signal = new AbortController().signal;
const ALWAYS: PullOptions = { policy: 'Always', credentials: [], signal };

let work: string;
let debian: string;
before(async () => {
  work = await mkdtemp(join(tmpdir(), 'bulkhead-images-'));
  debian = await debianImage();
});
after(() => rm(work, { recursive: true }));

async function withCache<T>(
  use: (images: OpenImages) => Promise<T>,
  registry: RegistryClientOptions = {},
): Promise<T> {
  const folder = await mkdtemp(join(work, 'cache-'));
  const registries = openRegistries({ retry: { attempts: 2, firstDelayMs: 10 }, ...registry });
  const images = await openImages({ folder, registries, lowSpaceBytes: 0 });
  try {
    return await use(images);
  } finally {
    await images.close();
    await rm(folder, { recursive: true });
  }
}

async function mounted<T>(disk: string, use: (root: string) => Promise<T>): Promise<T> {
  const root = await mkdtemp(join(work, 'mount-'));
  await run('mount', ['-t', 'erofs', '-o', 'ro,loop', disk, root]);
  try {
    return await use(root);
  } finally {
    await run('umount', [root]);
  }
}

/** Every path of the image with all its attributes, as it is when the disk is mounted, equals what umoci unpacks. */
async function assertSameTree(image: BootableImage, layout: string): Promise<void> {
  await run('fsck.erofs', [image.diskPath]);
  const reference = await mkdtemp(join(work, 'umoci-'));
  try {
    await run('umoci', ['raw', 'unpack', '--image', `${layout}:test`, join(reference, 'root')]);
    const expected = await treeListing(join(reference, 'root'));
    const found = await mounted(image.diskPath, treeListing);
    const differences = expected.filter((line, i) => line !== found[i]).slice(0, 5);
    assert.deepEqual(
      differences,
      [],
      `first differences; ours: ${found.find((line, i) => line !== expected[i])}`,
    );
    assert.equal(found.length, expected.length);
    assert.ok(found.length > 3000, 'the listing is of a whole system');
  } finally {
    await rm(reference, { recursive: true });
  }
}

describe('a Debian image of three layers', () => {
  it('from a registry over plain http on loopback is the tree that umoci unpacks', async () => {
    await using registry = await startRegistry();
    const reference = await registry.push(debian, 't/debian:bookworm');
    await withCache(async (images) => {
      const image = await images.ensure(reference, ALWAYS);
      assert.deepEqual(image.config.cmd, ['/bin/bash']);
      await assertSameTree(image, debian);
    });
  });

  it('from a registry with TLS and a password; neither a missing nor a wrong one opens it', async () => {
    await using registry = await startRegistry({ tls: true, auth: true });
    const reference = await registry.push(debian, 't/debian:bookworm');
    const { authorities, credentials, host } = registry;
    const wrong = [{ registry: host, username: 'tester', password: 'wrong' }];
    await withCache(
      async (images) => {
        await assert.rejects(images.ensure(reference, ALWAYS), { code: 'REGISTRY_UNAUTHORIZED' });
        await assert.rejects(images.ensure(reference, { ...ALWAYS, credentials: wrong }), {
          code: 'REGISTRY_UNAUTHORIZED',
        });
        const image = await images.ensure(reference, { ...ALWAYS, credentials });
        await run('fsck.erofs', [image.diskPath]);
        await assert.rejects(images.ensure(`${host}/t/other`, { ...ALWAYS, credentials }), {
          code: 'IMAGE_NOT_FOUND',
        });
      },
      { authorities },
    );
    await withCache((images) =>
      assert.rejects(images.ensure(reference, { ...ALWAYS, credentials }), {
        code: 'REGISTRY_UNAVAILABLE',
        message: /SELF_SIGNED|UNABLE_TO_VERIFY/,
      }),
    );
    const certificates = join(work, 'certs.d');
    await mkdir(join(certificates, host), { recursive: true });
    await writeFile(join(certificates, host, 'ca.crt'), authorities.join('\n'));
    await withCache((images) => images.ensure(reference, { ...ALWAYS, credentials }), {
      certificateFolders: [certificates],
    });
  });

  it('from a layout, an OCI archive and a Docker archive is one and the same disk', async () => {
    const archives = [`oci-archive:${work}/oci.tar:test`, `docker-archive:${work}/docker.tar:t/debian:test`];
    for (const archive of archives) await run('skopeo', ['copy', '-q', `oci:${debian}:test`, archive]);
    const disks: Buffer[] = [];
    for (const path of [debian, join(work, 'oci.tar'), join(work, 'docker.tar')]) {
      await withCache(async (images) => {
        const [image] = await images.load(path, { reference: 'debian:test', signal });
        disks.push(await readFile(image?.diskPath ?? ''));
      });
    }
    for (const disk of disks) assert.ok(disk.equals(disks[0] ?? Buffer.alloc(0)));
  });

  it('as an export, unpacked by umoci, is the same tree again', async () => {
    await withCache(async (images) => {
      const [image] = await images.load(debian, { reference: 'debian:test', signal });
      assert.ok(image);
      const saved = join(work, 'saved.tar');
      await writeFile(saved, await images.save('debian:test', signal));
      const layout = join(work, 'saved');
      await run('skopeo', ['copy', '-q', `oci-archive:${saved}`, `oci:${layout}:test`]);
      await assertSameTree(image, layout);
    });
  });
});

describe('other images', () => {
  for (const [name, image, program] of [
    ['python', pythonImage, 'usr/bin/python3'],
    ['node', nodeImage, 'usr/local/bin/node'],
  ] as const) {
    it(`${name} has its program, which runs from the mounted disk`, async () => {
      await withCache(async (images) => {
        const [loaded] = await images.load(await image(), { reference: `${name}:test`, signal });
        await mounted(loaded?.diskPath ?? '', async (root) => {
          const { stdout } = await run('chroot', [root, `/${program}`, '--version']);
          assert.match(stdout, /\d+\.\d+/);
        });
      });
    });
  }

  it('the built-in image names itself and runs its applets', async () => {
    await withCache(async (images) => {
      const [image] = await images.load(await busyboxImage(), { signal });
      assert.equal(image?.reference, 'bulkhead.local/busybox:latest');
      await mounted(image.diskPath, async (root) => {
        assert.equal((await run('chroot', [root, '/bin/sh', '-c', 'echo $((6*7))'])).stdout, '42\n');
      });
    });
  });
});

describe('registries that break', () => {
  async function damageLargestBlob(
    registry: TestRegistry,
    damage: (path: string) => Promise<void>,
  ): Promise<void> {
    const entries = await readdir(registry.storage, { recursive: true });
    const data = entries
      .filter((entry) => entry.endsWith('/data'))
      .map((entry) => join(registry.storage, entry));
    const sizes = await Promise.all(data.map(async (path) => ({ path, size: (await stat(path)).size })));
    const largest = sizes.sort((a, b) => b.size - a.size)[0];
    assert.ok(largest);
    await damage(largest.path);
  }

  const assertEmpty = async (images: OpenImages): Promise<void> => assert.deepEqual(await images.list(), []);

  it('a blob that is corrupted in the registry is refused by its digest', async () => {
    await using registry = await startRegistry();
    const reference = await registry.push(debian, 't/debian:bad');
    await damageLargestBlob(registry, async (path) => {
      const bytes = await readFile(path);
      bytes.fill(0x55, bytes.length >> 1, (bytes.length >> 1) + 16);
      await writeFile(path, bytes);
    });
    await withCache(async (images) => {
      await assert.rejects(images.ensure(reference, ALWAYS), { code: 'IMAGE_INVALID', message: /digest/ });
      await assertEmpty(images);
    });
  });

  it('a blob that is truncated in the registry is refused, and pulled once it is whole again', async () => {
    await using registry = await startRegistry();
    const reference = await registry.push(debian, 't/debian:cut');
    const whole = join(work, 'whole');
    let blob = '';
    await damageLargestBlob(registry, async (path) => {
      blob = path;
      await copyFile(path, whole);
      await writeFile(path, (await readFile(path)).subarray(0, 1_000_000));
    });
    await withCache(async (images) => {
      await assert.rejects(images.ensure(reference, ALWAYS), { code: /REGISTRY_UNAVAILABLE|IMAGE_INVALID/ });
      await assertEmpty(images);
      await copyFile(whole, blob);
      await run('fsck.erofs', [(await images.ensure(reference, ALWAYS)).diskPath]);
    });
  });

  it('a registry that dies in the middle of a pull is REGISTRY_UNAVAILABLE, and nothing is left', async () => {
    await using registry = await startRegistry();
    const reference = await registry.push(debian, 't/debian:dies');
    await withCache(async (images) => {
      let stopped: Promise<void> | undefined;
      const onProgress = (progress: { phase: string; bytesDone: number }): void => {
        if (progress.phase === 'downloading' && progress.bytesDone > 0) stopped ??= registry.stop();
      };
      await assert.rejects(images.ensure(reference, { ...ALWAYS, onProgress }), {
        code: 'REGISTRY_UNAVAILABLE',
      });
      await stopped;
      await assertEmpty(images);
    });
  });
});
