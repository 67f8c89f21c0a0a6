// The disks of volumes over HTTP: what lies on this host, and what can be done with one that no sandbox writes to.
import { isAbsolute } from 'node:path';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import { isJsonObject } from '../store/merge-patch.ts';
import type { VolumeAccess } from './contracts.ts';
import { success } from './failures.ts';

const ITEM = `/apis/${GROUP_VERSION}/namespaces/:namespace/volumes/:name`;
const ACCESS_MODES = ['ReadWriteOnce', 'ReadOnlyMany'] as const;

function nameOf(request: FastifyRequest): { namespace: string; name: string } {
  return request.params as { namespace: string; name: string };
}

function bodyOf(request: FastifyRequest): Record<string, unknown> {
  const body = request.body ?? {};
  if (!isJsonObject(body)) throw new BulkheadError('BAD_REQUEST', 'the body must be a JSON object');
  return body;
}

/** As in the rest of the API, a path is one of the daemon's host: who may talk to the daemon may do what it may. */
function pathOf(body: Record<string, unknown>): string {
  const { path } = body;
  if (typeof path !== 'string' || !isAbsolute(path) || path.includes('\0'))
    throw new BulkheadError('BAD_REQUEST', "path must be an absolute path on the daemon's host");
  return path;
}

/** Registers the list of disks, and export, import and clone of each volume. */
export function registerVolumeRoutes(
  app: FastifyInstance,
  volumes: VolumeAccess,
  closing: AbortSignal,
): void {
  app.get(`/apis/${GROUP_VERSION}/volumedisks`, async () => ({ items: await volumes.list() }));

  app.post(`${ITEM}/export`, async (request) => {
    const { namespace, name } = nameOf(request);
    const path = pathOf(bodyOf(request));
    await volumes.exportTo(namespace, name, path);
    return success(`volume "${name}" exported to ${path}`);
  });

  app.post(`${ITEM}/import`, async (request, reply) => {
    const { namespace, name } = nameOf(request);
    const body = bodyOf(request);
    const path = pathOf(body);
    const leave = new AbortController();
    reply.raw.once('close', () => leave.abort());
    const signal = AbortSignal.any([leave.signal, closing]);
    await volumes.importFrom(namespace, name, path, body.overwrite === true, signal);
    return success(`volume "${name}" holds what ${path} holds`);
  });

  app.post(`${ITEM}/clone`, async (request, reply) => {
    const { namespace, name } = nameOf(request);
    const { name: target, accessMode } = bodyOf(request);
    if (typeof target !== 'string' || target === '')
      throw new BulkheadError('BAD_REQUEST', 'name is missing: what the copy is to be called');
    const mode = ACCESS_MODES.find((each) => each === accessMode);
    if (accessMode !== undefined && mode === undefined)
      throw new BulkheadError('BAD_REQUEST', `accessMode must be one of ${ACCESS_MODES.join(', ')}`);
    const wanted = { name: target, ...(mode === undefined ? {} : { accessMode: mode }) };
    return reply.code(201).send(await volumes.clone(namespace, name, wanted));
  });
}
