// The image cache over HTTP. Images belong to the host, so their paths have no namespace.

import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import { statusOf } from '../api/status.ts';
import type { ImageProgress, ImageStreamLine, ImageSummary, PruneRequest } from '../api/wire.ts';
import type { BootableImage, RegistryCredential } from '../images/images.ts';
import { isJsonObject } from '../store/merge-patch.ts';
import type { ServerDependencies } from './contracts.ts';
import { success } from './failures.ts';
import { PROGRESS_INTERVAL_MS, UPLOAD_BYTES_MAX } from './limits.ts';
import { openLineStream } from './line-stream.ts';
import { type Query, single } from './query.ts';

const BASE = `/apis/${GROUP_VERSION}/images`;
/** Content types of an archive that is uploaded. */
const ARCHIVE_TYPES = ['application/x-tar', 'application/octet-stream'];
const PULL_POLICIES = ['Always', 'IfNotPresent', 'Never'] as const;

type Dependencies = Pick<ServerDependencies, 'images' | 'imageExporter' | 'uploadsDir'>;
type ProgressListener = (progress: ImageProgress) => void;

function summary({ reference, digest, sizeBytes }: BootableImage): ImageSummary {
  return { reference, digest, sizeBytes };
}

function requiredReference(query: Query): string {
  const reference = single(query, 'reference');
  if (reference === undefined) throw new BulkheadError('BAD_REQUEST', 'query parameter reference is missing');
  return reference;
}

function objectBody(request: FastifyRequest): Record<string, unknown> {
  const body = request.body ?? {};
  if (!isJsonObject(body)) throw new BulkheadError('BAD_REQUEST', 'the body must be a JSON object');
  return body;
}

function credentialsOf(value: unknown): RegistryCredential[] {
  if (value === undefined) return [];
  const isCredential = (each: unknown): each is RegistryCredential =>
    isJsonObject(each) &&
    [each.registry, each.username, each.password].every((text) => typeof text === 'string');
  if (!Array.isArray(value) || !value.every(isCredential)) {
    throw new BulkheadError('BAD_REQUEST', 'credentials must be a list of {registry, username, password}');
  }
  return value;
}

/** Registers list, pull, load, save, remove and prune. */
export function registerImageRoutes(app: FastifyInstance, deps: Dependencies, closing: AbortSignal): void {
  const { images, imageExporter, uploadsDir } = deps;
  for (const type of ARCHIVE_TYPES) {
    app.addContentTypeParser(type, (_request, payload, done) => done(null, payload));
  }

  app.get(BASE, async () => ({ items: await images.list() }));

  app.delete(BASE, async (request) => {
    const reference = requiredReference(request.query as Query);
    await images.remove(reference);
    return success(`image "${reference}" removed`);
  });

  app.post(`${BASE}/prune`, async (request) => {
    const { targetFreeBytes, dryRun } = objectBody(request) as PruneRequest;
    if (targetFreeBytes !== undefined && !(Number.isSafeInteger(targetFreeBytes) && targetFreeBytes >= 0)) {
      throw new BulkheadError('BAD_REQUEST', 'targetFreeBytes must be a whole number of at least 0');
    }
    const items = await images.prune({
      ...(targetFreeBytes === undefined ? {} : { targetFreeBytes }),
      dryRun: dryRun === true,
    });
    return { items };
  });

  app.post(`${BASE}/pull`, async (request, reply) => {
    const { reference, policy = 'Always', credentials } = objectBody(request);
    if (typeof reference !== 'string' || reference === '') {
      throw new BulkheadError('BAD_REQUEST', 'reference is missing');
    }
    const known = PULL_POLICIES.find((each) => each === policy);
    if (known === undefined) {
      throw new BulkheadError('BAD_REQUEST', `policy must be one of ${PULL_POLICIES.join(', ')}`);
    }
    const given = credentialsOf(credentials);
    await withProgress(reply, closing, async (onProgress, signal) => [
      await images.ensure(reference, { policy: known, credentials: given, onProgress, signal }),
    ]);
  });

  app.post(`${BASE}/load`, async (request, reply) => {
    const body = request.body;
    const uploaded = body instanceof Readable;
    const { path, reference } = uploaded
      ? { path: join(uploadsDir, randomUUID()), reference: single(request.query as Query, 'reference') }
      : objectBody(request);
    if (typeof path !== 'string' || !isAbsolute(path)) {
      throw new BulkheadError('BAD_REQUEST', "path must be an absolute path on the daemon's host");
    }
    const name = typeof reference === 'string' ? { reference } : {};
    try {
      if (uploaded) await receive(body, path);
      await withProgress(reply, closing, (onProgress, signal) =>
        images.load(path, { ...name, onProgress, signal }),
      );
    } finally {
      if (uploaded) await rm(path, { force: true });
    }
  });

  app.get(`${BASE}/save`, async (request, reply) => {
    const reference = requiredReference(request.query as Query);
    if (imageExporter === undefined) {
      throw new BulkheadError('NOT_SUPPORTED', 'this image cache cannot write archives');
    }
    const leave = new AbortController();
    reply.raw.once('close', () => leave.abort());
    const archive = await imageExporter.save(reference, leave.signal);
    return reply.type('application/x-tar').send(archive);
  });
}

/** Writes an upload to a file, refusing one without end. */
async function receive(upload: Readable, path: string): Promise<void> {
  let bytes = 0;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes <= UPLOAD_BYTES_MAX) done(null, chunk);
      else done(new BulkheadError('TOO_LARGE', `an archive may have at most ${UPLOAD_BYTES_MAX} bytes`));
    },
  });
  try {
    await pipeline(upload, bounded, createWriteStream(path, { mode: 0o600, flags: 'wx' }));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') {
      throw new BulkheadError('DISK_FULL', `no space for the archive: ${path}`, { cause: error });
    }
    throw error;
  }
}

/**
 * Runs `work` and streams its progress as lines, the result or the failure last. A failure before the first progress is an
 * ordinary failed request, so that a wrong reference has its HTTP status.
 */
async function withProgress(
  reply: FastifyReply,
  closing: AbortSignal,
  work: (onProgress: ProgressListener, signal: AbortSignal) => Promise<BootableImage[]>,
): Promise<void> {
  const leave = new AbortController();
  reply.raw.once('close', () => leave.abort());
  let stream: ReturnType<typeof openLineStream> | undefined;
  let lastPhase = '';
  let lastSent = 0;
  const open = () => {
    stream ??= openLineStream(reply, 'application/x-ndjson', closing);
    return stream;
  };
  const send = (line: ImageStreamLine) => void open().write(`${JSON.stringify(line)}\n`);
  const onProgress: ProgressListener = (progress) => {
    const now = performance.now();
    if (progress.phase === lastPhase && now - lastSent < PROGRESS_INTERVAL_MS) return;
    lastPhase = progress.phase;
    lastSent = now;
    send({ progress });
  };
  try {
    const images = await work(onProgress, leave.signal);
    send({ images: images.map(summary) });
  } catch (error) {
    if (stream === undefined) throw error;
    send({ error: statusOf(asBulkheadError(error)) });
  }
  open().end();
}
