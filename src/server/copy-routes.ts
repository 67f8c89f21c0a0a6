// The content of copies over HTTP: brought before the object that names it.
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { BUNDLE_BYTES_MAX } from '../api/copies/bundle.ts';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import type { Copies } from '../copies/copies.ts';
import { success } from './failures.ts';

const ITEM = `/apis/${GROUP_VERSION}/copies/:digest`;

function digestOf(request: FastifyRequest): string {
  return (request.params as { digest: string }).digest;
}

async function bytesOf(body: unknown): Promise<Buffer> {
  if (!(body instanceof Readable))
    throw new BulkheadError('BAD_REQUEST', 'the content must be sent as application/octet-stream');
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of body as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > BUNDLE_BYTES_MAX)
      throw new BulkheadError('TOO_LARGE', `the content of a copy has at most ${BUNDLE_BYTES_MAX} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** Registers the question whether content is here, and its upload. The parser of streams is that of images. */
export function registerCopyRoutes(app: FastifyInstance, copies: Pick<Copies, 'has' | 'put'>): void {
  app.get(ITEM, async (request) => {
    const digest = digestOf(request);
    if (await copies.has(digest)) return success(`${digest} is here`);
    throw new BulkheadError('NOT_FOUND', `${digest} is not here`);
  });
  app.put(ITEM, async (request) => {
    const digest = digestOf(request);
    await copies.put(digest, await bytesOf(request.body));
    return success(`${digest} is here`);
  });
}
