// The process may die between any two writes; the next start must come to the same end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredObject } from '../api/meta.ts';
import type { Store } from '../store/store.ts';
import { type InventoryFile, inventoryFile } from './inventory.ts';
import { documents, SourceHarness, sandboxYaml } from './testing/harness.ts';

class Died extends Error {}

/** Lets so many calls through; then the process is dead: that call and all later ones fail. */
class Mortality {
  calls = 0;
  readonly #limit: number;
  readonly #afterwards: boolean;

  /** `afterwards`: the fatal call takes effect, only its answer is lost. */
  constructor(limit: number, afterwards: boolean) {
    this.#limit = limit;
    this.#afterwards = afterwards;
  }

  get died(): boolean {
    return this.calls > this.#limit;
  }

  async call<T>(effect: () => Promise<T>): Promise<T> {
    this.calls++;
    if (this.calls === this.#limit + 1 && this.#afterwards) await effect();
    if (this.died) throw new Died('killed');
    return effect();
  }

  wrap<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => this.call(() => value.apply(target, args) as Promise<unknown>);
      },
    });
  }
}

/** What must be the same in the end, however often it died on the way. */
async function outcome(h: SourceHarness): Promise<unknown> {
  const shown = ({ kind, metadata, spec, data }: StoredObject) => {
    const { name, labels, annotations } = metadata;
    const paths = Object.fromEntries(
      Object.entries(annotations ?? {}).map(([key, text]) => [key, text.replace(h.folder.base, '')]),
    );
    return { kind, name, labels, annotations: paths, spec, data };
  };
  const lists = await Promise.all(['Sandbox', 'Secret'].map((kind) => h.store.list(kind)));
  return lists.flatMap(({ items }) => items.map(shown)).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A folder before, a folder after: creates, updates, deletes, label removal, a rename and a broken edit. */
async function before(h: SourceHarness): Promise<void> {
  const labelled = sandboxYaml('changed', {}, { labels: { old: 'x' }, annotations: { old: 'y' } });
  await h.folder.write('changed.yaml', labelled);
  await h.folder.write('gone.yaml', documents(sandboxYaml('gone1'), sandboxYaml('gone2')));
  await h.folder.write('renamed-from.yaml', sandboxYaml('renamed'));
  await h.folder.write('broken.yaml', sandboxYaml('broken', { resources: { cpus: 2 } }));
  await h.folder.write('stays.yaml', documents(sandboxYaml('stays1'), sandboxYaml('stays2')));
}

async function after(h: SourceHarness): Promise<void> {
  await h.folder.write('changed.yaml', sandboxYaml('changed', { resources: { cpus: 2 } }));
  await h.folder.remove('gone.yaml');
  await h.folder.remove('renamed-from.yaml');
  await h.folder.write('renamed-to.yaml', sandboxYaml('renamed'));
  await h.folder.write('broken.yaml', sandboxYaml('broken', { resources: { cpus: 'many' } }));
  await h.folder.write('new.yaml', documents(sandboxYaml('new1'), sandboxYaml('new2')));
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'secret' }, stringData: { k: 'v' } };
  await h.folder.write('secret.json', JSON.stringify(secret));
}

async function uids(h: SourceHarness): Promise<Map<string, string>> {
  return new Map((await h.store.list('Sandbox')).items.map(({ metadata }) => [metadata.name, metadata.uid]));
}

async function undisturbed(): Promise<unknown> {
  await using h = await SourceHarness.create();
  await before(h);
  await h.settle();
  await after(h);
  await h.settle();
  return outcome(h);
}

/** Runs the change with a process that dies after `limit` calls, then with one that lives. */
async function interrupted(limit: number, afterwards: boolean): Promise<{ died: boolean; end: unknown }> {
  await using h = await SourceHarness.create();
  await before(h);
  await h.settle();
  const kept = await uids(h);
  await after(h);

  const fate = new Mortality(limit, afterwards);
  const inventory: InventoryFile = fate.wrap(inventoryFile(h.inventoryPath, () => 'aside'));
  const store: Store = fate.wrap<Store>(h.store);
  h.daemon({ store, inventory });
  await h.settle();

  h.daemon();
  await h.settle();
  for (const [name, uid] of await uids(h)) {
    const former = kept.get(name);
    assert.ok(former === undefined || former === uid, `${name} was made anew`);
  }
  return { died: fate.died, end: await outcome(h) };
}

for (const [moment, afterwards] of [
  ['before', false],
  ['just after', true],
] as const) {
  test(`killed ${moment} any call to the store or the inventory, the next start converges`, async () => {
    const expected = await undisturbed();
    let limit = 0;
    for (; ; limit++) {
      const { died, end } = await interrupted(limit, afterwards);
      assert.deepEqual(end, expected, `after a death ${moment} call ${limit + 1}`);
      if (!died) break;
    }
    assert.ok(limit > 20, `the change takes many calls (${limit})`);
  });
}

function cpusOf(object: StoredObject): number {
  return (object.spec as { resources: { cpus: number } }).resources.cpus;
}

test('killed at any call, with everything removed or broken while it was down, nothing of ours is left behind or goes back', async () => {
  for (let limit = 0; ; limit++) {
    await using h = await SourceHarness.create();
    await h.folder.write('keep.yaml', sandboxYaml('keep'));
    await h.settle();
    await h.folder.write('new.yaml', documents(sandboxYaml('new1'), sandboxYaml('new2')));
    await h.folder.write('keep.yaml', sandboxYaml('keep', { resources: { cpus: 2 } }));
    const fate = new Mortality(limit, true);
    const inventory = fate.wrap(inventoryFile(h.inventoryPath, () => 'aside'));
    h.daemon({ store: fate.wrap<Store>(h.store), inventory });
    await h.pass();
    const reached = cpusOf(await h.must('keep'));

    await h.folder.remove('new.yaml');
    await h.folder.write('keep.yaml', 'kind: [');
    h.daemon();
    await h.settle();
    assert.deepEqual(await h.names(), ['keep'], `after a death at call ${limit + 1}`);
    const now = cpusOf(await h.must('keep'));
    assert.ok(
      now >= reached,
      `after a death at call ${limit + 1} it went back from ${reached} to ${now} cpus`,
    );
    if (!fate.died) break;
  }
});
