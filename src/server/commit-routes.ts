// Images made of sandboxes, over HTTP.
import type { FastifyInstance } from 'fastify';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import type { ImageSummary } from '../api/wire.ts';
import { isJsonObject } from '../store/merge-patch.ts';

const ITEM = `/apis/${GROUP_VERSION}/namespaces/:namespace/sandboxes/:name`;

export interface SandboxCommits {
  /**
   * Makes an image of a sandbox's root file system, as it is now; the guest of one that runs stands still while its disk is copied.
   * Fails with NOT_FOUND, CONFLICT, AGENT_UNREACHABLE, DISK_DAMAGED, DISK_FULL or IMAGE_INVALID.
   */
  commit(namespace: string, name: string, reference: string, signal: AbortSignal): Promise<ImageSummary>;
}

export function registerCommitRoutes(
  app: FastifyInstance,
  commits: SandboxCommits,
  closing: AbortSignal,
): void {
  app.post(`${ITEM}/commit`, async (request, reply) => {
    const { namespace, name } = request.params as { namespace: string; name: string };
    const { image } = isJsonObject(request.body) ? request.body : {};
    if (typeof image !== 'string' || image === '')
      throw new BulkheadError('BAD_REQUEST', 'image is missing: what the new image is to be called');
    const leave = new AbortController();
    reply.raw.once('close', () => leave.abort());
    return commits.commit(namespace, name, image, AbortSignal.any([leave.signal, closing]));
  });
}
