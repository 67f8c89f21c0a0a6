// The templates of this host: made on first use, kept while they are used, dropped when they are broken or too many.
import { closeSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import { fileDigest } from '../file-digest.ts';
import type { StartQueue } from '../start-queue.ts';
import type { SoftwareHost } from './host.ts';
import { fileIdentity, hostFingerprint, type TemplateSpec, templateKey } from './template-key.ts';
import {
  isMaker,
  makeTemplate,
  type PrepareGuest,
  RAM_FILE,
  STATE_FILE,
  TEMPLATE_RECORD,
  UPPER_FILE,
} from './template-maker.ts';

/** A template takes 54 to 200 MB on disk and the same in memory; this is about ten ordinary ones. */
const DEFAULT_MAX_BYTES = 1024 ** 3;
/** A template that cannot be made costs a boot for each try: no new try before so long. */
const RETRY_AFTER_MS = 60_000;
/** st_blocks counts in these. */
const BLOCK_BYTES = 512;

/** A template that is in memory and will not be evicted until it is released. */
export interface TemplateLease {
  key: string;
  /** Sealed memory file. */
  ramFd: number;
  statePath: string;
  /** The upper disk as it was at the save; of an `image` template only. */
  upperPath: string;
  release(): void;
}

interface Loaded {
  key: string;
  dir: string;
  ramFd: number;
  bytes: number;
  leases: number;
  lastUse: number;
  dropped: boolean;
}

export interface TemplateOptions {
  prepare: PrepareGuest;
  queue: StartQueue;
  maxBytes?: number;
  warn(message: string): void;
}

export class Templates {
  readonly #host: SoftwareHost;
  readonly #options: TemplateOptions;
  readonly #dir: string;
  /** Being loaded or ready, by key. */
  readonly #loaded = new Map<string, Promise<Loaded>>();
  readonly #ready = new Map<string, Loaded>();
  /** Of daemons before this one, and not asked for yet; least recently used first. By key, with its bytes on disk. */
  #stored = new Map<string, number>();
  readonly #failures = new Map<string, { at: number; error: unknown }>();
  readonly #closing = new AbortController();
  #fingerprint: Promise<string> | undefined;
  #clock = 0;

  constructor(host: SoftwareHost, options: TemplateOptions) {
    this.#host = host;
    this.#options = options;
    this.#dir = join(host.stateDir, 'templates');
  }

  /** Resolves to the template, made first where there is none. An abort ends the waiting, not the making. */
  async lease(spec: TemplateSpec, signal: AbortSignal): Promise<TemplateLease> {
    const key = templateKey(await this.#hostFingerprint(), spec);
    const failure = this.#failures.get(key);
    if (failure && performance.now() - failure.at < RETRY_AFTER_MS) throw failure.error;
    let template: Loaded;
    do template = await raceAbort(this.#load(key, spec), signal);
    while (template.dropped); // evicted between its loading and our turn
    template.leases++;
    template.lastUse = ++this.#clock;
    let released = false;
    return {
      key,
      ramFd: template.ramFd,
      statePath: join(template.dir, STATE_FILE),
      upperPath: join(template.dir, UPPER_FILE),
      release: () => {
        if (released) return;
        released = true;
        template.leases--;
        this.#closeUnused(template);
      },
    };
  }

  /** Forgets a template that could not be restored; the next lease makes it again. */
  async drop(key: string, reason: string): Promise<void> {
    const loading = this.#loaded.get(key);
    if (loading === undefined) return;
    this.#loaded.delete(key);
    this.#ready.delete(key);
    this.#options.warn(`template ${key} is dropped: ${reason}`);
    await this.#discard(await loading);
  }

  async close(): Promise<void> {
    this.#closing.abort(new BulkheadError('VM_START_FAILED', 'the driver is closing'));
    const settled = await Promise.allSettled(this.#loaded.values());
    this.#loaded.clear();
    this.#ready.clear();
    for (const result of settled) {
      if (result.status !== 'fulfilled') continue;
      result.value.dropped = true;
      this.#closeUnused(result.value);
    }
  }

  #hostFingerprint(): Promise<string> {
    this.#fingerprint ??= this.#prepareDir();
    return this.#fingerprint;
  }

  /** Removes the templates of other boots of the host and other builds; takes note of those that stay. */
  async #prepareDir(): Promise<string> {
    const fingerprint = await hostFingerprint(this.#host);
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const kept: { name: string; bytes: number; lastUse: number }[] = [];
    for (const name of await readdir(this.#dir)) {
      if (isMaker(name)) continue;
      const dir = join(this.#dir, name);
      const record = await readTemplateRecord(dir);
      if (record?.fingerprint === fingerprint) {
        const { mtimeMs } = await stat(join(dir, TEMPLATE_RECORD));
        kept.push({ name, bytes: await bytesOnDisk(dir), lastUse: mtimeMs });
      } else await rm(dir, { recursive: true, force: true });
    }
    kept.sort((a, b) => a.lastUse - b.lastUse);
    this.#stored = new Map(kept.map(({ name, bytes }) => [name, bytes]));
    return fingerprint;
  }

  #load(key: string, spec: TemplateSpec): Promise<Loaded> {
    const running = this.#loaded.get(key);
    if (running !== undefined) return running;
    const loading = this.#open(key, spec);
    this.#loaded.set(key, loading);
    loading.catch((error: unknown) => {
      this.#loaded.delete(key);
      this.#failures.set(key, { at: performance.now(), error });
    });
    return loading;
  }

  async #open(key: string, spec: TemplateSpec): Promise<Loaded> {
    const fingerprint = await this.#hostFingerprint();
    const dir = join(this.#dir, key);
    this.#stored.delete(key);
    const ramFd = (await this.#fromDisk(dir, spec)) ?? (await this.#make(dir, fingerprint, spec));
    const bytes = await bytesOnDisk(dir);
    const template: Loaded = { key, dir, ramFd, bytes, leases: 0, lastUse: ++this.#clock, dropped: false };
    this.#ready.set(key, template);
    await this.#evictFor(template);
    return template;
  }

  async #fromDisk(dir: string, spec: TemplateSpec): Promise<number | undefined> {
    const record = await readTemplateRecord(dir);
    if (!record) return undefined;
    try {
      const size = (await stat(join(dir, RAM_FILE))).size;
      if (size !== spec.memoryBytes) throw new Error(`memory file of ${size} bytes`);
      if ((await fileDigest(join(dir, STATE_FILE))) !== record.stateDigest)
        throw new Error('device state changed');
      const ramFd = await this.#host.library.memfdFromFile(join(dir, RAM_FILE));
      // Looked at after the copy, so that it holds for what was copied.
      if ((await fileIdentity(join(dir, RAM_FILE))) === record.ramIdentity) {
        await utimes(join(dir, TEMPLATE_RECORD), new Date(), new Date());
        return ramFd;
      }
      closeSync(ramFd);
      throw new Error('guest memory changed');
    } catch (error) {
      this.#options.warn(
        `template ${dir} is broken and made again: ${error instanceof Error ? error.message : error}`,
      );
      return undefined;
    }
  }

  #make(dir: string, fingerprint: string, spec: TemplateSpec): Promise<number> {
    const signal = this.#closing.signal;
    return this.#options.queue.run(
      () => makeTemplate(this.#host, this.#options.prepare, spec, { dir, fingerprint }, signal),
      signal,
    );
  }

  /** Least recently used first, and so those before all that this daemon has asked for; one that is in use stays. */
  async #evictFor(added: Loaded): Promise<void> {
    const limit = this.#options.maxBytes ?? DEFAULT_MAX_BYTES;
    const others = [...this.#ready.values()].filter((item) => item !== added);
    let total = others.reduce((sum, item) => sum + item.bytes, added.bytes);
    for (const bytes of this.#stored.values()) total += bytes;
    for (const [key, bytes] of [...this.#stored]) {
      if (total <= limit) return;
      // Asked for meanwhile: then it counts with its own loading.
      if (!this.#stored.delete(key)) continue;
      total -= bytes;
      await rm(join(this.#dir, key), { recursive: true, force: true });
    }
    for (const candidate of others.sort((a, b) => a.lastUse - b.lastUse)) {
      if (total <= limit) return;
      if (candidate.leases > 0 || candidate.dropped) continue;
      total -= candidate.bytes;
      this.#loaded.delete(candidate.key);
      this.#ready.delete(candidate.key);
      await this.#discard(candidate);
    }
  }

  async #discard(template: Loaded): Promise<void> {
    template.dropped = true;
    this.#closeUnused(template);
    await rm(template.dir, { recursive: true, force: true });
  }

  #closeUnused(template: Loaded): void {
    if (!template.dropped || template.leases > 0 || template.ramFd < 0) return;
    closeSync(template.ramFd);
    template.ramFd = -1;
  }
}

/** What a folder's files take. */
async function bytesOnDisk(dir: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(dir)) bytes += (await stat(join(dir, name))).blocks * BLOCK_BYTES;
  return bytes;
}

async function readTemplateRecord(
  dir: string,
): Promise<{ fingerprint: string; stateDigest: string; ramIdentity: string } | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(dir, TEMPLATE_RECORD), 'utf8'));
    const fields: Record<string, unknown> = typeof value === 'object' && value !== null ? { ...value } : {};
    const { version, fingerprint, stateDigest, ramIdentity } = fields;
    if (version !== 2 || typeof fingerprint !== 'string' || typeof stateDigest !== 'string') return undefined;
    if (typeof ramIdentity !== 'string') return undefined;
    return { fingerprint, stateDigest, ramIdentity };
  } catch {
    return undefined;
  }
}

async function raceAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
