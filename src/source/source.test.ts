// The running source: real files, real watching; waits end with an event, never with a guess about time.
import assert from 'node:assert/strict';
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import { FakeClock } from '../controller/testing/fake-clock.ts';
import { EmbeddedStore } from '../store/embedded/embedded-store.ts';
import type { Store } from '../store/store.ts';
import { FolderSource, type FolderSourceOptions } from './source.ts';
import { TestFolder } from './testing/folder.ts';
import { documents, sandboxYaml } from './testing/harness.ts';

/** Far longer than anything here takes; only a promise that never settles meets it. */
const PATIENCE_MS = 60_000;

class Running {
  readonly folder: TestFolder;
  readonly store: EmbeddedStore;
  readonly source: FolderSource;

  constructor(folder: TestFolder, options: Partial<FolderSourceOptions>) {
    this.folder = folder;
    this.store = EmbeddedStore.open({ path: join(folder.base, 'store.db') });
    const silent = (): void => undefined;
    this.source = new FolderSource({
      root: folder.root,
      store: this.store,
      stateDir: folder.base,
      log: { info: silent, warn: silent },
      // No resync within a test: what is seen was seen by watching.
      timing: { debounceMs: 20, maxDebounceMs: 100, resyncMs: 10 * PATIENCE_MS },
      prune: { settleMs: 20, holdMs: 50 },
      ...options,
    });
  }

  static async start(
    prepare: (folder: TestFolder) => Promise<Partial<FolderSourceOptions>>,
  ): Promise<Running> {
    const folder = await TestFolder.create();
    const options = await prepare(folder);
    const running = new Running(folder, options);
    await running.source.start();
    return running;
  }

  /** Resolves at the first change of any sandbox after which `holds`. */
  async until(holds: (names: Map<string, unknown>) => boolean): Promise<void> {
    const abort = AbortSignal.timeout(PATIENCE_MS);
    const { resourceVersion } = await this.store.list('Sandbox');
    const now = await this.#cpus();
    if (holds(now)) return;
    for await (const event of this.store.watch('Sandbox', { resourceVersion, signal: abort })) {
      if (event.type === 'BOOKMARK') continue;
      const { metadata, spec } = event.object;
      if (event.type === 'DELETED') now.delete(metadata.name);
      else now.set(metadata.name, cpusOf(spec));
      if (holds(now)) return;
    }
    assert.fail(`not within ${PATIENCE_MS} ms; the store holds ${[...now.keys()].slice(0, 20)}`);
  }

  async #cpus(): Promise<Map<string, unknown>> {
    const { items } = await this.store.list('Sandbox');
    return new Map(items.map(({ metadata, spec }) => [metadata.name, cpusOf(spec)]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source.stop();
    await this.store.close();
    await this.folder[Symbol.asyncDispose]();
  }
}

function cpusOf(spec: unknown): unknown {
  return (spec as { resources: { cpus: unknown } }).resources.cpus;
}

function withCpus(name: string, cpus: number): string {
  return sandboxYaml(name, { resources: { cpus } });
}

async function plain(folder: TestFolder): Promise<Partial<FolderSourceOptions>> {
  await folder.write('first.yaml', sandboxYaml('first'));
  return {};
}

test('new files, edits in place, renames over and removals are noticed by themselves', async () => {
  await using running = await Running.start(plain);
  const { folder } = running;
  await running.until((now) => now.has('first'));
  await folder.write('second.yaml', withCpus('second', 1));
  await running.until((now) => now.has('second'));
  await folder.write('second.yaml', withCpus('second', 2));
  await running.until((now) => now.get('second') === 2);
  await writeFile(join(folder.root, 'second.yaml'), withCpus('second', 3));
  await running.until((now) => now.get('second') === 3);
  await folder.write('deep/er/third.yaml', sandboxYaml('third'));
  await running.until((now) => now.has('third'));
  await folder.remove('deep');
  await running.until((now) => !now.has('third'));
});

test('a root link that flips is noticed, and so is the next flip', async () => {
  await using running = await Running.start(async (folder) => {
    for (const version of [1, 2, 3]) {
      await mkdir(join(folder.base, `v${version}`));
      await writeFile(join(folder.base, `v${version}/a.yaml`), withCpus('a', version));
    }
    await symlink('v1', join(folder.base, 'current'));
    return { root: join(folder.base, 'current') };
  });
  for (const version of [2, 3]) {
    await symlink(`v${version}`, join(running.folder.base, 'new'));
    await rename(join(running.folder.base, 'new'), join(running.folder.base, 'current'));
    await running.until((now) => now.get('a') === version);
  }
});

test('a link above the root that flips is noticed', async () => {
  await using running = await Running.start(async (folder) => {
    for (const version of [1, 2]) {
      await mkdir(join(folder.base, `v${version}/k8s`), { recursive: true });
      await writeFile(join(folder.base, `v${version}/k8s/a.yaml`), withCpus('a', version));
    }
    await symlink('v1', join(folder.base, 'current'));
    return { root: join(folder.base, 'current/k8s') };
  });
  await symlink('v2', join(running.folder.base, 'new'));
  await rename(join(running.folder.base, 'new'), join(running.folder.base, 'current'));
  await running.until((now) => now.get('a') === 2);
});

test('a ..data link that flips, as in a ConfigMap volume, is noticed', async () => {
  await using running = await Running.start(async (folder) => {
    for (const version of [1, 2]) await folder.write(`..v${version}/a.yaml`, withCpus('a', version));
    await symlink('..v1', join(folder.root, '..data'));
    await symlink('..data/a.yaml', join(folder.root, 'a.yaml'));
    return {};
  });
  await running.until((now) => now.get('a') === 1);
  await symlink('..v2', join(running.folder.root, '..data_tmp'));
  await rename(join(running.folder.root, '..data_tmp'), join(running.folder.root, '..data'));
  await running.until((now) => now.get('a') === 2);
});

test('a root that is removed and made again is noticed, and nothing was deleted meanwhile', async () => {
  await using running = await Running.start(plain);
  const { folder, store, source } = running;
  const uid = (await store.list('Sandbox')).items[0]?.metadata.uid;
  await rm(folder.root, { recursive: true });
  await source.sync();
  assert.equal(source.status().available, false);
  await mkdir(folder.root);
  await folder.write('first.yaml', withCpus('first', 2));
  await running.until((now) => now.get('first') === 2);
  assert.equal((await store.list('Sandbox')).items[0]?.metadata.uid, uid);
});

test('a root that does not exist yet is waited for', async () => {
  await using running = await Running.start(async (folder) => ({ root: join(folder.base, 'later') }));
  assert.equal(running.source.status().available, false);
  await mkdir(join(running.folder.base, 'later'));
  await writeFile(join(running.folder.base, 'later/a.yaml'), sandboxYaml('a'));
  await running.until((now) => now.has('a'));
});

test('a change or deletion through the API is put back by itself', async () => {
  await using running = await Running.start(plain);
  const key = { kind: 'Sandbox', namespace: 'default', name: 'first' };
  await running.store.patch(key, { spec: { resources: { cpus: 9 } } });
  await running.until((now) => now.get('first') === 1);
  await running.store.delete(key);
  await running.until((now) => now.has('first'));
});

test('a full or broken store is tried again by itself until it recovers', async () => {
  let broken = true;
  await using running = await Running.start(async (folder) => {
    await folder.write('first.yaml', sandboxYaml('first'));
    return { timing: { debounceMs: 20, maxDebounceMs: 100, resyncMs: 10 * PATIENCE_MS, retryMs: 20 } };
  });
  const flaky = new Proxy<Store>(running.store, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        if (broken && property === 'create') throw new BulkheadError('STORE_FULL', 'the disk is full');
        return value.apply(target, args) as unknown;
      };
    },
  });
  const silent = (): void => undefined;
  const second = new FolderSource({
    root: running.folder.root,
    store: flaky,
    stateDir: running.folder.base,
    log: { info: silent, warn: silent },
    timing: { resyncMs: 10 * PATIENCE_MS, retryMs: 20 },
  });
  await running.source.stop();
  await running.folder.write('later.yaml', sandboxYaml('later'));
  await second.start();
  assert.equal(second.status().objects.failed, 1);
  assert.match(
    second.status().problems[0]?.message ?? '',
    /later\.yaml: document 1: create of .* the disk is full/,
  );
  broken = false;
  await running.until((now) => now.has('later'));
  await second.stop();
});

test('a pass follows every minute without any hint, a tenth sooner or later at random', async () => {
  for (const [random, ms] of [
    [0, 54_000],
    [1, 66_000],
  ] as const) {
    const clock = new FakeClock();
    await using running = await Running.start(async (folder) => {
      await plain(folder);
      return { clock, random: () => random, timing: {} };
    });
    assert.equal(clock.pending.at(-1), ms);
    assert.equal(running.source.status().objects.synced, 1);
  }
});

test('a folder that cannot be read is tried again ever more rarely, up to the resync', async () => {
  const clock = new FakeClock();
  await using running = await Running.start(async (folder) => {
    const root = join(folder.base, 'absent');
    return { root, clock, random: () => 0.5, timing: {} };
  });
  const waits: (number | undefined)[] = [];
  for (let pass = 0; pass < 8; pass++) {
    waits.push(clock.pending.at(-1));
    await running.source.sync();
  }
  assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
});

test('the state directory may not lie in the folder', async () => {
  await using folder = await TestFolder.create();
  await mkdir(join(folder.root, 'state'));
  const running = new Running(folder, { stateDir: join(folder.root, 'state') });
  await assert.rejects(
    running.source.start(),
    (error) => error instanceof BulkheadError && error.code === 'BAD_REQUEST',
  );
  await running.source.stop();
  await running.store.close();
});

test('a source that is stopped in the middle of a pass ends it, and writes nothing afterwards', async () => {
  const running = await Running.start(plain);
  await running.folder.write('late.yaml', sandboxYaml('late'));
  const pass = running.source.sync();
  await running.source.stop();
  await pass;
  const { resourceVersion } = await running.store.list('Sandbox');
  await running.folder.write('later.yaml', sandboxYaml('later'));
  running.source.hint();
  await running.source.sync();
  assert.equal((await running.store.list('Sandbox')).resourceVersion, resourceVersion);
  await running[Symbol.asyncDispose]();
});

test('a folder beyond the limits is unavailable as a whole', async () => {
  await using running = await Running.start(async (folder) => {
    await folder.write('a.yaml', sandboxYaml('a'));
    await folder.write('b.yaml', sandboxYaml('b'));
    return { limits: { maxFiles: 1 } };
  });
  assert.equal(running.source.status().available, false);
  assert.match(running.source.status().problems[0]?.message ?? '', /more than 1 manifest files/);
});

test('5,000 files are taken in, kept in step and pruned', async () => {
  await using running = await Running.start(async (folder) => {
    await mkdir(join(folder.root, 'many'));
    for (let index = 0; index < 5_000; index++) {
      await writeFile(join(folder.root, `many/s${index}.yaml`), sandboxYaml(`s${index}`));
    }
    await folder.write('stay.yaml', documents(sandboxYaml('stay'), sandboxYaml('too')));
    return {};
  });
  const { source, folder } = running;
  assert.equal(source.status().objects.synced, 5_002);
  await folder.write('many/s4321.yaml', withCpus('s4321', 2));
  await running.until((now) => now.get('s4321') === 2);
  await folder.remove('many');
  await running.until((now) => now.size === 2);
  await source.sync();
  assert.deepEqual(source.status().problems, []);
});
