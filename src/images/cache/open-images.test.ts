import assert from 'node:assert/strict';
import { symlink as linkTo, mkdir, mkdtemp, readdir, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  type ComposedImage,
  composeImage,
  file,
  folder,
  hardLink,
  readTree,
  symlink,
  tar,
  writeLayout,
} from '../../../test/fixtures/images-compose.ts';
import { fakeRegistry, type Misbehaviour } from '../../../test/fixtures/images-fake-registry.ts';
import type { ImageProgress } from '../../api/wire.ts';
import { encodeTarEntry, TAR_END } from '../../images/tar/writer.ts';
import type { PullOptions } from '../images.ts';
import { openRegistries } from '../registry/client.ts';
import { type ImagesOptions, type OpenImages, openImages } from './open-images.ts';

const signal = new AbortController().signal;
const ALWAYS: PullOptions = { policy: 'Always', credentials: [], signal };
const IF_NOT_PRESENT: PullOptions = { ...ALWAYS, policy: 'IfNotPresent' };
const imageOf = (content: string): ComposedImage =>
  composeImage([tar(file('content', content))], { config: { Cmd: [content] } });
const ONE = imageOf('one');
const TWO = imageOf('two');

let work: string;
let opened: OpenImages[] = [];

beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), 'bulkhead-cache-'));
});
afterEach(async () => {
  for (const images of opened) await images.close();
  opened = [];
  await rm(work, { recursive: true });
});

async function open(more: Partial<ImagesOptions> = {}): Promise<OpenImages> {
  const registries = openRegistries({ retry: { attempts: 2, firstDelayMs: 1 } });
  const images = await openImages({ folder: join(work, 'images'), registries, lowSpaceBytes: 0, ...more });
  opened.push(images);
  return images;
}

async function reopen(images: OpenImages): Promise<OpenImages> {
  await images.close();
  opened = opened.filter((other) => other !== images);
  return open();
}

async function layoutOf(image: ComposedImage, name: string): Promise<string> {
  const path = join(work, name);
  await writeLayout(path, image);
  return path;
}

async function load(images: OpenImages, image: ComposedImage, reference: string): Promise<string> {
  const [loaded] = await images.load(await layoutOf(image, image.manifestDigest.slice(7, 20)), {
    reference,
    signal,
  });
  assert.ok(loaded);
  return loaded.digest;
}

const leftovers = (): Promise<string[]> => readdir(join(work, 'images', 'tmp'));
const names = async (images: OpenImages): Promise<string[][]> =>
  (await images.list()).map((image) => image.references);

describe('loading', () => {
  it('an OCI layout, with the configuration that running it needs', async () => {
    const images = await open();
    const config = {
      Entrypoint: ['/e'],
      Cmd: ['c'],
      Env: ['A=b'],
      WorkingDir: '/w',
      User: '1:2',
      StopSignal: 'SIGINT',
      Labels: { l: 'v' },
    };
    const path = await layoutOf(composeImage([tar(file('a', 'x'))], { name: 'r.io/x:1', config }), 'layout');
    const progress: ImageProgress[] = [];
    const [image] = await images.load(path, { signal, onProgress: (report) => progress.push(report) });
    assert.equal(image?.reference, 'r.io/x:1');
    assert.deepEqual(image?.config, {
      entrypoint: ['/e'],
      cmd: ['c'],
      env: ['A=b'],
      workingDir: '/w',
      user: '1:2',
      stopSignal: 'SIGINT',
      labels: { l: 'v' },
    });
    assert.equal((await readTree(image?.diskPath ?? '')).get('a')?.content, 'x');
    assert.equal(progress.at(-1)?.phase, 'done');
    assert.equal(progress.at(-1)?.bytesDone, progress.at(-1)?.bytesTotal);
    assert.deepEqual(await leftovers(), []);
  });

  const ociArchive = (image: ComposedImage): Buffer =>
    tar(
      file('./index.json', image.index.toString()),
      ...[...image.blobs].map(([digest, bytes]) =>
        encodeTarEntry({ type: 'file', name: `./blobs/sha256/${digest.slice(7)}`, mode: 0o644 }, bytes),
      ),
    );

  it('an OCI archive, plain and compressed', async () => {
    const images = await open();
    for (const [name, bytes] of [
      ['a.tar', ociArchive(ONE)],
      ['a.tar.gz', gzipSync(ociArchive(TWO))],
    ] as const) {
      await writeFile(join(work, name), bytes);
      const [image] = await images.load(join(work, name), { reference: 'x', signal });
      assert.ok((await readTree(image?.diskPath ?? '')).has('content'));
    }
    assert.deepEqual(await leftovers(), []);
  });

  it('a Docker archive, where layers may repeat as links', async () => {
    const images = await open();
    const layer = tar(file('a', 'x'));
    const { config } = composeImage([layer, layer]);
    const manifest = [{ Config: 'c.json', RepoTags: ['a:1', 'b:2'], Layers: ['1/layer.tar', '2/layer.tar'] }];
    const path = join(work, 'docker.tar');
    const entries = [
      file('c.json', config.toString()),
      encodeTarEntry({ type: 'file', name: '1/layer.tar', mode: 0o644 }, layer),
      symlink('2/layer.tar', '../1/layer.tar'),
      file('manifest.json', JSON.stringify(manifest)),
    ];
    await writeFile(path, tar(...entries));
    const [image] = await images.load(path, { signal });
    assert.equal((await readTree(image?.diskPath ?? '')).get('a')?.content, 'x');
    assert.equal((await images.lookup('b:2'))?.digest, image?.digest);
    assert.match(image?.digest ?? '', /^sha256:[0-9a-f]{64}$/);
  });

  for (const [what, damage, message] of [
    [
      'with a damaged layer',
      (image: ComposedImage) => setLayer(image, (bytes) => Buffer.from(bytes).fill(0, 20, 30)),
      /broken|digest/,
    ],
    [
      'with a truncated layer',
      (image: ComposedImage) => setLayer(image, (bytes) => bytes.subarray(0, 20)),
      /has 20 bytes, not/,
    ],
    ['without a layer', (image: ComposedImage) => setLayer(image, () => undefined), /is missing/],
    ['for another platform', () => composeImage([tar()], { architecture: 's390x' }), /is for "linux\/s390x"/],
    [
      'with an index that is no JSON',
      (image: ComposedImage) => ({ ...image, index: Buffer.from('{') }),
      /is not JSON/,
    ],
  ] as const) {
    it(`an image ${what} is refused and leaves nothing`, async () => {
      const images = await open();
      const path = await layoutOf(damage(imageOf(what)), 'bad');
      await assert.rejects(images.load(path, { reference: 'x', signal }), message);
      assert.deepEqual(await images.list(), []);
      assert.deepEqual(await leftovers(), []);
      assert.deepEqual(await readdir(join(work, 'images', 'disks')), []);
    });
  }

  function setLayer(image: ComposedImage, change: (bytes: Buffer) => Buffer | undefined): ComposedImage {
    const digest = [...image.blobs.keys()][1] ?? '';
    const bytes = change(image.blobs.get(digest) ?? Buffer.alloc(0));
    if (bytes === undefined) image.blobs.delete(digest);
    else image.blobs.set(digest, bytes);
    return image;
  }

  it('a layout whose blobs are symlinks cannot name files of the host', async () => {
    const images = await open();
    const path = await layoutOf(ONE, 'links');
    const blob = join(path, 'blobs', 'sha256', [...ONE.blobs.keys()][1]?.slice(7) ?? '');
    await unlink(blob);
    await linkTo('/etc/passwd', blob);
    await assert.rejects(images.load(path, { reference: 'x', signal }), {
      code: 'IMAGE_INVALID',
      message: /missing/,
    });
  });

  it('a folder that names files outside itself, or reaches them through a linked folder, is refused', async () => {
    const images = await open();
    const layer = tar(file('secret', 'x'));
    await writeFile(join(work, 'outside.tar'), layer);
    const { config } = composeImage([layer]);
    for (const [name, path] of [
      ['climbs', '../outside.tar'],
      ['linked', 'up/outside.tar'],
    ] as const) {
      const inside = join(work, name);
      await mkdir(inside);
      await linkTo('..', join(inside, 'up'));
      await writeFile(join(inside, 'c.json'), config);
      await writeFile(join(inside, 'manifest.json'), JSON.stringify([{ Config: 'c.json', Layers: [path] }]));
      await assert.rejects(images.load(inside, { reference: 'x', signal }), {
        code: 'IMAGE_INVALID',
        message: /missing/,
      });
    }
  });

  it('what is no archive, and what is not there', async () => {
    const images = await open();
    await writeFile(join(work, 'noise'), Buffer.alloc(5000, 7));
    await assert.rejects(images.load(join(work, 'noise'), { signal }), { code: 'IMAGE_INVALID' });
    await assert.rejects(images.load(join(work, 'none'), { signal }), { code: 'NOT_FOUND' });
    await assert.rejects(images.load('/dev/zero', { signal }), { code: 'IMAGE_INVALID' });
  });
});

describe('arrivals', () => {
  it('are told of each image and each new name, and never of what was there', async () => {
    const images = await open();
    let arrived: string[] = [];
    const end = images.onArrival((digest) => arrived.push(digest));
    const arrivals = (): string[] => {
      const digests = [...new Set(arrived)];
      arrived = [];
      return digests;
    };
    const one = await load(images, ONE, 'r.io/one:1');
    assert.deepEqual(arrivals(), [one]);
    await load(images, ONE, 'r.io/one:1');
    assert.deepEqual(arrivals(), []);
    await load(images, ONE, 'r.io/one:2');
    assert.deepEqual(arrivals(), [one]);
    const two = await load(images, TWO, 'r.io/one:1');
    assert.deepEqual(arrivals(), [two]);
    end();
    await load(images, TWO, 'r.io/two:1');
    assert.deepEqual(arrivals(), []);
  });

  it('are told when the image can be looked up by its name', async () => {
    const images = await open();
    let found: Promise<unknown> | undefined;
    images.onArrival(() => {
      found = images.lookup('r.io/one:1').then((image) => image?.digest);
    });
    const one = await load(images, ONE, 'r.io/one:1');
    assert.equal(await found, one);
  });
});

describe('saving', () => {
  it('an export loads again as the same tree and configuration', async () => {
    const images = await open();
    const layer = tar(
      folder('d', { uid: 5 }),
      file('d/a', 'x'.repeat(5000)),
      hardLink('b', 'd/a'),
      symlink('s', 'd'),
    );
    const digest = await load(images, composeImage([layer], { config: { Cmd: ['c'] } }), 'r.io/x:1');
    const chunks: Buffer[] = [];
    for await (const chunk of await images.save('r.io/x:1', signal)) chunks.push(chunk as Buffer);
    assert.ok(chunks.at(-1)?.equals(TAR_END));
    await writeFile(join(work, 'saved.tar'), Buffer.concat(chunks));
    const before = await images.lookupDigest(digest);
    const [after] = await images.load(join(work, 'saved.tar'), { signal });
    assert.equal(after?.reference, 'r.io/x:1');
    assert.deepEqual(after?.config, before?.config);
    const trees = [];
    for (const image of [before, after]) {
      const tree = await readTree(image?.diskPath ?? '');
      trees.push(
        [...tree].map(([path, entry]) => [
          path,
          entry.inode.kind,
          entry.inode.uid,
          entry.inode.links,
          entry.content,
          entry.target,
        ]),
      );
    }
    assert.deepEqual(trees[0], trees[1]);
  });
});

describe('pulling', () => {
  it('policies: Never asks no registry, IfNotPresent only once, Always each time', async () => {
    const images = await open();
    await using registry = await fakeRegistry(ONE);
    const reference = `${registry.host}/t/image`;
    await assert.rejects(images.ensure(reference, { ...ALWAYS, policy: 'Never' }), {
      code: 'IMAGE_NOT_PRESENT',
    });
    assert.equal(registry.requests.length, 0);
    await images.ensure(reference, IF_NOT_PRESENT);
    const first = registry.requests.length;
    await images.ensure(reference, IF_NOT_PRESENT);
    await images.ensure(reference, { ...ALWAYS, policy: 'Never' });
    assert.equal(registry.requests.length, first);
    await images.ensure(reference, ALWAYS);
    assert.ok(registry.requests.length > first);
    assert.equal(registry.requests.filter((line) => line.includes('/blobs/')).length, 3, 'layers come once');
  });

  it('a tag that moved gives the new image, and the old one keeps its digest', async () => {
    const images = await open();
    await using registry = await fakeRegistry(ONE);
    const reference = `${registry.host}/t/image`;
    await images.ensure(reference, ALWAYS);
    registry.manifests.set('latest', {
      type: 'application/vnd.oci.image.manifest.v1+json',
      bytes: TWO.manifest,
    });
    for (const [digest, bytes] of TWO.blobs) registry.blobs.set(digest, bytes);
    assert.equal((await images.ensure(reference, ALWAYS)).digest, TWO.manifestDigest);
    assert.equal((await images.lookup(reference))?.digest, TWO.manifestDigest);
    assert.deepEqual((await images.lookupDigest(ONE.manifestDigest))?.config.cmd, ['one']);
    assert.deepEqual((await names(await reopen(images))).flat(), [`${reference}:latest`]);
  });

  it('many callers share one pull, and one that leaves does not end it', async () => {
    const images = await open();
    const gate = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    const slow: Misbehaviour = (request, response, registry) => {
      const blob = registry.blobs.get(request.url?.split('/').at(-1) ?? '');
      if (blob === undefined) return false;
      reached.resolve();
      void gate.promise.then(() => response.end(blob));
      return true;
    };
    await using registry = await fakeRegistry(ONE, slow);
    const reference = `${registry.host}/t/image`;
    const leaver = new AbortController();
    const left = images.ensure(reference, { ...ALWAYS, signal: leaver.signal });
    const stayed = Array.from({ length: 20 }, () => images.ensure(reference, ALWAYS));
    await reached.promise;
    leaver.abort(new Error('left'));
    await assert.rejects(left, /left/);
    gate.resolve();
    const digests = (await Promise.all(stayed)).map((image) => image.digest);
    assert.deepEqual(new Set(digests), new Set([ONE.manifestDigest]));
    assert.equal(registry.requests.filter((line) => line.includes('/blobs/')).length, 2);
  });

  it('when the last caller leaves, the pull ends and leaves nothing', async () => {
    const images = await open();
    const reached = Promise.withResolvers<void>();
    await using registry = await fakeRegistry(ONE, (request) => {
      if (!request.url?.includes('/blobs/')) return false;
      reached.resolve();
      return true;
    });
    const leaver = new AbortController();
    const left = images.ensure(`${registry.host}/t/image`, { ...ALWAYS, signal: leaver.signal });
    await reached.promise;
    leaver.abort(new Error('left'));
    await assert.rejects(left, /left/);
    await images.close();
    opened = [];
    assert.deepEqual(await leftovers(), []);
    assert.deepEqual(await readdir(join(work, 'images', 'disks')), []);
  });

  it('a caller without credentials does not join the pull of one who has them', async () => {
    const images = await open();
    await using registry = await fakeRegistry(ONE, (request, response) => {
      if (request.headers.authorization !== undefined || request.url === '/v2/') return false;
      response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
      return true;
    });
    const reference = `${registry.host}/t/image`;
    const credentials = [{ registry: registry.host, username: 'u', password: 'p' }];
    const good = images.ensure(reference, { ...ALWAYS, credentials });
    await assert.rejects(images.ensure(reference, ALWAYS), { code: 'REGISTRY_UNAUTHORIZED' });
    assert.equal((await good).digest, ONE.manifestDigest);
  });

  it('a hostile layer from a registry is refused and leaves nothing', async () => {
    const images = await open();
    await using registry = await fakeRegistry(composeImage([tar(file('../x'))]));
    await assert.rejects(images.ensure(`${registry.host}/t/image`, ALWAYS), {
      code: 'IMAGE_INVALID',
      message: /layer 1 of 1, entry "\.\.\/x"/,
    });
    assert.deepEqual(await leftovers(), []);
  });
});

describe('keeping', () => {
  it('names, leases and times of use survive a restart', async () => {
    let now = new Date('2030-01-01T00:00:00Z');
    const images = await open({ now: () => now });
    const digest = await load(images, ONE, 'a:1');
    await load(images, ONE, 'b:2');
    now = new Date('2030-02-02T00:00:00Z');
    await images.lease(digest, 'uid-1');
    const before = await images.list();
    assert.deepEqual(await (await reopen(images)).list(), before);
    assert.deepEqual(before[0]?.references, ['docker.io/library/a:1', 'docker.io/library/b:2']);
    assert.equal(before[0]?.lastUsedAt, now.toISOString());
    assert.equal(before[0]?.inUse, true);
  });

  it('a second process is kept out while the cache is open', async () => {
    await open();
    await assert.rejects(open(), { code: 'CONFLICT', message: /in use by another process/ });
  });

  it('leftovers of a killed process go at the next start', async () => {
    const images = await open();
    await images.close();
    opened = [];
    await writeFile(join(work, 'images', 'tmp', 'half-a-disk'), 'x');
    await open();
    assert.deepEqual(await leftovers(), []);
  });

  for (const [what, damage] of [
    ['a torn record', (path: string) => writeFile(join(path, 'image.json'), '{"digest": "sha')],
    ['an empty record', (path: string) => writeFile(join(path, 'image.json'), '')],
    ['a missing record', (path: string) => unlink(join(path, 'image.json'))],
    ['a cut disk', (path: string) => writeFile(join(path, 'disk.erofs'), 'x')],
    ['a missing disk', (path: string) => unlink(join(path, 'disk.erofs'))],
  ] as const) {
    it(`an image with ${what} is dropped, the others stay`, async () => {
      const images = await open();
      await load(images, ONE, 'a:1');
      await load(images, TWO, 'b:2');
      const disk = (await images.lookup('a:1'))?.diskPath ?? '';
      await damage(join(disk, '..'));
      const again = await reopen(images);
      assert.deepEqual(await names(again), [['docker.io/library/b:2']]);
      assert.equal((await readdir(join(work, 'images', 'disks'))).length, 1);
      await load(again, ONE, 'a:1');
      assert.equal((await again.lookup('a:1'))?.digest, ONE.manifestDigest);
    });
  }

  it('disks of another writer version stay only while they are leased', async () => {
    const images = await open();
    const digest = await load(images, ONE, 'a:1');
    await images.lease(digest, 'uid-1');
    await images.close();
    opened = [];
    const { rename } = await import('node:fs/promises');
    const disks = join(work, 'images', 'disks');
    const [name = ''] = await readdir(disks);
    await rename(join(disks, name), join(disks, name.replace(/-v\d+$/, '-v0')));
    const again = await open();
    assert.equal((await again.lookupDigest(digest))?.digest, digest);
    await again.releaseLease('uid-1');
    assert.deepEqual(await (await reopen(again)).list(), []);
  });

  it('a damaged lease is dropped and harms nothing else', async () => {
    const images = await open();
    const digest = await load(images, ONE, 'a:1');
    await images.lease(digest, 'uid-1');
    await writeFile(join(work, 'images', 'leases', 'uid-2'), 'noise');
    const again = await reopen(images);
    assert.equal((await again.list())[0]?.inUse, true);
    assert.deepEqual(await readdir(join(work, 'images', 'leases')), ['uid-1']);
  });
});

describe('removing', () => {
  it('a lease keeps an image from removal and pruning, until it is released', async () => {
    const images = await open();
    const digest = await load(images, ONE, 'a:1');
    await images.lease(digest, 'uid-1');
    await images.lease(digest, 'uid-1');
    await assert.rejects(images.remove('a:1'), { code: 'CONFLICT' });
    assert.deepEqual(await images.prune({}), []);
    await images.releaseLease('uid-1');
    await images.releaseLease('uid-1');
    await images.remove('a:1');
    assert.deepEqual(await images.list(), []);
    assert.deepEqual(await readdir(join(work, 'images', 'disks')), []);
  });

  it('removing one of two names keeps the image', async () => {
    const images = await open();
    await load(images, ONE, 'a:1');
    await load(images, ONE, 'b:2');
    await images.remove('a:1');
    assert.deepEqual(await names(await reopen(images)), [['docker.io/library/b:2']]);
  });

  it('what is not there cannot be removed or leased', async () => {
    const images = await open();
    await assert.rejects(images.remove('a:1'), { code: 'IMAGE_NOT_PRESENT' });
    await assert.rejects(images.lease(ONE.manifestDigest, 'uid'), { code: 'IMAGE_NOT_PRESENT' });
    await load(images, ONE, 'a:1');
    await assert.rejects(images.lease(ONE.manifestDigest, '../evil'), { code: 'BAD_REQUEST' });
  });

  it('pruning takes the longest unused first, and only as much as is needed', async () => {
    let now = new Date('2030-01-01T00:00:00Z');
    const images = await open({ now: () => now });
    const old = await load(images, ONE, 'a:1');
    now = new Date('2030-01-02T00:00:00Z');
    await load(images, TWO, 'b:2');
    assert.deepEqual(await images.prune({ targetFreeBytes: 1 }), []);
    const dry = await images.prune({ dryRun: true });
    assert.deepEqual(
      dry.map((image) => image.references[0]),
      ['docker.io/library/a:1', 'docker.io/library/b:2'],
    );
    assert.equal((await images.list()).length, 2);
    const { statfs } = await import('node:fs/promises');
    const { bavail, bsize } = await statfs(work);
    const removed = await images.prune({ targetFreeBytes: bavail * bsize + 2 ** 50 });
    assert.equal(removed[0]?.digest, old);
    assert.equal(removed.length, 2);
  });

  it('below the low-space mark a new image pushes out what was long unused', async () => {
    let now = new Date('2030-01-01T00:00:00Z');
    const images = await open({ lowSpaceBytes: 2 ** 60, now: () => now });
    await load(images, ONE, 'a:1');
    now = new Date('2030-01-02T00:00:00Z');
    await load(images, TWO, 'b:2');
    assert.deepEqual(await names(images), [['docker.io/library/b:2']]);
    await load(images, ONE, 'a:1');
    assert.equal((await images.list()).length, 2, 'what was used just now stays');
  });

  it('with too little free nothing new comes in, and what is there stays', async () => {
    let kept = 0;
    const keptFreeBytes = () => Promise.resolve(kept);
    const images = await open({ keptFreeBytes });
    await load(images, ONE, 'a:1');
    kept = 2 ** 60;
    await assert.rejects(load(images, TWO, 'b:2'), { code: 'DISK_FULL', message: /are kept for sandboxes/ });
    assert.deepEqual(await names(images), [['docker.io/library/a:1']]);
    kept = 0;
    await load(images, TWO, 'b:2');
    assert.equal((await images.list()).length, 2);
  });
});
