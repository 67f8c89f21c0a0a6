// Create, read, update, patch, delete and list of one kind, with Kubernetes' URLs and rules.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import { apiVersionOf } from '../api/kinds.ts';
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import { applyMergePatch, isJsonObject } from '../store/merge-patch.ts';
import type { DeletePreconditions, ListOptions, ObjectKey } from '../store/store.ts';
import type { ServedKind, ServerDependencies } from './contracts.ts';
import { desiredPart, manifestFrom, notFound, type Target } from './documents.ts';
import { success } from './failures.ts';
import { CONFLICT_RETRIES } from './limits.ts';
import type { Pages } from './pages.ts';
import { boolean, dryRun, integer, type Query, single } from './query.ts';
import { tablePrinter } from './table.ts';
import { serveWatch, type WatchHost } from './watch.ts';

type Dependencies = Pick<ServerDependencies, 'store' | 'rules'>;

/** Root of a kind's URLs: `/apis/GROUP/VERSION`, or `/api/v1` for the core group. */
export function basePath(kind: ServedKind): string {
  return kind.group === '' ? `/api/${kind.version}` : `/apis/${apiVersionOf(kind)}`;
}

function queryOf(request: FastifyRequest): Query {
  return request.query as Query;
}

function targetOf(kind: ServedKind, request: FastifyRequest): Target & { name: string } {
  const { namespace, name } = request.params as { namespace: string; name: string };
  return { kind, namespace, name };
}

function keyOf(target: Target & { name: string }): ObjectKey {
  return { kind: target.kind.kind, namespace: target.namespace, name: target.name };
}

/** What the object would be after the write: for dry runs. */
function preview(manifest: ObjectManifest, current: StoredObject | undefined): StoredObject {
  const { status, ...before } = current ?? {};
  return {
    ...before,
    ...manifest,
    metadata: {
      uid: '',
      resourceVersion: '',
      generation: 1,
      creationTimestamp: '',
      ...current?.metadata,
      ...manifest.metadata,
    },
    ...(status === undefined ? {} : { status }),
  } as StoredObject;
}

/** Registers every route of one kind. */
export function registerKind(
  app: FastifyInstance,
  kind: ServedKind,
  deps: Dependencies,
  watches: WatchHost,
  pages: Pages,
) {
  const { store, rules } = deps;
  const base = basePath(kind);
  const collection = `${base}/namespaces/:namespace/${kind.plural}`;
  const item = `${collection}/:name`;

  async function existing(target: Target & { name: string }): Promise<StoredObject> {
    const object = await store.get(keyOf(target));
    if (object === undefined) throw notFound(target);
    return object;
  }

  async function list(request: FastifyRequest, reply: FastifyReply) {
    const query = queryOf(request);
    const { namespace } = request.params as { namespace?: string };
    const labelSelector = single(query, 'labelSelector');
    const fieldSelector = single(query, 'fieldSelector');
    const options: ListOptions = {
      ...(namespace === undefined ? {} : { namespace }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
    };
    const limit = integer(query, 'limit') ?? 0;
    const token = single(query, 'continue');
    const printer = tablePrinter(request.headers.accept, kind, query);
    if (boolean(query, 'watch')) return serveWatch(kind, options, query, reply, store, watches, printer);
    const asked = JSON.stringify([kind.kind, options]);
    const { items, ...metadata } =
      token === undefined
        ? pages.first(await store.list(kind.kind, options), asked, limit)
        : pages.next(token, asked, limit);
    if (printer !== undefined) return printer.table(items, metadata);
    return { apiVersion: apiVersionOf(kind), kind: `${kind.kind}List`, metadata, items };
  }
  app.get(`${base}/${kind.plural}`, list);
  app.get(collection, list);
  app.get(item, async (request) => {
    const printer = tablePrinter(request.headers.accept, kind, queryOf(request));
    const object = await existing(targetOf(kind, request));
    return printer?.table([object], { resourceVersion: object.metadata.resourceVersion }) ?? object;
  });

  app.post(collection, async (request, reply) => {
    const { namespace } = request.params as { namespace: string };
    const manifest = rules.admit(manifestFrom(request.body, { kind, namespace }));
    void reply.code(201);
    return dryRun(queryOf(request)) ? preview(manifest, undefined) : store.create(manifest);
  });

  app.put(item, async (request) => {
    const target = targetOf(kind, request);
    const manifest = manifestFrom(request.body, target);
    if (manifest.metadata.resourceVersion === undefined) {
      throw new BulkheadError('INVALID', 'metadata.resourceVersion must be given for an update', {
        causes: [
          {
            reason: 'FieldValueRequired',
            field: 'metadata.resourceVersion',
            message: 'Required value: say which version the update replaces, or use PATCH',
          },
        ],
      });
    }
    return write(manifest, await existing(target), queryOf(request));
  });

  /** Admits and stores `manifest` over `current`. */
  async function write(manifest: ObjectManifest, current: StoredObject, query: Query) {
    const version = manifest.metadata.resourceVersion;
    if (version !== undefined && version !== current.metadata.resourceVersion) {
      throw new BulkheadError(
        'CONFLICT',
        `${kind.kind} "${current.metadata.name}" has changed: it is at resourceVersion ${current.metadata.resourceVersion}, the request is for ${version}`,
      );
    }
    const admitted = rules.admit(manifest, current);
    return dryRun(query) ? preview(admitted, current) : store.update(admitted);
  }

  async function mergePatch(target: Target & { name: string }, patch: unknown, query: Query) {
    if (!isJsonObject(patch)) throw new BulkheadError('BAD_REQUEST', 'a merge patch must be an object');
    const metadata = isJsonObject(patch.metadata) ? patch.metadata : {};
    const conditional = metadata.resourceVersion !== undefined;
    return retryingConflicts(conditional, async () => {
      const current = await existing(target);
      const manifest = manifestFrom(applyMergePatch(desiredPart(current), patch), target);
      return write(manifest, current, query);
    });
  }

  /** The whole object as the client wants it: created or replaced. */
  async function apply(
    target: Target & { name: string },
    document: unknown,
    query: Query,
    reply: FastifyReply,
  ) {
    const manifest = manifestFrom(document, target);
    return retryingConflicts(manifest.metadata.resourceVersion !== undefined, async () => {
      const current = await store.get(keyOf(target));
      if (current !== undefined) return write(manifest, current, query);
      const admitted = rules.admit(manifest);
      void reply.code(201);
      return dryRun(query) ? preview(admitted, undefined) : store.create(admitted);
    });
  }

  app.patch(item, async (request, reply) => {
    const target = targetOf(kind, request);
    const type = mediaType(request);
    if (type === 'application/apply-patch+yaml') return apply(target, request.body, queryOf(request), reply);
    if (type === 'application/merge-patch+json') return mergePatch(target, request.body, queryOf(request));
    throw new BulkheadError(
      'UNSUPPORTED_MEDIA_TYPE',
      `PATCH takes application/merge-patch+json or application/apply-patch+yaml, not ${type}`,
    );
  });

  async function remove(object: StoredObject, options: DeleteOptions): Promise<StoredObject> {
    const target = { kind, namespace: object.metadata.namespace, name: object.metadata.name };
    if (options.dryRun) return object;
    if (options.gracePeriodSeconds !== undefined && kind.kind === 'Sandbox') {
      await mergePatch(target, { spec: { terminationGracePeriodSeconds: options.gracePeriodSeconds } }, {});
    }
    return store.delete(keyOf(target), options.preconditions);
  }

  app.delete(item, async (request, reply) => {
    const target = targetOf(kind, request);
    const current = await existing(target);
    const removed = await remove(current, deleteOptions(request));
    if (removed.metadata.deletionTimestamp !== undefined) {
      void reply.code(202);
      return removed;
    }
    return success(`${kind.singular} "${target.name}" deleted`, {
      name: target.name,
      group: kind.group,
      kind: kind.plural,
      uid: current.metadata.uid,
    });
  });

  app.delete(collection, async (request) => {
    const { namespace } = request.params as { namespace: string };
    const query = queryOf(request);
    const labelSelector = single(query, 'labelSelector');
    const fieldSelector = single(query, 'fieldSelector');
    const { items, resourceVersion } = await store.list(kind.kind, {
      namespace,
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
    });
    const options = deleteOptions(request);
    const removed: StoredObject[] = [];
    for (const object of items) {
      try {
        removed.push(await remove(object, options));
      } catch (error) {
        // Somebody else was faster; what was asked for is the case.
        if (asBulkheadError(error).code !== 'NOT_FOUND') throw error;
      }
    }
    return {
      apiVersion: apiVersionOf(kind),
      kind: `${kind.kind}List`,
      metadata: { resourceVersion },
      items: removed,
    };
  });

  if (kind.hasStatus) registerStatus();

  function registerStatus() {
    app.get(`${item}/status`, (request) => existing(targetOf(kind, request)));
    app.put(`${item}/status`, async (request) => {
      const target = targetOf(kind, request);
      await existing(target);
      const body = isJsonObject(request.body) ? request.body : {};
      const metadata = isJsonObject(body.metadata) ? body.metadata : {};
      const version = typeof metadata.resourceVersion === 'string' ? metadata.resourceVersion : undefined;
      return store.updateStatus(keyOf(target), body.status ?? {}, version);
    });
    app.patch(`${item}/status`, async (request) => {
      const target = targetOf(kind, request);
      if (mediaType(request) !== 'application/merge-patch+json') {
        throw new BulkheadError('UNSUPPORTED_MEDIA_TYPE', 'status takes application/merge-patch+json only');
      }
      const patch = isJsonObject(request.body) ? request.body.status : undefined;
      return retryingConflicts(false, async () => {
        const current = await existing(target);
        const status = applyMergePatch(current.status ?? {}, patch ?? {});
        return store.updateStatus(keyOf(target), status, current.metadata.resourceVersion);
      });
    });
  }
}

function mediaType(request: FastifyRequest): string {
  return (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
}

/** Repeats a read-and-write that lost a race, unless the client named the version it wants to change. */
async function retryingConflicts<T>(conditional: boolean, attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      const { code } = asBulkheadError(error);
      const lostRace = code === 'CONFLICT' || code === 'ALREADY_EXISTS';
      if (conditional || !lostRace || tries >= CONFLICT_RETRIES) throw error;
    }
  }
}

interface DeleteOptions {
  preconditions: DeletePreconditions;
  gracePeriodSeconds?: number;
  dryRun: boolean;
}

/** From the body (`DeleteOptions`) or, where it says nothing, the query. */
function deleteOptions(request: FastifyRequest): DeleteOptions {
  const query = queryOf(request);
  const body = request.body ?? {};
  if (!isJsonObject(body)) throw new BulkheadError('BAD_REQUEST', 'the body must be a DeleteOptions object');
  const grace = body.gracePeriodSeconds ?? integer(query, 'gracePeriodSeconds');
  if (grace !== undefined && grace !== null && !(Number.isInteger(grace) && (grace as number) >= 0)) {
    throw new BulkheadError('BAD_REQUEST', 'gracePeriodSeconds must be a whole number of at least 0');
  }
  const given = isJsonObject(body.preconditions) ? body.preconditions : {};
  const preconditions: DeletePreconditions = {
    ...(typeof given.uid === 'string' ? { uid: given.uid } : {}),
    ...(typeof given.resourceVersion === 'string' ? { resourceVersion: given.resourceVersion } : {}),
  };
  const dry = Array.isArray(body.dryRun) ? body.dryRun.includes('All') : dryRun(query);
  return {
    preconditions,
    dryRun: dry,
    ...(typeof grace === 'number' ? { gracePeriodSeconds: grace } : {}),
  };
}
