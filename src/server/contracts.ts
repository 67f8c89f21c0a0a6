// What the server needs from the rest of the product. The daemon wires it; tests give fakes.
import type { Duplex, Readable, Writable } from 'node:stream';
import type { FastifyBaseLogger } from 'fastify';
import type { ObjectManifest, ResourceKind, StoredObject } from '../api/meta.ts';
import type { DoctorCheck, FlowEntry, VmFigures, VolumeDiskInfo } from '../api/wire.ts';
import type { Copies } from '../copies/copies.ts';
import type { GuestAgent, OutputChunk, ProcessExit } from '../guest/agent.ts';
import type { Images } from '../images/images.ts';
import type { SandboxPolicy } from '../network/policy/effective.ts';
import type { Store } from '../store/store.ts';
import type { AccessMode } from '../volumes/volumes.ts';
import type { SandboxCommits } from './commit-routes.ts';
import type { GarbageAccess } from './garbage-routes.ts';

/** A kind as it is served. */
export interface ServedKind extends ResourceKind {
  /** Has a `/status` subresource. */
  hasStatus: boolean;
  categories: readonly string[];
  /** JSON Schema of the whole object, for /openapi. */
  schema(): unknown;
}

/** Defaults and validation, the same that the folder source uses. */
export interface ObjectRules {
  readonly kinds: readonly ServedKind[];
  /**
   * Fills in defaults and checks the document, with the rules for changes where `current` is given.
   * Fails with INVALID and one cause per field, or NOT_SUPPORTED.
   */
  admit(document: ObjectManifest, current?: StoredObject): ObjectManifest;
  /** One JSON or YAML document, bounded in size, depth and aliases. Fails with BAD_REQUEST. */
  parse(text: string): unknown;
}

/** The main process of a sandbox, seen by one client. Slow clients lose output; the log and the others do not. */
export interface MainAttachment {
  readonly tty: boolean;
  readonly stdin?: Writable;
  output(): AsyncIterable<OutputChunk>;
  readonly exited: Promise<ProcessExit>;
  signal(name: string): Promise<void>;
  resize(size: { columns: number; rows: number }): Promise<void>;
  /** Ends this view; the process goes on. */
  close(): void;
}

/** A sandbox whose guest answers. */
export interface LiveSandbox {
  readonly uid: string;
  readonly startedAt: Date;
  readonly agent: GuestAgent;
  /** What an exec takes from the spec and the image where the request does not say otherwise. */
  readonly execDefaults: {
    /** KEY=VALUE, the image's under the spec's. */
    env: readonly string[];
    cwd: string;
    user?: string;
    /** The image's own. */
    entrypoint: readonly string[];
    cmd: readonly string[];
  };
  vmStats(): Promise<VmFigures>;
  /** Connects to a TCP port of the guest. Fails with PORT_UNREACHABLE or NETWORK_UNAVAILABLE. */
  dial(port: number): Promise<Duplex>;
  attachMain(): Promise<MainAttachment>;
  /** The sandbox counts as used until the returned function is called. */
  use(): () => void;
}

/** A piece of a main process's output, in the order of arrival. `lostBytes` were dropped before `data`. */
export interface LogEntry {
  time: Date;
  stream: 'stdout' | 'stderr';
  data: Uint8Array;
  lostBytes: number;
}

export interface LogOptions {
  /** Goes on until the sandbox's present run ends. */
  follow: boolean;
  tailLines?: number;
  since?: Date;
  /** The run before the present one; fails with NOT_FOUND when there was none. */
  previous: boolean;
  signal: AbortSignal;
}

/** The way from an object's name to its running machine. */
export interface SandboxAccess {
  /** Fails with NOT_FOUND, SANDBOX_NOT_RUNNING or AGENT_UNREACHABLE. */
  live(namespace: string, name: string): Promise<LiveSandbox>;
  /** Fails with NOT_FOUND. A sandbox that never ran has an empty log. */
  openLog(namespace: string, name: string, options: LogOptions): Promise<AsyncIterable<LogEntry>>;
}

/** Sandboxes that live while a client holds them. */
export interface SandboxHolds {
  /** Holds the sandbox until the returned function is called. Holding one that needs nobody changes nothing. */
  hold(sandbox: { namespace: string; name: string; uid: string }): () => void;
}

/** Writes an image out of the cache as an OCI archive (tar). */
export interface ImageExporter {
  save(reference: string, signal: AbortSignal): Promise<Readable>;
}

/** The disks of volumes. Failures are those of `Volumes`, and NOT_FOUND where there is no such Volume. */
export interface VolumeAccess {
  list(): Promise<VolumeDiskInfo[]>;
  exportTo(namespace: string, name: string, path: string): Promise<void>;
  importFrom(
    namespace: string,
    name: string,
    path: string,
    overwrite: boolean,
    signal: AbortSignal,
  ): Promise<void>;
  /** Makes a Volume with the same content; its spec is the source's but for what is given. */
  clone(
    namespace: string,
    name: string,
    target: { name: string; accessMode?: AccessMode },
  ): Promise<StoredObject>;
}

/** What holds for the network of a sandbox. */
export interface PolicyAccess {
  /** Fails with NOT_FOUND. */
  ofSandbox(namespace: string, name: string): Promise<SandboxPolicy>;
  /** Oldest first. Fails with NOT_FOUND, SANDBOX_NOT_RUNNING or NETWORK_UNAVAILABLE. */
  log(namespace: string, name: string): Promise<readonly FlowEntry[]>;
}

export interface HealthCheck {
  name: string;
  /** `live`: a failure means restart the daemon. `ready`: a failure means do not count on it yet. */
  kind: 'live' | 'ready';
  /** Throws, with a sentence, when it is not well. */
  check(): Promise<void>;
}

export interface ServerDependencies {
  store: Store;
  rules: ObjectRules;
  sandboxes: SandboxAccess;
  holds: SandboxHolds;
  images: Images;
  /** Absent where the image cache cannot give layers back; `save` answers NOT_SUPPORTED then. */
  imageExporter?: ImageExporter;
  volumes: VolumeAccess;
  copies: Pick<Copies, 'has' | 'put'>;
  garbage: GarbageAccess;
  commits: SandboxCommits;
  policies: PolicyAccess;
  /** All metrics, in the format that an HTTP header Accept asks for. */
  metrics(accept: string | undefined): Promise<{ contentType: string; body: string | Buffer }>;
  healthChecks: readonly HealthCheck[];
  /** What only the daemon can tell: drivers, store, sources. */
  doctor(): Promise<DoctorCheck[]>;
  /** Directory for uploads on their way into the cache; exists, private to the daemon, emptied by it at start. */
  uploadsDir: string;
  /** The product's version. */
  version: string;
  logger?: FastifyBaseLogger;
}
