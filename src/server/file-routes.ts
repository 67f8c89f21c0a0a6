// Files of a running sandbox over HTTP. Paths are the guest's; nothing here touches a file of the host.
import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import { statusOf } from '../api/status.ts';
import type { FileListLine } from '../api/wire.ts';
import type { SandboxAccess } from './contracts.ts';
import { success } from './failures.ts';
import {
  bodyOf,
  DEFAULT_DIRECTORY_MODE,
  DEFAULT_FILE_MODE,
  FILES,
  fileWork,
  permissionBits,
} from './file-work.ts';
import { FILE_BYTES_MAX } from './limits.ts';
import { openLineStream } from './line-stream.ts';
import { registerManyFileRoutes } from './many-file-routes.ts';
import { boolean, integer, type Query, single } from './query.ts';

const REMOVALS = ['file', 'empty-directory', 'tree'] as const;

function required(query: Query, name: string): string {
  const value = single(query, name);
  if (value === undefined) throw new BulkheadError('BAD_REQUEST', `query parameter ${name} is missing`);
  return value;
}

/** Permission bits in octal, as people write them. */
function modeOf(query: Query): number {
  const text = single(query, 'mode');
  if (text === undefined) return DEFAULT_FILE_MODE;
  if (!/^0?[0-7]{1,4}$/.test(text))
    throw new BulkheadError('BAD_REQUEST', `query parameter mode: expected octal bits, found "${text}"`);
  return Number.parseInt(text, 8);
}

/** Registers content, stat, list and the verbs that change names. */
export function registerFileRoutes(
  app: FastifyInstance,
  sandboxes: SandboxAccess,
  closing: AbortSignal,
): void {
  const withFiles = fileWork(sandboxes, closing);
  registerManyFileRoutes(app, withFiles, closing);

  app.get(`${FILES}/content`, async (request, reply) => {
    const query = request.query as Query;
    const path = required(query, 'path');
    const offset = integer(query, 'offset') ?? 0;
    const length = integer(query, 'length', 1);
    await withFiles(request, reply, async (files, signal) => {
      const content = await files.read(path, { offset, ...(length === undefined ? {} : { length }) }, signal);
      const stream = openLineStream(reply, 'application/octet-stream', closing);
      try {
        for await (const piece of content as AsyncIterable<Buffer>) {
          await stream.write(piece);
          if (stream.signal.aborted) return;
        }
        stream.end();
      } catch (error) {
        // The headers are out: a broken connection is the only honest way left to say that the content is not whole.
        if (!stream.signal.aborted) request.log.warn({ err: error }, 'reading a file of a sandbox failed');
        reply.raw.destroy(asBulkheadError(error));
      } finally {
        content.destroy();
      }
    });
  });

  app.put(`${FILES}/content`, { bodyLimit: FILE_BYTES_MAX }, async (request, reply) => {
    const query = request.query as Query;
    const path = required(query, 'path');
    const user = single(query, 'user');
    const options = { mode: modeOf(query), ...(user === undefined ? {} : { user }) };
    const { body } = request;
    if (!(body instanceof Readable))
      throw new BulkheadError('UNSUPPORTED_MEDIA_TYPE', 'send the content as application/octet-stream');
    await withFiles(request, reply, (files, signal) => files.write(path, body, options, signal));
    return success(`${path} written`);
  });

  app.get(`${FILES}/stat`, async (request, reply) => {
    const query = request.query as Query;
    const path = required(query, 'path');
    const follow = boolean(query, 'follow');
    return withFiles(request, reply, (files, signal) => files.stat(path, { follow }, signal));
  });

  app.get(`${FILES}/list`, async (request, reply) => {
    const path = required(request.query as Query, 'path');
    await withFiles(request, reply, async (files, signal) => {
      const entries = files.list(path, signal)[Symbol.asyncIterator]();
      // A directory that cannot be opened is an ordinary failed request, with its HTTP status.
      let next = await entries.next();
      const stream = openLineStream(reply, 'application/x-ndjson', closing);
      const send = (line: FileListLine) => stream.write(`${JSON.stringify(line)}\n`);
      try {
        while (!next.done && !stream.signal.aborted) {
          await send({ entry: next.value });
          next = await entries.next();
        }
      } catch (error) {
        await send({ error: statusOf(asBulkheadError(error)) });
      } finally {
        await entries.return?.();
      }
      stream.end();
    });
  });

  app.post(`${FILES}/mkdir`, async (request, reply) => {
    const body = bodyOf(request);
    const path = body.text('path');
    const mode = permissionBits(body.field('mode') ?? DEFAULT_DIRECTORY_MODE);
    const parents = body.field('parents') === true;
    await withFiles(request, reply, (files, signal) => files.makeDirectory(path, { mode, parents }, signal));
    return success(`${path} made`);
  });

  app.post(`${FILES}/remove`, async (request, reply) => {
    const body = bodyOf(request);
    const path = body.text('path');
    const asked = body.field('what') ?? 'file';
    const what = REMOVALS.find((each) => each === asked);
    if (what === undefined)
      throw new BulkheadError('BAD_REQUEST', `what must be one of ${REMOVALS.join(', ')}`);
    await withFiles(request, reply, (files, signal) => files.remove(path, what, signal));
    return success(`${path} removed`);
  });

  for (const verb of ['rename', 'copy'] as const) {
    app.post(`${FILES}/${verb}`, async (request, reply) => {
      const body = bodyOf(request);
      const [path, to] = [body.text('path'), body.text('to')];
      await withFiles(request, reply, (files, signal) => files[verb](path, to, signal));
      return success(`${path} ${verb === 'copy' ? 'copied' : 'renamed'} to ${to}`);
    });
  }
  app.post(`${FILES}/symlink`, async (request, reply) => {
    const body = bodyOf(request);
    const [path, target] = [body.text('path'), body.text('target')];
    await withFiles(request, reply, (files, signal) => files.symlink(path, target, signal));
    return success(`${path} made`);
  });
}
