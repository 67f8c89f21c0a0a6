// What has no owner on this host, over HTTP.
import type { FastifyInstance } from 'fastify';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import type { GarbageItem } from '../api/wire.ts';
import { isJsonObject } from '../store/merge-patch.ts';

/** Finds what has no owner, and removes it unless it is a dry run. */
export interface GarbageAccess {
  collect(options: { dryRun: boolean }): Promise<GarbageItem[]>;
}

export function registerGarbageRoutes(app: FastifyInstance, garbage: GarbageAccess): void {
  app.post(`/apis/${GROUP_VERSION}/gc`, async (request) => {
    const body = request.body ?? {};
    if (!isJsonObject(body)) throw new BulkheadError('BAD_REQUEST', 'the body must be a JSON object');
    return { items: await garbage.collect({ dryRun: body.dryRun === true }) };
  });
}
