// A folder source on a real store, with time in the test's hands and passes run one by one.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StoredObject } from '../../api/meta.ts';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { EmbeddedStore } from '../../store/embedded/embedded-store.ts';
import type { Store, StoredEvent } from '../../store/store.ts';
import { type CopyKeeper, NO_COPIES } from '../copies.ts';
import { FolderSync, type PassOutcome } from '../folder-sync.ts';
import { type InventoryFile, inventoryFile } from '../inventory.ts';
import { keyText } from '../model.ts';
import { parseManifests } from '../parse.ts';
import { SOURCE_KINDS } from '../plan.ts';
import { PRUNE_OPTIONS } from '../prune.ts';
import { SNAPSHOT_LIMITS } from '../snapshot.ts';
import { nodeFs, type SnapshotFs } from '../snapshot-fs.ts';
import type { SourceStatus } from '../status.ts';
import { TestFolder } from './folder.ts';

export interface HarnessOptions {
  kinds?: readonly string[];
  root?: string;
  fs?: SnapshotFs;
  strict?: boolean;
  store?: Store;
  inventory?: InventoryFile;
  copies?: CopyKeeper;
}

export class SourceHarness {
  readonly folder: TestFolder;
  readonly store: EmbeddedStore;
  readonly clock = new FakeClock();
  readonly logged: string[] = [];
  sync: FolderSync;

  constructor(folder: TestFolder) {
    this.folder = folder;
    this.store = EmbeddedStore.open({ path: join(folder.base, 'store.db') });
    this.sync = this.daemon();
  }

  static async create(): Promise<SourceHarness> {
    return new SourceHarness(await TestFolder.create());
  }

  get inventoryPath(): string {
    return join(this.folder.base, 'inventory');
  }

  /** A new daemon's source: everything in memory is forgotten. */
  daemon(options: HarnessOptions = {}): FolderSync {
    const log = {
      info: (_: object, text: string) => this.#say(text),
      warn: (_: object, text: string) => this.#say(text),
    };
    this.sync = new FolderSync({
      root: options.root ?? this.folder.root,
      store: options.store ?? this.store,
      kinds: options.kinds ?? SOURCE_KINDS,
      inventory: options.inventory ?? inventoryFile(this.inventoryPath, () => 'aside'),
      log,
      clock: this.clock,
      parse: parseManifests,
      copies: options.copies ?? NO_COPIES,
      snapshot: { fs: options.fs ?? nodeFs, limits: SNAPSHOT_LIMITS, recursive: true },
      strict: options.strict ?? false,
      prune: PRUNE_OPTIONS,
    });
    return this.sync;
  }

  #say(text: string): void {
    this.logged.push(text);
  }

  pass(): Promise<PassOutcome> {
    return this.sync.run(new AbortController().signal);
  }

  /** Passes until no deletion is being waited for; waits of the hold's length and more are not waited out. */
  async settle(): Promise<PassOutcome> {
    let outcome = await this.pass();
    for (let passes = 1; outcome.checkAfterMs !== undefined && outcome.checkAfterMs <= 1_000; passes++) {
      if (passes > 10) throw new Error('the folder does not settle');
      await this.clock.advance(outcome.checkAfterMs);
      outcome = await this.pass();
    }
    return outcome;
  }

  get(name: string, kind = 'Sandbox'): Promise<StoredObject | undefined> {
    return this.store.get({ kind, namespace: 'default', name });
  }

  async must(name: string, kind = 'Sandbox'): Promise<StoredObject> {
    const object = await this.get(name, kind);
    if (object === undefined) throw new Error(`${kind} ${name} is not in the store`);
    return object;
  }

  async names(kind = 'Sandbox'): Promise<string[]> {
    return (await this.store.list(kind)).items.map(({ metadata }) => metadata.name).sort();
  }

  status(): SourceStatus {
    return this.sync.status();
  }

  /** `{name: state}` of everything reported. */
  states(): Record<string, string> {
    return Object.fromEntries(this.status().reports.map(({ key, state }) => [key.name, state]));
  }

  state(name: string, kind = 'Sandbox'): string | undefined {
    const text = keyText({ kind, namespace: 'default', name });
    return this.status().reports.find(({ key }) => keyText(key) === text)?.state;
  }

  problems(): string[] {
    return this.status().problems.map(({ reason, message }) => `${reason}: ${message}`);
  }

  events(): Promise<StoredEvent[]> {
    return this.store.listEvents();
  }

  /** A byte of the inventory is no longer what was written. */
  async corruptInventory(): Promise<void> {
    const text = await readFile(this.inventoryPath, 'utf8');
    await writeFile(this.inventoryPath, text.replace('"rows"', '"rowz"'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    await this.folder[Symbol.asyncDispose]();
  }
}

/** A small valid Sandbox document. */
export function sandboxYaml(name: string, spec: Record<string, unknown> = {}, metadata: object = {}): string {
  return JSON.stringify({
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name, ...metadata },
    spec: { image: 'docker.io/library/busybox:1', ...spec },
  });
}

export function documents(...texts: string[]): string {
  return texts.join('\n---\n');
}
