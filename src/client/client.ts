// The typed client of the daemon's HTTP API.
import type { Duplex, Readable } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import { apiVersionOf, SANDBOX_KIND } from '../api/kinds.ts';
import { GROUP_VERSION, type ObjectManifest, type ResourceKind, type StoredObject } from '../api/meta.ts';
import { isStatus, type Status } from '../api/status.ts';
import type {
  DoctorReport,
  ExecQuery,
  FlowList,
  GarbageItem,
  ImageSummary,
  LogQuery,
  SandboxStats,
  VersionInfo,
} from '../api/wire.ts';
import { CopyClient } from './copies.ts';
import { DaemonEndpoint, type Endpoint } from './endpoint.ts';
import { type EventObject, type EventQuery, eventOf, eventsPath } from './events.ts';
import { FileClient } from './files.ts';
import { ImageClient } from './images.ts';
import type { ResumableConnection } from './resumable.ts';
import { parseSamples, type Sample } from './samples.ts';
import type { StreamConnection } from './stream.ts';
import { type QueryValue, Transport } from './transport.ts';
import { VolumeClient } from './volumes.ts';

/** Ends the wait for an answer; whether what was asked for is done is unknown then. */
function within(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

export type { EventObject };

export interface ListQuery {
  /** All namespaces when absent. */
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
}

/** Objects per request of a list, as kubectl asks: so no answer is large, and the daemon makes none. */
const PAGE_OBJECTS = 500;
/** A list that was forgotten between two pages is begun anew this often; after that it is asked for whole. */
const LIST_TRIES = 3;

export interface ObjectList {
  apiVersion: string;
  kind: string;
  metadata: { resourceVersion?: string; continue?: string };
  items: StoredObject[];
}

/** A change. An `ERROR` of the server is thrown instead; EXPIRED means: list again. */
export interface WatchChange {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  object: StoredObject;
}

export interface DeleteRequest {
  gracePeriodSeconds?: number;
  preconditions?: { uid?: string; resourceVersion?: string };
  dryRun?: boolean;
  /** Ends the wait for the answer; whether the object is deleted is unknown then. */
  signal?: AbortSignal;
}

/** What an apply did. */
export interface Applied {
  object: StoredObject;
  created: boolean;
}

function collection(kind: ResourceKind, namespace?: string): string {
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${apiVersionOf(kind)}`;
  const within = namespace === undefined ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}${within}/${kind.plural}`;
}

function item(kind: ResourceKind, namespace: string, name: string): string {
  return `${collection(kind, namespace)}/${encodeURIComponent(name)}`;
}

function sandbox(namespace: string, name: string): string {
  return `/apis/${GROUP_VERSION}/namespaces/${encodeURIComponent(namespace)}/sandboxes/${encodeURIComponent(name)}`;
}

/** Without what an API server keeps of who set which field: it is large, and nobody reads it here. */
function shown(object: StoredObject): StoredObject {
  if (!('managedFields' in object.metadata)) return object;
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/** The API server says an empty text where there is no more. */
function partOf({ metadata }: ObjectList): ObjectList['metadata'] {
  const { continue: token, ...rest } = metadata;
  return token ? { ...rest, continue: token } : rest;
}

function selectors({ labelSelector, fieldSelector }: ListQuery): Record<string, QueryValue> {
  return { labelSelector, fieldSelector };
}

/**
 * One daemon by its socket, or a cluster by its API server. Failures are `BulkheadError`s: those of the server with its code and
 * causes, and DAEMON_UNAVAILABLE or API_SERVER_UNAVAILABLE where it does not answer. In a cluster, what belongs to a single host
 * fails with NOT_IN_CLUSTER.
 */
export class BulkheadClient {
  /** Of a cluster, in which there is none of what belongs to a single host. */
  readonly isCluster: boolean;
  readonly #transport: Transport;
  readonly files: FileClient;
  readonly images: ImageClient;
  readonly volumes: VolumeClient;
  readonly copies: CopyClient;

  constructor(options: { socketPath: string } | { endpoint: Endpoint }) {
    const endpoint = 'endpoint' in options ? options.endpoint : new DaemonEndpoint(options.socketPath);
    this.isCluster = endpoint.isCluster;
    this.#transport = new Transport(endpoint);
    this.files = new FileClient(this.#transport);
    this.images = new ImageClient(this.#transport);
    this.volumes = new VolumeClient(this.#transport);
    this.copies = new CopyClient(this.#transport);
  }

  /** An API server drops fields that it does not know unless it is told to refuse them, as daemons do. */
  get #strict(): Record<string, QueryValue> {
    return this.isCluster ? { fieldValidation: 'Strict' } : {};
  }

  async get(
    kind: ResourceKind,
    namespace: string,
    name: string,
    signal?: AbortSignal,
  ): Promise<StoredObject> {
    const path = item(kind, namespace, name);
    return shown((await this.#transport.request<StoredObject>('GET', path, within(signal))).body);
  }

  /** All of them, ordered by namespace and name. */
  async list(kind: ResourceKind, query: ListQuery & { signal?: AbortSignal } = {}): Promise<ObjectList> {
    for (let tries = 0; tries < LIST_TRIES; tries++) {
      try {
        const items: StoredObject[] = [];
        for await (const page of this.pages(kind, query)) {
          items.push(...page.items);
          if (page.metadata.continue === undefined) return { ...page, items };
        }
      } catch (error) {
        if (!(error instanceof BulkheadError && error.code === 'EXPIRED')) throw error;
      }
    }
    return this.#page(kind, query, {});
  }

  /**
   * The same in parts, of which none is kept: all show the store at the moment of the first. Fails with EXPIRED where the
   * daemon no longer keeps the rest.
   */
  async *pages(
    kind: ResourceKind,
    query: ListQuery & { signal?: AbortSignal } = {},
  ): AsyncGenerator<ObjectList> {
    let token: string | undefined;
    do {
      const page = await this.#page(kind, query, { limit: PAGE_OBJECTS, continue: token });
      token = page.metadata.continue;
      yield page;
    } while (token !== undefined);
  }

  async #page(
    kind: ResourceKind,
    query: ListQuery & { signal?: AbortSignal },
    part: { limit?: number; continue?: string | undefined },
  ): Promise<ObjectList> {
    const path = collection(kind, query.namespace);
    const options = { query: { ...selectors(query), ...part }, ...within(query.signal) };
    const { body } = await this.#transport.request<ObjectList>('GET', path, options);
    // Lists of Kubernetes' own kinds say it once for all.
    const ofAll = { apiVersion: apiVersionOf(kind), kind: kind.kind };
    return { ...body, metadata: partOf(body), items: body.items.map((each) => shown({ ...ofAll, ...each })) };
  }

  /** Changes after `resourceVersion`; without it, all present objects as ADDED first. Ends with the signal or the server. */
  async *watch(
    kind: ResourceKind,
    query: ListQuery & { resourceVersion?: string; signal: AbortSignal },
  ): AsyncGenerator<WatchChange> {
    const { resourceVersion, signal } = query;
    const lines = this.#transport.lines<{ type: string; object: unknown }>(
      'GET',
      collection(kind, query.namespace),
      {
        query: { ...selectors(query), watch: true, allowWatchBookmarks: true, resourceVersion },
        signal,
      },
    );
    for await (const { type, object } of lines) {
      if (type === 'ERROR' && isStatus(object)) throw this.#transport.endpoint.errorOf(object);
      yield { type, object: shown(object as StoredObject) } as WatchChange;
    }
  }

  async create(
    kind: ResourceKind,
    namespace: string,
    manifest: unknown,
    signal?: AbortSignal,
  ): Promise<StoredObject> {
    const options = { body: manifest, query: this.#strict, ...within(signal) };
    const path = collection(kind, namespace);
    return shown((await this.#transport.request<StoredObject>('POST', path, options)).body);
  }

  /**
   * Creates the object or makes it what the manifest says. In a cluster fields have managers: one that another has set to
   * something else is a CONFLICT, unless it is taken over with `force`.
   */
  async apply(
    kind: ResourceKind,
    namespace: string,
    manifest: ObjectManifest,
    options: { dryRun?: boolean; fieldManager?: string; force?: boolean } = {},
  ): Promise<Applied> {
    const { dryRun, fieldManager, force } = options;
    const { status, body } = await this.#transport.request<StoredObject>(
      'PATCH',
      item(kind, namespace, manifest.metadata.name),
      {
        body: manifest,
        contentType: 'application/apply-patch+yaml',
        query: {
          ...this.#strict,
          dryRun: dryRun ? 'All' : undefined,
          fieldManager,
          force: force || undefined,
        },
      },
    );
    return { object: shown(body), created: status === 201 };
  }

  /** Replaces the object; `metadata.resourceVersion` says which version. */
  async replace(kind: ResourceKind, namespace: string, manifest: ObjectManifest): Promise<StoredObject> {
    const path = item(kind, namespace, manifest.metadata.name);
    return shown(
      (await this.#transport.request<StoredObject>('PUT', path, { body: manifest, query: this.#strict }))
        .body,
    );
  }

  /** JSON merge patch (RFC 7386). */
  async patch(
    kind: ResourceKind,
    namespace: string,
    name: string,
    mergePatch: unknown,
    signal?: AbortSignal,
  ): Promise<StoredObject> {
    const contentType = 'application/merge-patch+json';
    const options = { body: mergePatch, contentType, query: this.#strict, ...within(signal) };
    const path = item(kind, namespace, name);
    return shown((await this.#transport.request<StoredObject>('PATCH', path, options)).body);
  }

  /** The object while it still has finalizers, else a `Status`. */
  async delete(
    kind: ResourceKind,
    namespace: string,
    name: string,
    { gracePeriodSeconds, preconditions, dryRun, signal }: DeleteRequest = {},
  ): Promise<StoredObject | Status> {
    // What a daemon does with it; an API server knows a grace of Pods alone.
    if (this.isCluster && gracePeriodSeconds !== undefined && !dryRun && kind.kind === SANDBOX_KIND.kind) {
      const { uid } = preconditions ?? {};
      const patch = {
        ...(uid === undefined ? {} : { metadata: { uid } }),
        spec: { terminationGracePeriodSeconds: gracePeriodSeconds },
      };
      await this.patch(kind, namespace, name, patch, signal);
    }
    const body = {
      ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
      ...(preconditions === undefined ? {} : { preconditions }),
      ...(dryRun ? { dryRun: ['All'] } : {}),
    };
    const path = item(kind, namespace, name);
    const options = { body, ...within(signal) };
    return (await this.#transport.request<StoredObject | Status>('DELETE', path, options)).body;
  }

  async events(query: EventQuery = {}): Promise<EventObject[]> {
    const { namespace, fieldSelector } = query;
    const items: EventObject[] = [];
    let token: string | undefined;
    do {
      const { body } = await this.#transport.request<{ metadata?: { continue?: string }; items: unknown[] }>(
        'GET',
        eventsPath(namespace),
        { query: { fieldSelector, limit: this.isCluster ? PAGE_OBJECTS : undefined, continue: token } },
      );
      items.push(...body.items.map(eventOf));
      token = body.metadata?.continue || undefined;
    } while (token !== undefined);
    return items;
  }

  /** The present events, then each as it is recorded or counted again. Ends with the signal or the server. */
  async *watchEvents(query: EventQuery & { signal: AbortSignal }): AsyncGenerator<EventObject> {
    const { namespace, fieldSelector, signal } = query;
    const lines = this.#transport.lines<{ type: string; object: unknown }>('GET', eventsPath(namespace), {
      query: { fieldSelector, watch: true },
      signal,
    });
    for await (const { type, object } of lines) {
      if (type === 'ERROR' && isStatus(object)) throw this.#transport.endpoint.errorOf(object);
      // A cluster forgets them after an hour.
      if (type !== 'DELETED') yield eventOf(object);
    }
  }

  /** The log as bytes; with `follow` it goes on until the run ends or the stream is destroyed. */
  logs(namespace: string, name: string, query: LogQuery = {}, signal?: AbortSignal): Promise<Readable> {
    return this.#transport.open('GET', `${sandbox(namespace, name)}/log`, {
      query: { ...query },
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /**
   * Holds a sandbox that lives only while it is held (see UNHELD_ANNOTATION), until the signal aborts. Resolves when it is
   * held. Does not keep this process from exiting; `onLost` is called when the connection breaks before the signal.
   */
  async hold(namespace: string, name: string, signal: AbortSignal, onLost: () => void): Promise<void> {
    const response = await this.#transport.open('GET', `${sandbox(namespace, name)}/hold`, { signal });
    response.socket.unref();
    response.on('error', () => {});
    response.once('close', () => {
      if (!signal.aborted) onLost();
    });
    response.resume();
  }

  async stats(namespace: string, name: string, signal?: AbortSignal): Promise<SandboxStats> {
    const path = `${sandbox(namespace, name)}/stats`;
    return (await this.#transport.request<SandboxStats>('GET', path, within(signal))).body;
  }

  /**
   * What is to be in force for the network of a sandbox, and what is: a SandboxPolicy of network/policy. Not named here,
   * because the client is part of a package that has none of its types.
   */
  async effectivePolicy(namespace: string, name: string): Promise<unknown> {
    const path = `${sandbox(namespace, name)}/effectivepolicy`;
    return (await this.#transport.request<unknown>('GET', path)).body;
  }

  /** The last decisions of its gateway, oldest first. */
  async flows(namespace: string, name: string): Promise<FlowList> {
    return (await this.#transport.request<FlowList>('GET', `${sandbox(namespace, name)}/flows`)).body;
  }

  /** Starts a command. Resolves when the connection stands; a command that cannot start shows in `exited`. */
  exec(namespace: string, name: string, query: ExecQuery): Promise<StreamConnection> {
    return this.#stream(`${sandbox(namespace, name)}/exec`, { ...query });
  }

  /**
   * Starts a command that outlives its connection for so many seconds, and goes on by itself on another one. `id` is a UUID
   * that nobody else has; `retrySeconds`, for how long it is tried again, is as much unless said.
   */
  async execResumable(
    namespace: string,
    name: string,
    query: ExecQuery & { id: string; resumeSeconds: number },
    retrySeconds?: number,
  ): Promise<ResumableConnection> {
    const { startResumable } = await import('./resumable.ts');
    return startResumable(this.#transport.endpoint, `${sandbox(namespace, name)}/exec`, query, retrySeconds);
  }

  /** Takes up a command of this id from these offsets; for how long it is tried again when the connection breaks. */
  async resumeExec(
    namespace: string,
    name: string,
    id: string,
    from: { stdout: number; stderr: number },
    retrySeconds: number,
  ): Promise<ResumableConnection> {
    const { takeUpResumable } = await import('./resumable.ts');
    const path = `${sandbox(namespace, name)}/exec`;
    return takeUpResumable(this.#transport.endpoint, path, { id, from, retrySeconds });
  }

  /** Joins the main process. */
  attach(
    namespace: string,
    name: string,
    query: Pick<ExecQuery, 'stdin' | 'stdout' | 'stderr' | 'columns' | 'rows'>,
  ): Promise<StreamConnection> {
    return this.#stream(`${sandbox(namespace, name)}/attach`, { ...query });
  }

  /**
   * Connects to a TCP port of the guest. Fails with PORT_UNREACHABLE where nothing takes it. `isBackground`: the connection
   * does not keep this process from ending.
   */
  async portForward(
    namespace: string,
    name: string,
    port: number,
    options: { isBackground?: boolean } = {},
  ): Promise<Duplex> {
    const { openPortForward } = await import('./port-forward.ts');
    const path = `${sandbox(namespace, name)}/portforward`;
    return openPortForward(this.#transport.endpoint, path, port, options);
  }

  /** The WebSocket library is loaded by who needs it. */
  async #stream(path: string, query: Record<string, QueryValue>): Promise<StreamConnection> {
    const { openStream } = await import('./stream.ts');
    return openStream(this.#transport.endpoint, path, query);
  }

  /** The daemon's metrics as they are now. */
  async metrics(): Promise<Sample[]> {
    return parseSamples(await this.#transport.text('GET', '/metrics'));
  }

  async doctor(): Promise<DoctorReport> {
    return (await this.#transport.request<DoctorReport>('GET', `/apis/${GROUP_VERSION}/doctor`)).body;
  }

  /** An image of what a sandbox made of its root file system. */
  async commit(namespace: string, name: string, image: string, signal?: AbortSignal): Promise<ImageSummary> {
    const path = `${sandbox(namespace, name)}/commit`;
    const options = { body: { image }, ...(signal === undefined ? {} : { signal }) };
    return (await this.#transport.request<ImageSummary>('POST', path, options)).body;
  }

  /** What has no owner on the daemon's host; removed unless it is a dry run. */
  async collectGarbage(request: { dryRun: boolean }): Promise<GarbageItem[]> {
    const path = `/apis/${GROUP_VERSION}/gc`;
    return (await this.#transport.request<{ items: GarbageItem[] }>('POST', path, { body: request })).body
      .items;
  }

  async version(): Promise<VersionInfo> {
    return (await this.#transport.request<VersionInfo>('GET', '/version')).body;
  }

  /** Closes every connection but those of exec, attach and port-forward. */
  close(): void {
    this.#transport.close();
  }
}
