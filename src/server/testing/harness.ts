// A server with a real store and rules, and fakes for everything that needs a machine.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer as createNetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Duplex, Readable } from 'node:stream';
import { BulkheadError } from '../../api/errors.ts';
import { SANDBOX_KIND } from '../../api/kinds.ts';
import type { CachedImage, VmFigures } from '../../api/wire.ts';
import { BulkheadClient } from '../../client/client.ts';
import { policyAccess } from '../../daemon/policy-access.ts';
import type { BootableImage, Images, PullOptions } from '../../images/images.ts';
import { EmbeddedStore } from '../../store/embedded/embedded-store.ts';
import type { Store } from '../../store/store.ts';
import type { ConnectionLimits } from '../connections.ts';
import type {
  LiveSandbox,
  LogEntry,
  LogOptions,
  MainAttachment,
  SandboxAccess,
  ServerDependencies,
} from '../contracts.ts';
import { apiRules } from '../rules.ts';
import { type ApiServer, createServer } from '../server.ts';
import { BASIC_COMMANDS, FakeAgent, type FakeCommand, FakeProcess } from './fake-guest.ts';
import { FakeVolumeAccess } from './fake-volumes.ts';

export const ZERO_STATS: VmFigures = {
  cpuSeconds: 1.5,
  memoryBytes: 64 * 1024 ** 2,
  memoryLimitBytes: 512 * 1024 ** 2,
  diskReadBytes: 1,
  diskWriteBytes: 2,
  networkReceiveBytes: 3,
  networkTransmitBytes: 4,
  networkReceivePackets: 5,
  networkTransmitPackets: 6,
};

/** Sandboxes whose guests are fakes: every Sandbox of the store that was not listed in `stopped` runs. */
export class FakeSandboxes implements SandboxAccess {
  readonly stopped = new Set<string>();
  readonly agent: FakeAgent;
  readonly logs = new Map<string, LogEntry[]>();
  main: FakeCommand = BASIC_COMMANDS.cat as FakeCommand;
  mainTty = false;
  /** Connects to a port of every guest. */
  dial: (port: number) => Promise<Duplex> = async (port) => {
    throw new BulkheadError('PORT_UNREACHABLE', `Nothing listens on port ${port} of the guest.`);
  };
  /** Streams that count as use now. */
  inUse = 0;
  logOptions: LogOptions[] = [];
  /** Uids that clients hold now. */
  readonly held: string[] = [];
  readonly #store: Store;

  constructor(store: Store, commands: Record<string, FakeCommand>) {
    this.#store = store;
    this.agent = new FakeAgent(commands);
  }

  async #existing(namespace: string, name: string) {
    const object = await this.#store.get({ kind: SANDBOX_KIND.kind, namespace, name });
    if (object === undefined) {
      throw new BulkheadError('NOT_FOUND', `sandboxes.bulkhead.dev "${name}" not found`);
    }
    return object;
  }

  async live(namespace: string, name: string): Promise<LiveSandbox> {
    const object = await this.#existing(namespace, name);
    if (this.stopped.has(name)) {
      throw new BulkheadError('SANDBOX_NOT_RUNNING', `sandbox "${name}" does not run`);
    }
    return {
      uid: object.metadata.uid,
      startedAt: new Date('2026-01-02T03:04:05Z'),
      agent: this.agent,
      execDefaults: {
        env: ['PATH=/bin', 'MODE=image'],
        cwd: '/work',
        user: 'app',
        entrypoint: ['echo', 'entry'],
        cmd: ['default'],
      },
      vmStats: async () => ZERO_STATS,
      dial: (port) => this.dial(port),
      attachMain: async () => this.#attach(),
      use: () => {
        this.inUse++;
        return () => {
          this.inUse--;
        };
      },
    };
  }

  hold({ uid }: { uid: string }): () => void {
    this.held.push(uid);
    return () => this.held.splice(this.held.indexOf(uid), 1);
  }

  #attach(): MainAttachment {
    const request = { sessionId: 'main', argv: ['main'], env: [], stdin: true, overflow: 'block' } as const;
    const process = new FakeProcess({ ...request, argv: [], env: [] }, this.main);
    return {
      tty: this.mainTty,
      ...(process.stdin === undefined ? {} : { stdin: process.stdin }),
      output: () => process.output(),
      exited: process.exited,
      signal: (name) => process.signal(name),
      resize: (size) => process.resize(size),
      close() {},
    };
  }

  async openLog(namespace: string, name: string, options: LogOptions): Promise<AsyncIterable<LogEntry>> {
    await this.#existing(namespace, name);
    this.logOptions.push(options);
    const entries = this.logs.get(name) ?? [];
    async function* read() {
      yield* entries.slice(-(options.tailLines ?? entries.length) || entries.length);
      if (options.follow) {
        await new Promise<void>((resolve) => options.signal.addEventListener('abort', () => resolve()));
      }
    }
    return read();
  }
}

/** An image cache that "pulls" whatever is not called missing. */
export class FakeImages implements Images {
  readonly stored = new Map<string, CachedImage>();
  readonly pulls: { reference: string; options: PullOptions }[] = [];
  readonly loads: string[] = [];

  #add(reference: string): BootableImage {
    const digest = `sha256:${Buffer.from(reference).toString('hex').padEnd(64, '0').slice(0, 64)}`;
    this.stored.set(reference, {
      references: [reference],
      digest,
      sizeBytes: 4096,
      createdAt: '2026-01-01T00:00:00Z',
      lastUsedAt: '2026-01-02T00:00:00Z',
      inUse: false,
    });
    const config = {
      entrypoint: [],
      cmd: [],
      env: [],
      workingDir: '/',
      user: '',
      stopSignal: '',
      labels: {},
    };
    return { reference, digest, diskPath: '/dev/null', sizeBytes: 4096, config };
  }

  async ensure(reference: string, options: PullOptions): Promise<BootableImage> {
    this.pulls.push({ reference, options });
    const progress = { layersDone: 0, layersTotal: 1, bytesDone: 0, bytesTotal: 100 };
    if (reference.includes('missing')) throw new BulkheadError('IMAGE_NOT_FOUND', `${reference}: not found`);
    options.onProgress?.({ phase: 'downloading', ...progress });
    if (reference.includes('broken')) throw new BulkheadError('IMAGE_INVALID', `${reference}: broken layer`);
    options.onProgress?.({ phase: 'done', ...progress, layersDone: 1, bytesDone: 100 });
    return this.#add(reference);
  }
  async load(path: string): Promise<BootableImage[]> {
    const { readFile } = await import('node:fs/promises');
    this.loads.push((await readFile(path)).toString());
    return [this.#add('loaded:latest')];
  }
  async list(): Promise<CachedImage[]> {
    return [...this.stored.values()];
  }
  async remove(reference: string): Promise<void> {
    if (!this.stored.delete(reference)) {
      throw new BulkheadError('IMAGE_NOT_PRESENT', `${reference} is not in the cache`);
    }
  }
  async prune({ dryRun }: { dryRun?: boolean }): Promise<CachedImage[]> {
    const all = [...this.stored.values()];
    if (dryRun !== true) this.stored.clear();
    return all;
  }
  async lookup(): Promise<undefined> {
    return undefined;
  }
  async lookupDigest(): Promise<undefined> {
    return undefined;
  }
  onArrival(): () => void {
    return () => {};
  }
  async lease(): Promise<void> {}
  async releaseLease(): Promise<void> {}
  async close(): Promise<void> {}
}

export interface Harness extends AsyncDisposable {
  dir: string;
  socketPath: string;
  store: EmbeddedStore;
  sandboxes: FakeSandboxes;
  images: FakeImages;
  server: ApiServer;
  client: BulkheadClient;
}

export interface HarnessOptions {
  commands?: Record<string, FakeCommand>;
  dependencies?: Partial<ServerDependencies>;
  metricsAddress?: string;
  apiLimits?: ConnectionLimits;
}

/** A listening server in a directory of its own. */
export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-server-'));
  const socketPath = join(dir, 'api.sock');
  const store = EmbeddedStore.open({ path: join(dir, 'store.db') });
  const sandboxes = new FakeSandboxes(store, { ...BASIC_COMMANDS, ...options.commands });
  const images = new FakeImages();
  const dependencies: ServerDependencies = {
    store,
    rules: apiRules((text) => JSON.parse(text) as unknown),
    sandboxes,
    holds: sandboxes,
    images,
    imageExporter: { save: async (reference) => Readable.from([`archive of ${reference}`]) },
    volumes: new FakeVolumeAccess(),
    commits: { commit: () => Promise.reject(new BulkheadError('NOT_SUPPORTED', 'no images are made here')) },
    garbage: { collect: () => Promise.resolve([]) },
    copies: { has: () => Promise.resolve(false), put: () => Promise.resolve() },
    policies: policyAccess(store, { stateOf: () => undefined, log: async () => [] }),
    metrics: async () => ({ contentType: 'text/plain; version=0.0.4', body: 'up 1\n' }),
    healthChecks: [{ name: 'store', kind: 'live', check: async () => {} }],
    doctor: async () => [{ name: 'driver', status: 'ok', message: 'software is usable' }],
    uploadsDir: dir,
    version: '0.1.0',
    ...options.dependencies,
  };
  const server = createServer(dependencies, options.apiLimits);
  const { metricsAddress } = options;
  await server.listen({ socketPath, ...(metricsAddress === undefined ? {} : { metricsAddress }) });
  const client = new BulkheadClient({ socketPath });
  return {
    dir,
    socketPath,
    store,
    sandboxes,
    images,
    server,
    client,
    async [Symbol.asyncDispose]() {
      client.close();
      await server.close();
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createNetServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (typeof address !== 'object' || address === null) throw new Error('a TCP server has a port');
  return address.port;
}

/** A valid Sandbox document. */
export function sandboxDocument(
  name: string,
  spec: Record<string, unknown> = {},
  labels?: Record<string, string>,
) {
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name, ...(labels ? { labels } : {}) },
    spec: { image: 'docker.io/library/busybox:1.36', ...spec },
  };
}
