// Many files of a sandbox in one request.
import type { FastifyInstance } from 'fastify';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import { statusOf } from '../api/status.ts';
import {
  MANY_FILES_BYTES_MAX,
  MANY_FILES_CONTENT_MAX,
  MANY_FILES_MAX,
  type ReadManyLine,
} from '../api/wire.ts';
import type { FileContent, NewFile } from '../guest/agent.ts';
import { isJsonObject } from '../store/merge-patch.ts';
import { success } from './failures.ts';
import {
  bodyOf,
  DEFAULT_DIRECTORY_MODE,
  DEFAULT_FILE_MODE,
  FILES,
  permissionBits,
  type WithFiles,
} from './file-work.ts';
import { openLineStream } from './line-stream.ts';

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

export function registerManyFileRoutes(
  app: FastifyInstance,
  withFiles: WithFiles,
  closing: AbortSignal,
): void {
  app.post(`${FILES}/write-many`, async (request, reply) => {
    const body = bodyOf(request);
    const files = newFiles(body.field('files'));
    const user = body.field('user');
    if (user !== undefined && typeof user !== 'string')
      throw new BulkheadError('BAD_REQUEST', 'user must be a text');
    const options = user === undefined ? {} : { user };
    await withFiles(request, reply, (guest, signal) => guest.writeMany(files, options, signal));
    return success(`${files.length} made`);
  });

  app.post(`${FILES}/read-many`, async (request, reply) => {
    const paths = listOf(bodyOf(request).field('paths'), 'paths').map((path, index) =>
      textOf(path, `paths[${index}]`),
    );
    const options = { contentMax: MANY_FILES_CONTENT_MAX };
    await withFiles(request, reply, async (guest, signal) => {
      const files = guest.readMany(paths, options, signal)[Symbol.asyncIterator]();
      // What is not there is an ordinary failed request, with its HTTP status.
      let next = await files.next();
      const stream = openLineStream(reply, 'application/x-ndjson', closing);
      const send = (line: ReadManyLine) => stream.write(`${JSON.stringify(line)}\n`);
      try {
        while (!next.done && !stream.signal.aborted) {
          await send(lineOf(next.value));
          next = await files.next();
        }
      } catch (error) {
        await send({ error: statusOf(asBulkheadError(error)) });
      } finally {
        await files.return?.();
      }
      stream.end();
    });
  });
}

function lineOf({ file, content }: FileContent): ReadManyLine {
  return content === undefined ? { file } : { file, content: content.toString('base64') };
}

function listOf(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new BulkheadError('BAD_REQUEST', `${what} must be a list`);
  if (value.length > MANY_FILES_MAX)
    throw new BulkheadError('TOO_LARGE', `${what}: ${value.length} are more than ${MANY_FILES_MAX}`);
  return value;
}

function textOf(value: unknown, what: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new BulkheadError('BAD_REQUEST', `${what} is missing`);
}

/** Throws BAD_REQUEST, naming what is wrong, or TOO_LARGE. */
function newFiles(value: unknown): NewFile[] {
  let bytes = 0;
  return listOf(value, 'files').map((each, index) => {
    const what = `files[${index}]`;
    if (!isJsonObject(each)) throw new BulkheadError('BAD_REQUEST', `${what} must be an object`);
    const path = textOf(each.path, `${what}.path`);
    switch (each.kind ?? 'file') {
      case 'directory':
        return { kind: 'directory', path, mode: permissionBits(each.mode ?? DEFAULT_DIRECTORY_MODE) };
      case 'symlink':
        return { kind: 'symlink', path, target: textOf(each.target, `${what}.target`) };
      case 'file': {
        const content = bytesOf(each.content, `${what}.content`);
        bytes += content.length;
        if (bytes > MANY_FILES_BYTES_MAX)
          throw new BulkheadError('TOO_LARGE', `more than ${MANY_FILES_BYTES_MAX} bytes of content together`);
        return { kind: 'file', path, mode: permissionBits(each.mode ?? DEFAULT_FILE_MODE), content };
      }
      default:
        throw new BulkheadError('BAD_REQUEST', `${what}.kind must be one of file, directory, symlink`);
    }
  });
}

function bytesOf(value: unknown, what: string): Buffer {
  if (typeof value !== 'string' || value.length % 4 !== 0 || !BASE64.test(value))
    throw new BulkheadError('BAD_REQUEST', `${what} must be base64`);
  return Buffer.from(value, 'base64');
}
